"""From frames to the clips that the network sees.

A clip of one frame is that frame. A clip of T is the frame and the T - 1 neighbours nearest in time, whose luma
``alignment`` aligns to the frame and puts in order of brightness: what differs is rain. Clips hold no state but those
frames: a run that begins ``Window.warm_up`` frames early makes the same clips as an uninterrupted run.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from itertools import count

import numpy as np

from vderain.alignment import (
    Aligner,
    Placement,
    Thumbnail,
    aligned,
    floor_of,
    in_order_of_brightness,
    luma,
    placements,
    shown,
    thumbnail,
)
from vderain.flow.workers import Workers
from vderain.frames import (
    Clip,
    Frame,
    Neighbour,
    PassedPacket,
    Plane,
    PlaneFormat,
    Unaligned,
)

_GAP_S = 0.5  # frames further apart show scenes that differ too much

Item = Frame | PassedPacket
_NUMBERS = count()


@dataclass(frozen=True, slots=True)
class Window:
    """What a network sees.

    Attributes:
        frames: T, an odd number.
        lookahead: how many of them may lie in the future.
        ranks: of the T - 1 neighbours' samples in order of brightness, those that clips hold; () for all.

    """

    frames: int = 1
    lookahead: int = 0
    ranks: tuple[int, ...] = ()

    def seen(self, ordered: Sequence[Plane]) -> Sequence[Plane]:
        """The planes of ``ordered`` neighbours that clips hold."""
        return _of_ranks(ordered, self.ranks)

    @property
    def seen_frames(self) -> int:
        """How many planes of luma a clip holds: the frame's and its neighbours'."""
        return 1 + len(self.ranks) if self.ranks else self.frames

    @classmethod
    def of(cls, frames: int, ranks: tuple[int, ...] = ()) -> Window:
        """What a network of so many frames sees of a file: half of the others lie in the future."""
        return cls(frames, frames // 2, ranks)

    def looking_ahead(self, lookahead: int | None) -> Window:
        """The same with another look-ahead, ``frames`` - 1 at most; as it is for None."""
        if lookahead is None:
            return self
        return replace(self, lookahead=min(lookahead, self.frames - 1))

    @property
    def warm_up(self) -> int:
        """How far back a clip may reach, in frames."""
        return self.frames - 1


def _of_ranks(ordered: Sequence[Plane], ranks: Sequence[int]) -> Sequence[Plane]:
    return [ordered[rank] for rank in ranks] if ranks else ordered


def clips(
    items: Iterable[Item],
    window: Window,
    unaligned: Callable[[], bool] = lambda: False,
    workers: Workers | None = None,
) -> Generator[tuple[Item, Clip | None], None, None]:
    """Pair every frame with its clip, in order; packets pass with None.

    A frame leaves when as many frames of its stretch have come after it as its window looks ahead, or the
    stretch ends: with the stream, at a discontinuity, a gap in time or a new format. Neighbours beyond an
    end are replaced by others, and by the frame itself where there are none. Neighbours are aligned here, by
    ``workers`` or by the calling thread. Where ``unaligned`` returns True, asked for each clip, the engine aligns them.
    """
    aligners = _Aligners()

    def made(around: _Surroundings) -> Clip:
        clip = around.clip(aligners.own)
        return clip if unaligned() else aligned_clip(clip)

    yield from (workers or Workers()).in_order(_surroundings(items, window), made)


class _Aligners(threading.local):
    """An aligner for each thread."""

    def __init__(self) -> None:
        self.own = Aligner()


def _surroundings(
    items: Iterable[Item], window: Window
) -> Generator[tuple[Item, _Surroundings | None], None, None]:
    """Pair every frame with the frames that its clip is made of."""
    stretch = _Stretch(window)
    waiting: deque[Item] = deque()
    for item in items:
        if isinstance(item, Frame):
            seen = Seen(item)
            if not stretch.goes_on(seen):
                yield from _flushed(waiting, stretch)
                stretch = _Stretch(window)
            stretch.add(seen)
        waiting.append(item)
        while waiting and (isinstance(waiting[0], PassedPacket) or stretch.is_ready):
            first = waiting.popleft()
            yield first, stretch.next_surroundings() if isinstance(first, Frame) else None
    yield from _flushed(waiting, stretch)


def _flushed(
    waiting: deque[Item], stretch: _Stretch
) -> Iterator[tuple[Item, _Surroundings | None]]:
    while waiting:
        first = waiting.popleft()
        yield first, stretch.next_surroundings() if isinstance(first, Frame) else None


class Recent:
    """The newest decoded frames of a live camera, including frames that never get a clip themselves.

    ``add`` gives each frame with its neighbours before it, which ``newest_clip`` turns into a clip when
    the network has time for it. Neighbours end where a clip's would.
    """

    def __init__(self, frames: int) -> None:
        self._frames = frames
        self._seen: tuple[Seen, ...] = ()

    def add(self, frame: Frame) -> tuple[Seen, ...]:
        """The frame, last, and those before it, oldest first; ``frames`` of them at most."""
        seen = Seen(frame)
        if not self._seen or not seen.follows(self._seen[-1]):
            self._seen = ()
        self._seen = (*self._seen, seen)[-self._frames :]
        return self._seen

    def clear(self) -> None:
        """Forget all, as at a reconnection."""
        self._seen = ()


def newest_clip(recent: tuple[Seen, ...], window: Window, aligner: Aligner) -> Clip:
    """The clip of a ``window`` without look-ahead for the last of ``recent``."""
    stretch = _Stretch(window)
    for seen in recent:
        stretch.add(seen)
    return aligned_clip(stretch.last_surroundings().clip(aligner))


def upright_clip(frame: Frame, frames: int = 1) -> Clip:
    """The clip of an image without neighbours, turned as it is displayed: rain falls downwards there."""
    turns = frame.rotation // 90
    return still_clip(turned(frame.planes, turns), frame.format.rotated(turns), frames)


def still_clip(planes: Sequence[Plane], fmt: PlaneFormat, frames: int) -> Clip:
    """The clip of a frame that stands in for all its neighbours."""
    return Clip(planes, fmt, (luma(planes, fmt),) * (frames - 1) if frames > 1 else ())


def turned(planes: Sequence[Plane], quarter_turns: int) -> Sequence[Plane]:
    """Planes turned counter-clockwise; views without a copy where nothing turns."""
    if quarter_turns % 4 == 0:
        return planes
    return tuple(np.ascontiguousarray(np.rot90(plane, quarter_turns)) for plane in planes)


def aligned_clip(clip: Clip) -> Clip:
    """The clip with its neighbours aligned, in order of brightness, and its floor."""
    if clip.unaligned is None:
        return clip
    own, neighbours = clip.unaligned.frame.luma, clip.unaligned.neighbours
    moved = [aligned(own, one.frame.luma, Placement(one.flow, one.hidden)) for one in neighbours]
    seen = shown(moved, [one.offset for one in neighbours])
    ranks = clip.unaligned.ranks
    ordered = in_order_of_brightness(seen, max(1, *ranks) + 1 if ranks else None)
    floor = floor_of(moved, ordered, clip.format.bit_depth)
    return Clip(clip.planes, clip.format, _of_ranks(ordered, ranks), floor)


class Seen:
    """A decoded frame turned upright, with its thumbnail once it is needed."""

    def __init__(self, frame: Frame) -> None:
        self.number = next(_NUMBERS)
        turns = frame.rotation // 90
        self.planes = turned(frame.planes, turns)
        self.format = frame.format.rotated(turns)
        self.time_s = frame.time_s
        self.discontinuity = frame.discontinuity
        self._luma: Plane | None = None
        self._thumbnail: Thumbnail | None = None

    def follows(self, last: Seen) -> bool:
        """Whether this is the next frame of the same scene and format."""
        gap_s = self.time_s - last.time_s
        return not self.discontinuity and self.format == last.format and 0 <= gap_s <= _GAP_S

    def prepare(self) -> None:
        """Make the luma and the thumbnail, before several threads ask for them."""
        _ = self.thumbnail

    @property
    def luma(self) -> Plane:
        """Made when it is first asked for, as the thumbnail is."""
        if self._luma is None:
            self._luma = luma(self.planes, self.format)
        return self._luma

    @property
    def thumbnail(self) -> Thumbnail:
        """Of the luma."""
        if self._thumbnail is None:
            self._thumbnail = thumbnail(self.luma, self.format.bit_depth)
        return self._thumbnail


@dataclass(frozen=True, slots=True, eq=False)
class _Surroundings:
    """A frame and its neighbours: all that a thread needs to make the clip.

    Attributes:
        seen: the frames, prepared where the frame has neighbours.
        now: the frame's own place among them.
        neighbours: the places of its neighbours; None for one that there is not.
        ranks: as of ``Window``.

    """

    seen: tuple[Seen, ...]
    now: int
    neighbours: tuple[int | None, ...]
    ranks: tuple[int, ...]

    def clip(self, aligner: Aligner) -> Clip:
        """The frame's clip, whose neighbours are not aligned yet."""
        current = self.seen[self.now]
        if not self.neighbours:
            return Clip(current.planes, current.format)
        placed = placements(self.seen, self.now, self.neighbours, aligner)
        neighbours = tuple(
            Neighbour(current, 0, None, None)
            if index is None
            else Neighbour(self.seen[index], index - self.now, place.flow, place.hidden)
            for index, place in zip(self.neighbours, placed, strict=True)
        )
        frames = Unaligned(current, neighbours, self.ranks)
        return Clip(current.planes, current.format, unaligned=frames)


