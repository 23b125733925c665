"""Neighbours' luma aligned to the current frame's (ours); torch-free.

Where the camera stands still neighbours are used as they are; else they are warped. Where a neighbour does not show
what the current frame shows, the current frame's own samples stand in: such a place is derained as in a single
frame, and never shows a ghost.
"""

from __future__ import annotations

from collections.abc import Container, Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import pairwise
from typing import Protocol

import cv2
import numpy as np

from vderain.alignment.motion import (
    SMALLEST_PX,
    Aligner,
    Field,
    Path,
    better,
    link,
    shows_another_scene,
    unlike,
)
from vderain.alignment.order import Aligned
from vderain.alignment.still import is_still, moving
from vderain.alignment.thumbnails import Grey, Thumbnail
from vderain.alignment.warping import warped_luma
from vderain.frames import Plane

_MOST_MOVING = 0.35  # share of places that move behind a still camera; above it the camera moves
_LONGEST_SEARCH = 2  # frames between which motion is searched; over more frames it is composed
SEEN = 100  # of 255: a sample of an enlarged mask above it belongs to the mask


class View(Protocol):
    """A frame's luma, and its thumbnail."""

    @property
    def luma(self) -> Plane:
        """(H, W)."""
        ...

    @property
    def thumbnail(self) -> Thumbnail:
        """Of the luma."""
        ...


@dataclass(frozen=True, slots=True, eq=False)
class Placement:
    """The motion from the current frame to a neighbour: all that is needed to align its luma.

    Attributes:
        flow: on the grid of the thumbnails' halves; None where the neighbour is used as it is.
        hidden: uint8, on the same grid: 255 where the neighbour does not show what the current frame
            shows; None where the whole neighbour is hidden.

    """

    flow: Field | None = None
    hidden: Grey | None = None


def aligned_neighbours(
    views: Sequence[View],
    now: int,
    neighbours: Sequence[int | None],
    aligner: Aligner,
) -> list[Aligned]:
    """The ``neighbours`` of the view ``now``, aligned to it, in their order.

    ``views`` are of one size, in the order of time. A missing neighbour is None; the current view
    stands in for it.
    """
    luma = views[now].luma
    return [
        aligned(luma, luma if index is None else views[index].luma, placement)
        for index, placement in zip(
            neighbours, placements(views, now, neighbours, aligner), strict=True
        )
    ]


def placements(
    views: Sequence[View],
    now: int,
    neighbours: Sequence[int | None],
    aligner: Aligner,
) -> list[Placement]:
    """The placement of each of the ``neighbours`` in the view ``now``, by their thumbnails alone."""
    chosen = [index for index in neighbours if index is not None]
    placed = _as_they_are(views, now, chosen)
    if placed is None:
        placed = _moved(views, now, chosen, aligner)
    return [Placement() if index is None else placed[index] for index in neighbours]


def _as_they_are(
    views: Sequence[View], now: int, chosen: Sequence[int]
) -> dict[int, Placement] | None:
    """Neighbours of a camera that stands still; None where it does not."""
    if not chosen:
        return {}
    small = [view.thumbnail for view in views[min(now, *chosen) : max(now, *chosen) + 1]]
    large = min(small[0].image.shape) >= SMALLEST_PX
    if large and not is_still([link(one, other).shift for one, other in pairwise(small)]):
        return None
    current = views[now].thumbnail
    nearest = [views[index].thumbnail for index in (now - 1, now + 1) if index in chosen]
    hidden = {index: moving(current, views[index].thumbnail, nearest) for index in chosen}
    if (
        np.mean([np.count_nonzero(mask) for mask in hidden.values()])
        > _MOST_MOVING * current.half.size
    ):
        return None
    return {index: Placement(None, mask) for index, mask in hidden.items()}


def _moved(
    views: Sequence[View],
    now: int,
    chosen: Sequence[int],
    aligner: Aligner,
) -> dict[int, Placement]:
    """Neighbours of a camera that moves."""
    current = views[now].thumbnail
    reach = max(abs(index - now) for index in chosen)
    step = _LONGEST_SEARCH if reach > _LONGEST_SEARCH else 1
    paths: dict[int, Path] = {}
    placed: dict[int, Placement] = {}
    for index in sorted(chosen, key=lambda index: abs(index - now)):
        after = index > now
        start = _start(paths, now, index, step)
        one, other = views[start].thumbnail, views[index].thumbnail
        onwards = link(one, other).forth(aligner) if after else link(other, one).back(aligner)
        path = onwards if start == now else paths[start].then(onwards)
        flow = better(current, other, path)
        hidden = unlike(current, other, flow)
        if shows_another_scene(hidden):
            placed[index] = Placement()
        else:
            paths[index] = path
            placed[index] = Placement(flow, hidden)
    return placed


def _start(known: Container[int], now: int, index: int, step: int) -> int:
    """The frame from which motion to ``index`` is searched: at least ``step`` nearer, with a known motion."""
    side = 1 if index > now else -1
    for distance in range(abs(index - now) - step, 0, -1):
        if now + side * distance in known:
            return now + side * distance
    return now


def aligned(luma: Plane, neighbour: Plane, placement: Placement) -> Aligned:
    """The neighbour's luma aligned to the current frame's; the current luma where the whole neighbour is hidden."""
    if placement.hidden is None:
        return Aligned(luma, None)
    if placement.flow is None:
        return _masked(luma, neighbour, placement.hidden)
    return _masked(luma, warped_luma(neighbour, placement.flow), placement.hidden)


def _masked(luma: Plane, neighbour: Plane, hidden: Grey) -> Aligned:
    """The neighbour, but the current luma where it is ``hidden``, a mask of 255 on any smaller grid."""
    if not cv2.countNonZero(hidden):
        return Aligned(neighbour, _nothing(luma.shape))
    height, width = luma.shape
    large = cv2.resize(hidden, (width, height), interpolation=cv2.INTER_LINEAR)
    _, mask = cv2.threshold(large, SEEN, 1, cv2.THRESH_BINARY, large)
    mask = np.asarray(mask, np.uint8).reshape(luma.shape)
    shown = neighbour.copy()
    cv2.copyTo(luma, mask, shown)
    return Aligned(shown, mask)


@lru_cache(maxsize=4)
def _nothing(shape: tuple[int, int]) -> Grey:
    empty = np.zeros(shape, np.uint8)
    empty.flags.writeable = False
    return empty
