"""Turns planes upright, as the display matrix of their image asks for."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from vderain.clips import turned
from vderain.frames import Plane


@dataclass(frozen=True, slots=True)
class Orientation:
    """The turn that makes a stored image upright: mirrored left to right first, then turned counter-clockwise."""

    turns: int = 0  # quarter turns, 0 to 3
    mirrored: bool = False

    @classmethod
    def of(cls, matrix: Sequence[int]) -> Orientation:
        """From FFmpeg's nine integers, to the nearest quarter turn."""
        a, b, c, d = (matrix[index] for index in (0, 1, 3, 4))  # x' = ax + cy, y' = bx + dy
        mirrored = a * d - b * c < 0
        if mirrored:
            a, b = -a, -b
        return cls(round(-math.atan2(b, a) / (math.pi / 2)) % 4, mirrored)

    def upright(self, planes: Sequence[Plane]) -> Sequence[Plane]:
        """The upright planes; the same ones where nothing changes."""
        if self.mirrored:
            planes = tuple(np.ascontiguousarray(np.fliplr(plane)) for plane in planes)
        return turned(planes, self.turns)


AS_STORED = Orientation()
