"""Measures the finished share of a batch and its ETA."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable

from vderain.batch.manifest import ClipRow

_MARKS = 32


class Workload:
    """Counts work in bytes of the sources, since the number of frames is unknown before a clip is read.

    A clip counts with the share of its bytes that must be derained: segments that are done or copied take no
    time worth counting. For clips not inspected yet, the share is estimated from the others. Time before the
    first frame is ignored, since an engine may be built in it. The ETA follows from the later half of the time
    worked, because the machine's load may change.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._unseen: dict[int, int] = {}  # clip -> bytes, of clips not inspected yet
        self._seen_bytes = 0
        self._left: dict[int, float] = {}  # clip -> bytes to derain, of clips in work
        self._in_work: dict[tuple[int, int], float] = {}  # (clip, segment) -> bytes derained
        self._worth: dict[int, float] = {}  # clip -> bytes to derain when it was inspected
        self._done = 0.0
        self._flows = False  # whether anything was derained
        self._marks: list[tuple[float, float]] = []  # (time, bytes done); the first is the start

    def plan(self, clips: Iterable[ClipRow]) -> None:
        """Add clips to the work."""
        self._unseen.update((clip.id, max(1, clip.size_bytes)) for clip in clips)

    def begin(self, clip: ClipRow, share: float) -> None:
        """Note that a clip was inspected, and that this share of it must be derained."""
        if not self._marks:
            self._marks = [(self._clock(), self._so_far)]
        self._unseen.pop(clip.id, None)
        self._seen_bytes += clip.size_bytes
        self._left[clip.id] = self._worth[clip.id] = clip.size_bytes * share

    def advance(self, clip: int, segment: int, share: float) -> None:
        """Set how much of a segment in work is derained, as a share of its clip's work."""
        if clip not in self._worth:
            return
        self._in_work[clip, segment] = share * self._worth[clip]
        if not self._flows:
            self._flows, self._marks = True, [(self._clock(), self._so_far)]
        self._mark()

    def finish(self, clip: int, segment: int, share: float) -> None:
        """Note that a segment, this share of its clip's work, is done."""
        self._flows = True
        self._in_work.pop((clip, segment), None)
        if clip in self._left:
            worth = min(self._left[clip], share * self._worth[clip])
            self._left[clip] -= worth
            self._done += worth
        self._mark()

    def end(self, clip: int) -> None:
        """Remove a clip, whether it is done or failed."""
        self._unseen.pop(clip, None)
        self._left.pop(clip, None)

    @property
    def share(self) -> float:
        """The finished share of this run's work, 0 to 1."""
        whole = self._so_far + self._ahead
        return self._so_far / whole if whole > 0 else 1.0

    @property
    def eta_s(self) -> float | None:
        """Estimated seconds left; None before anything is done."""
        if not self._marks:
            return None
        now_s = self._clock()
        half_s = (self._marks[0][0] + now_s) / 2
        since_s, before = max(mark for mark in self._marks if mark[0] <= half_s)
        if self._so_far <= before:  # nothing was finished in that time
            since_s, before = self._marks[0]
        done = self._so_far - before
        # Less than a byte comes from rounding of a share.
        return (now_s - since_s) / done * self._ahead if done >= 1 else None

    def _mark(self) -> None:
        """Store the current state, in a bounded number of marks spread evenly over the time."""
        if not self._marks:
            return
        now_s, (first_s, _) = self._clock(), self._marks[0]
        if now_s - self._marks[-1][0] >= (now_s - first_s) / _MARKS:
            self._marks.append((now_s, self._so_far))
        if len(self._marks) > 2 * _MARKS:
            self._marks = self._marks[::2]

    @property
    def _so_far(self) -> float:
        return self._done + sum(self._in_work.values())

    @property
    def _ahead(self) -> float:
        worth = sum(self._worth.values()) / self._seen_bytes if self._seen_bytes else 1.0
        left = sum(self._left.values()) - sum(self._in_work.values())
        return max(0.0, left) + worth * sum(self._unseen.values())
