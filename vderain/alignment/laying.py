"""Neighbours' luma aligned to the current frame's (ours); torch-free.

Where the camera stands still neighbours are used as they are; else they are warped. Where a neighbour does not show
what the current frame shows, this one's own samples stand in: what cannot be aligned is derained as a single frame
would be, and never ghosts.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from itertools import pairwise
from typing import Protocol

import cv2
import numpy as np

from vderain.alignment.motion import SMALLEST_PX, Aligner, Motion, Path, link, motion_along, warped
from vderain.alignment.order import Aligned
from vderain.alignment.still import is_still, moving
from vderain.alignment.thumbnails import Grey, Thumbnail
from vderain.frames import Plane

_MOST_MOVING = 0.35  # share of a still camera's neighbours: beyond it the camera moves
_LONGEST_SEARCH = 2  # frames; motion to frames further away is composed
_SEEN = 100  # of 255: from there a sample of an enlarged mask belongs to it


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


def aligned_neighbours(
    views: Sequence[View],
    now: int,
    neighbours: Sequence[int | None],
    aligner: Aligner,
) -> list[Aligned]:
    """The ``neighbours`` of the view ``now``, aligned to it, in their order.

    ``views`` are of one size, in the order of time. A neighbour that there is not is None, and the current view
    stands in for it.
    """
    chosen = [index for index in neighbours if index is not None]
    laid = _as_they_are(views, now, chosen)
    if laid is None:
        laid = _warped(views, now, chosen, aligner)
    return [
        Aligned(views[now].luma, None) if index is None else laid[index] for index in neighbours
    ]


def _as_they_are(
    views: Sequence[View], now: int, chosen: Sequence[int]
) -> dict[int, Aligned] | None:
    """Neighbours of a camera that stands still; None where it does not."""
    if not chosen:
        return {}
    small = [view.thumbnail for view in views[min(now, *chosen) : max(now, *chosen) + 1]]
    large = min(small[0].picture.shape) >= SMALLEST_PX
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
    return {
        index: _laid(views[now].luma, views[index].luma, mask) for index, mask in hidden.items()
    }


def _warped(
    views: Sequence[View],
    now: int,
    chosen: Sequence[int],
    aligner: Aligner,
) -> dict[int, Aligned]:
    """Neighbours of a camera that moves."""
    current = views[now].thumbnail
    paths: dict[int, Path] = {}
    laid = {}
    for index in sorted(chosen, key=lambda index: abs(index - now)):
        further = index - now
        start = index - int(np.copysign(_LONGEST_SEARCH, further))
        if abs(further) <= _LONGEST_SEARCH or start not in paths:
            start = now
        one, other = views[start].thumbnail, views[index].thumbnail
        step = link(one, other).forth(aligner) if index > now else link(other, one).back(aligner)
        paths[index] = paths[start].then(step) if start != now else step
        motion = motion_along(current, other, paths[index])
        laid[index] = aligned(views[now].luma, views[index].luma, motion)
    return laid


def aligned(luma: Plane, neighbour: Plane, motion: Motion) -> Aligned:
    """The neighbour's luma aligned to the current frame's; hidden where it shows another scene."""
    if not motion.explains:
        return Aligned(luma, None)
    height, width = luma.shape
    factors = np.array([width, height], np.float32) / motion.flow.shape[1::-1]
    flow = cv2.resize(motion.flow * factors.astype(np.float32), (width, height))
    plane = warped(neighbour, np.asarray(flow, np.float32).reshape(height, width, 2))
    return _laid(luma, plane.reshape(luma.shape), motion.hidden)


def _laid(luma: Plane, neighbour: Plane, hidden: Grey) -> Aligned:
    """The neighbour, but the current luma where it is ``hidden``, a mask of 255 on any smaller grid."""
    if not cv2.countNonZero(hidden):
        return Aligned(neighbour, _nothing(luma.shape))
    height, width = luma.shape
    large = cv2.resize(hidden, (width, height), interpolation=cv2.INTER_LINEAR)
    _, mask = cv2.threshold(large, _SEEN, 1, cv2.THRESH_BINARY)
    mask = np.asarray(mask, np.uint8).reshape(luma.shape)
    shown = neighbour.copy()
    cv2.copyTo(luma, mask, shown)
    return Aligned(shown, mask)


@lru_cache(maxsize=4)
def _nothing(shape: tuple[int, int]) -> Grey:
    empty = np.zeros(shape, np.uint8)
    empty.flags.writeable = False
    return empty
