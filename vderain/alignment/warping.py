"""Full-size luma warped by the flow of a thumbnail, four pixels of a row at a time."""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import cv2
import numpy as np

from vderain.alignment.motion import Field
from vderain.frames import Plane

GROUP_PX = (
    4  # of a row that move alike; an image of OpenCV has four channels at most that it warps fast
)


def warped_luma(luma: Plane, flow: Field) -> Plane:
    """What lies at each place of (H, W) plus its ``flow`` (h, w, 2), between samples linearly.

    Four pixels of a row move as the middle between them does: a flow changes little over them, and four pixels
    as the channels of one take a third of the time that they take one by one.
    """
    height, width = luma.shape
    around = cv2.copyMakeBorder(luma, 0, 0, GROUP_PX - 1, GROUP_PX - 1, cv2.BORDER_REPLICATE)
    last = around.shape[1] - GROUP_PX + 1
    groups = cv2.merge([around[:, first : first + last] for first in range(GROUP_PX)])
    moved = cv2.remap(
        groups, _places(flow, luma.shape), None, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE
    )
    rows = np.asarray(moved, luma.dtype).reshape(height, -1)
    return np.ascontiguousarray(rows[:, :width])


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
