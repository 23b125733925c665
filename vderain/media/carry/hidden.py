"""Packets that an edit list hides: players do not show them, and some containers cannot hide them."""

from __future__ import annotations

from collections.abc import Iterator
from fractions import Fraction
from typing import Any

# The run-up of a decoder (1024 samples of AAC, 80 ms of Opus) is hidden too, but needed.
_RUN_UP_S = Fraction(1, 10)


class Hidden:
    """Decides which packets of one track an output keeps, and reports the others.

    Args:
        can_hide: whether the output hides what lies before zero, as MP4 and MOV do.
        needs_key: whether packets can only be decoded after a keyframe, as those of video.
        is_cut: whether the beginning of the track was cut off, so that it may begin without a keyframe.

    """

    def __init__(self, *, can_hide: bool, needs_key: bool, is_cut: bool = False) -> None:
        self._can_hide = can_hide
        self._needs_key = needs_key
        self._waits_for_key = False
        self._waits_for_first = needs_key and is_cut
        self._first_pts: int | None = None  # of the first keyframe after a cut
        self._before_key = 0  # packets before it, by position or by time
        self._keeps_run_up: bool | None = None  # unknown until the first hidden packet
        self._left_out_s = Fraction(0)
        self._unshown = 0  # packets that are not hidden, but need packets that are left out

    def takes(self, packet: Any) -> bool:
        """Whether a packet goes into the output."""
        if packet.is_discard and not self._keeps(packet):
            self._left_out_s += (packet.duration or 0) * Fraction(packet.time_base)
            self._waits_for_key = self._needs_key
            return False
        if self._precedes_key(packet):
            self._before_key += 1
            return False
        if self._waits_for_key and not packet.is_keyframe:
            self._unshown += not packet.is_discard
            return False
        self._waits_for_key = False
        return True

    def notes(self) -> Iterator[str]:
        """What was left out on purpose, without the name of the track."""
        if self._left_out_s:
            yield f"{float(self._left_out_s):.3f} s that an edit list hides were left out"

    def losses(self) -> Iterator[str]:
        """What is missing in the output, without the name of the track."""
        if self._before_key:
            yield (
                f"{self._before_key} frames before its first keyframe behind the start were left out"
            )
        if self._unshown:
            yield f"{self._unshown} packets need what an edit list hides, and were left out"

    def _precedes_key(self, packet: Any) -> bool:
        """Whether a packet after a cut needs packets before the cut."""
        if self._waits_for_first and packet.is_keyframe:
            self._waits_for_first, self._first_pts = False, packet.pts
        early = (
            self._first_pts is not None and packet.pts is not None and packet.pts < self._first_pts
        )
        return self._waits_for_first or early

    def _keeps(self, packet: Any) -> bool:
        if packet.pts is None:
            return False
        unit = Fraction(packet.time_base)
        start_s, end_s = packet.pts * unit, (packet.pts + (packet.duration or 0)) * unit
        if self._keeps_run_up is None:
            self._keeps_run_up = -_RUN_UP_S <= start_s < 0
        return start_s < 0 and (self._keeps_run_up or (self._can_hide and end_s <= 0))
