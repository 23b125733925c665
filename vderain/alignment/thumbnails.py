"""Thumbnails of a frame's luma, in which motion is searched: streaks are thin and faint there."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from typing import TYPE_CHECKING, Any

import cv2
import numpy as np
import numpy.typing as npt

from vderain.frames import Plane, PlaneFormat, rgb_luma

if TYPE_CHECKING:
    from vderain.alignment.motion import Link

Grey = npt.NDArray[np.uint8]  # (h, w)

_SHORT_SIDE_PX = 180
_FINE_PX = 1.0  # blur of half the thumbnail: streaks are still there
_COARSE_PX = 2.0  # blur wider than a streak


def luma(planes: Sequence[Plane], fmt: PlaneFormat) -> Plane:
    """The luma of a frame in its own samples; of RGB that of BT.601, rounded."""
    if fmt.layout != "rgb":
        return planes[0]
    return np.asarray(np.rint(rgb_luma(planes)), fmt.dtype)


class Thumbnail:
    """A small ``image`` of a frame's luma, (h, w) uint8, and what is computed from it on first use.

    Attributes:
        links: to later frames' thumbnails, for those to which the motion was asked for.

    """

    def __init__(self, image: Grey) -> None:
        self.image = image
        self.links: dict[Thumbnail, Link] = {}

    @cached_property
    def half(self) -> Grey:
        """The thumbnail at half its size: the grid of flows and of masks of hidden places."""
        height, width = ((side + 1) // 2 for side in self.image.shape)
        small = cv2.resize(self.image, (width, height), interpolation=cv2.INTER_AREA)
        return np.asarray(small, np.uint8).reshape(height, width)

    @cached_property
    def fine(self) -> Grey:
        """``half``, blurred, with the streaks still there."""
        return softened(self.half, _FINE_PX)

    @cached_property
    def coarse(self) -> Grey:
        """``half``, blurred beyond the width of a streak."""
        return softened(self.half, _COARSE_PX)


def thumbnail(luma: Plane, bit_depth: int, *, scale: float = 0.0) -> Thumbnail:
    """The luma of a frame at about 180 lines, or at ``scale``, 8 bit."""
    height, width = thumbnail_shape(luma.shape, scale)
    small = np.asarray(cv2.resize(luma, (width, height), interpolation=cv2.INTER_AREA), luma.dtype)
    if bit_depth > 8:
        small >>= bit_depth - 8
    return Thumbnail(small.astype(np.uint8).reshape(height, width))


def thumbnail_shape(shape: tuple[int, ...], scale: float = 0.0) -> tuple[int, int]:
    """(h, w) of the thumbnail of a luma (H, W)."""
    scale = scale or min(1.0, _SHORT_SIDE_PX / min(shape))
    height, width = (max(1, round(side * scale)) for side in shape)
    return height, width


def softened(image: npt.NDArray[Any], blur_px: float) -> Grey:
    """An image (h, w) uint8 blurred by a Gaussian of that many pixels."""
    return np.asarray(cv2.GaussianBlur(image, (0, 0), blur_px), np.uint8).reshape(image.shape)
