"""Aligned neighbours in order of brightness, and the luma below which no frame is darkened."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import cv2
import numpy as np

from vderain.alignment.thumbnails import Grey
from vderain.frames import Plane

TOLERANCE = 2  # 8-bit code values below the second darkest sample: noise, and rain in most frames


@dataclass(frozen=True, slots=True, eq=False)
class Aligned:
    """A neighbour's luma, aligned to the current frame.

    Attributes:
        luma: (H, W), the current frame's own samples where the neighbour does not show them.
        hidden: (H, W) uint8, 1 at those places and 0 elsewhere; None where the whole neighbour is hidden.

    """

    luma: Plane
    hidden: Grey | None


def shown(neighbours: Sequence[Aligned], offsets: Sequence[int]) -> list[Plane]:
    """The luma of neighbours ``offsets`` frames away; where one is hidden, of the one two frames nearer (ours).

    Far neighbours are hidden more often than near ones. If the current frame's samples stood in for all of them,
    most of the clip would show the current frame, with its rain. They stand in for the neighbours within two frames.
    """
    by_offset = {offset: one for offset, one in zip(offsets, neighbours, strict=True) if offset}
    planes: dict[int, Plane] = {}
    for offset in sorted(by_offset, key=abs):
        one, nearer = by_offset[offset], stand_in(offset)
        plane = one.luma
        if nearer in planes:
            if one.hidden is None:
                plane = planes[nearer]
            elif cv2.countNonZero(one.hidden):
                plane = plane.copy()
                cv2.copyTo(planes[nearer], one.hidden, plane)
        planes[offset] = plane
    return [
        planes[offset] if offset else one.luma
        for offset, one in zip(offsets, neighbours, strict=True)
    ]


def stand_in(offset: int) -> int:
    """The offset of the frame that stands in for one ``offset`` frames away; 0 for the current frame."""
    return offset - 2 if offset > 2 else offset + 2 if offset < -2 else 0


def floor_of(
    neighbours: Sequence[Aligned], ordered: Sequence[Plane], bit_depth: int
) -> Plane | None:
    """The luma (H, W) below which a frame must not be darkened: what all frames show is no rain (ours).

    Rain adds light, and hides a place in few frames. So the floor is the second darkest sample of the valid
    neighbours, the darkest where fewer than three are valid, less a tolerance for noise and for rain in
    most frames. Where no neighbour is valid the floor is 0, and where none is anywhere, None.

    ``ordered`` are the neighbours' luma in order of brightness, the current samples where they are hidden.
    """
    hidden = [one.hidden for one in neighbours if one.hidden is not None]
    if not hidden:
        return None
    lost, count = len(neighbours) - len(hidden), len(neighbours)
    few = max(1, count - 2)  # of absent neighbours, from which the darkest sample is the floor
    floor = ordered[0] if lost >= few else ordered[min(1, count - 1)]
    somewhere = [mask for mask in hidden if cv2.countNonZero(mask)]
    if somewhere and lost + len(somewhere) >= few:
        absent = np.full(hidden[0].shape, lost, np.uint8)
        for mask in somewhere:
            absent += mask
        floor = floor.copy()
        cv2.copyTo(ordered[0], _from(absent, few), floor)
        if lost + len(somewhere) == count:
            cv2.copyTo(np.zeros_like(floor), _from(absent, count), floor)
    tolerance = TOLERANCE << (bit_depth - 8)
    subtract: Any = cv2.subtract  # whose types do not know a number
    return np.asarray(subtract(floor, (tolerance,)), floor.dtype).reshape(floor.shape)


def in_order_of_brightness(lumas: Sequence[Plane], darkest: int | None = None) -> list[Plane]:
    """Neighbours' luma with the darkest sample at each place in the first plane, and so on.

    Rain adds light, so the first planes show what is behind it. Only the first ``darkest`` planes are made;
    all where it is None.
    """
    count = len(lumas) if darkest is None else min(darkest, len(lumas))
    ordered = list(lumas)
    for low, high, darker, brighter in _needed(len(ordered), count):
        one, other = ordered[low], ordered[high]
        if one is not other:
            if darker:
                ordered[low] = np.minimum(one, other)
            if brighter:
                ordered[high] = np.maximum(one, other)
    return ordered[:count]


@lru_cache(maxsize=32)
def _needed(count: int, darkest: int) -> tuple[tuple[int, int, bool, bool], ...]:
    """The exchanges that the ``darkest`` places depend on, and whether on their darker and brighter sample."""
    wanted, found = set(range(darkest)), []
    for low, high in reversed(exchanges(count)):
        if low in wanted or high in wanted:
            found.append((low, high, low in wanted, high in wanted))
            wanted |= {low, high}
    return tuple(reversed(found))


@lru_cache(maxsize=32)
def exchanges(count: int) -> tuple[tuple[int, int], ...]:
    """Batcher's odd-even merge sort: which places are compared, and exchanged, in order."""
    return tuple(_merge_sort(count))


def _merge_sort(count: int) -> Iterator[tuple[int, int]]:
    run = 1
    while run < count:
        step = run
        while step >= 1:
            for first in range(step % run, count - step, 2 * step):
                for low in range(first, min(first + step, count - step)):
                    if low // (2 * run) == (low + step) // (2 * run):
                        yield low, low + step
            step //= 2
        run *= 2


def _from(counts: Grey, least: int) -> Grey:
    """255 where a count is ``least`` or more."""
    return np.asarray(cv2.inRange(counts, (least,), (255,)), np.uint8)
