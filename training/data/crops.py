"""How a patch is taken from images: cut out, made smaller, mirrored, compressed (ours)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt

from vderain.training.rain.render import Image, recompress

_SMALLEST_SCALE = 0.4


def perhaps_recompressed(rng: np.random.Generator, image: Image) -> Image:
    """Compressed as a JPEG, half of the time."""
    return recompress(rng, image) if rng.random() < 0.5 else image


def cropped(rng: np.random.Generator, images: Sequence[Image], side: int) -> tuple[Image, ...]:
    """The same window of images of one size; what is smaller is mirrored up to it."""
    height, width = images[0].shape[:2]
    top = int(rng.integers(max(1, height - side + 1)))
    left = int(rng.integers(max(1, width - side + 1)))
    return tuple(_filled(image[top : top + side, left : left + side], side) for image in images)


def shrunk_patch(rng: np.random.Generator, image: Image, patch: int) -> Image:
    """A patch, half of the time of a smaller version: sharper detail per pixel, and more of the scene."""
    (shrunk,) = shrunk_patches(rng, (image,), patch)
    return shrunk


def shrunk_patches(rng: np.random.Generator, images: Sequence[Image], patch: int) -> list[Image]:
    """The same patch of images of one size, half of the time of smaller versions."""
    smallest = min(images[0].shape[:2])
    lowest = max(_SMALLEST_SCALE, patch / smallest)
    side = patch
    if lowest < 1 and rng.random() < 0.5:
        side = min(round(patch / rng.uniform(lowest, 1.0)), smallest)
    windows = cropped(rng, images, side)
    if side == patch:
        return list(windows)
    return [_resized(window, patch, patch) for window in windows]


def shrunk_view(rng: np.random.Generator, image: Image, side: int) -> Image:
    """An image, half of the time smaller, though not below ``side`` where it is larger."""
    lowest = max(_SMALLEST_SCALE, side / min(image.shape[:2]))
    if lowest >= 1 or rng.random() < 0.5:
        return image
    scale = rng.uniform(lowest, 1.0)
    height, width = (round(length * scale) for length in image.shape[:2])
    return _resized(image, height, width)


def _resized(image: Image, height: int, width: int) -> Image:
    resized = cv2.resize(image, (width, height), interpolation=cv2.INTER_AREA)
    return np.asarray(resized, np.uint8)


def _filled(image: Image, side: int) -> Image:
    """Mirror an image that is smaller than a patch up to its size."""
    below, right = side - image.shape[0], side - image.shape[1]
    if below <= 0 and right <= 0:
        return image
    return np.pad(image, ((0, max(0, below)), (0, max(0, right)), (0, 0)), mode="symmetric")


def mirrored(
    rng: np.random.Generator, images: tuple[npt.NDArray[Any], ...], *, upside_down: bool = False
) -> tuple[npt.NDArray[Any], ...]:
    """Mirror left-right half of the time; with ``upside_down`` also that way, half of the time.

    Never about the diagonal: what learns from level streaks wipes wires and lane marks.
    """
    left_right, below = rng.random(2) < 0.5
    if left_right:
        images = tuple(image[:, ::-1] for image in images)
    if upside_down and below:
        images = tuple(image[::-1] for image in images)
    return images
