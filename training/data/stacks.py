"""What a network of several frames sees, as one image of whole numbers: a frame and its neighbours' luma."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from vderain.alignment import in_order_of_brightness, luma
from vderain.clips import Window
from vderain.frames import Plane, PlaneFormat
from vderain.network.config import AnyConfig
from vderain.training.rain.render import Image


def grey(image: Image) -> Plane:
    """The luma (H, W) uint8 of an image (H, W, 3) uint8 RGB."""
    height, width = image.shape[:2]
    return luma(tuple(np.moveaxis(image, 2, 0)), PlaneFormat("rgb", width, height, full_range=True))


def window_of(config: AnyConfig) -> Window:
    """What a network sees of a file: half of its neighbours are in the future."""
    return Window.of(config.frames, config.ranks)


def stacked(image: Image, lumas: Sequence[Plane], window: Window) -> Image:
    """A frame (H, W, 3) and K planes of the aligned luma of T - 1 neighbours, (H, W, 3 + K) uint8."""
    return np.dstack([image, *window.seen(in_order_of_brightness(lumas))])


def stacked_still(frames: Sequence[Image], window: Window) -> Image:
    """The stack of the middle one of T frames (H, W, 3) of a static scene."""
    middle = len(frames) // 2
    others = [*frames[:middle], *frames[middle + 1 :]]
    return stacked(frames[middle], [grey(other) for other in others], window)


def stacked_alone(image: Image, count: int) -> Image:
    """The stack of a frame that stands in for the ``count`` - 1 planes of its neighbours."""
    return np.dstack([image, *[grey(image)] * (count - 1)])


def network_input(stack: Image) -> npt.NDArray[np.float32]:
    """A stack, the input of ``change``, (3 + K, H, W) float32: RGB in [0, 1], and the differences of luma."""
    planes = stack.astype(np.float32).transpose(2, 0, 1) / np.float32(255)
    if stack.shape[2] > 3:
        planes[3:] -= grey(stack[..., :3]).astype(np.float32) / np.float32(255)
    return np.ascontiguousarray(planes)
