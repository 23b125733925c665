"""How an image stands: what its display matrix asks for, done to its planes."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from vderain.clips import turned
from vderain.frames import Plane


@dataclass(frozen=True, slots=True)
class Posture:
    """What makes a stored image upright: mirrored left to right first, then turned counter-clockwise."""

    turns: int = 0  # quarters, 0 to 3
    mirrored: bool = False

    @classmethod
    def of(cls, matrix: Sequence[int]) -> Posture:
        """From FFmpeg's nine integers, to the nearest quarter turn."""
        a, b, c, d = (matrix[index] for index in (0, 1, 3, 4))  # x' = ax + cy, y' = bx + dy
        mirrored = a * d - b * c < 0
        if mirrored:
            a, b = -a, -b
        return cls(round(-math.atan2(b, a) / (math.pi / 2)) % 4, mirrored)

    def upright(self, planes: Sequence[Plane]) -> Sequence[Plane]:
        """The planes as they are to be seen; the same ones where nothing changes."""
        if self.mirrored:
            planes = tuple(np.ascontiguousarray(np.fliplr(plane)) for plane in planes)
        return turned(planes, self.turns)


AS_STORED = Posture()