@dataclass(slots=True)
class _Stretch:
    """Consecutive frames of one scene and format; surroundings are asked for in the order of the frames."""

    window: Window
    _seen: deque[Seen] = field(default_factory=deque)
    _next: int = 0  # of _seen, whose surroundings are asked for next

    def goes_on(self, seen: Seen) -> bool:
        """Whether a frame belongs to this stretch."""
        return bool(self._seen) and seen.follows(self._seen[-1])

    def add(self, seen: Seen) -> None:
        """Take the next frame."""
        self._seen.append(seen)

    @property
    def is_ready(self) -> bool:
        """Whether the surroundings of the next frame need no further frame."""
        return len(self._seen) - self._next > self.window.lookahead

    def next_surroundings(self) -> _Surroundings:
        """The next frame and its neighbours."""
        neighbours = self._neighbours()
        if neighbours:
            for seen in self._seen:
                seen.prepare()
        around = _Surroundings(tuple(self._seen), self._next, neighbours, self.window.ranks)
        self._next += 1
        while self._next > self.window.warm_up:
            self._seen.popleft()
            self._next -= 1
        return around

    def last_surroundings(self) -> _Surroundings:
        """The newest frame and those before it, whatever was asked for before."""
        self._next = len(self._seen) - 1
        return self.next_surroundings()

    def _neighbours(self) -> tuple[int | None, ...]:
        """Which frames are nearest to the next one; None for one that there is not."""
        window, now = self.window, self._next
        first, last = max(0, now - window.warm_up), min(len(self._seen) - 1, now + window.lookahead)
        others = sorted({*range(first, last + 1)} - {now}, key=lambda i: abs(i - now))
        chosen = tuple(sorted(others[: window.frames - 1]))
        return chosen + (None,) * (window.frames - 1 - len(chosen))
