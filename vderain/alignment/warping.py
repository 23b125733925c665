"""Full-size luma warped by the flow of a thumbnail, four pixels of a row at a time."""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import cv2
import numpy as np

from vderain.alignment.motion import Field
from vderain.frames import Plane

GROUP_PX = 4  # pixels of a row that move alike, warped as the channels of one pixel


def warped_luma(luma: Plane, flow: Field) -> Plane:
    """The luma (H, W) sampled at each place plus its ``flow`` (h, w, 2), linearly between samples.

    Four pixels of a row move as the middle between them does: a flow changes little over them, and
    warping four pixels as the channels of one takes a third of the time.
    """
    height, width = luma.shape
    remap: Any = cv2.remap  # whose types do not know that one map may hold both parts
    groups, places = _groups(luma), _places(flow, luma.shape)
    moved = remap(groups, places, None, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
    rows = np.asarray(moved, luma.dtype).reshape(height, -1)
    return np.ascontiguousarray(rows[:, :width])


def _groups(luma: Plane) -> Plane:
    """Each sample with the next ones of its row, (H, W + GROUP_PX - 1, GROUP_PX), from before the first column on."""
    around = cv2.copyMakeBorder(luma, 0, 0, GROUP_PX - 1, GROUP_PX - 1, cv2.BORDER_REPLICATE)
    around = np.ascontiguousarray(around, luma.dtype)
    height, width = around.shape[0], around.shape[1] - GROUP_PX + 1
    # As numbers of GROUP_PX samples that overlap, which numpy copies in two thirds of the time of cv2.merge.
    number = f"u{GROUP_PX * luma.itemsize}"
    overlapping = np.ndarray((height, width), number, around, 0, (around.strides[0], luma.itemsize))
    return overlapping.copy().view(luma.dtype).reshape(height, width, GROUP_PX)


def _places(flow: Field, shape: tuple[int, ...]) -> Any:
    """Where each group of pixels lies, (H, groups, 2) (x, y) of the groups that begin before the first column."""
    height, width = shape
    factors = width / flow.shape[1], height / flow.shape[0], 0.0, 0.0
    multiply: Any = cv2.multiply  # whose types do not know a factor for each channel
    groups = -(-width // GROUP_PX)
    moved = cv2.resize(multiply(flow, factors), (groups, height))
    return cv2.add(moved, _unmoved(height, groups), moved)


@lru_cache(maxsize=4)
def _unmoved(height: int, groups: int) -> Field:
    x = np.arange(groups, dtype=np.float32) * GROUP_PX + (GROUP_PX - 1)
    y = np.arange(height, dtype=np.float32)[:, None]
    return np.dstack(np.broadcast_arrays(x, y))
