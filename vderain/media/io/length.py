"""Finds out whether a video is as long as its container announced, for truncated inputs."""

from __future__ import annotations

from collections.abc import Iterator
from fractions import Fraction
from typing import Any

import av

from vderain.frames import DEFAULT_RATE

_TOLERANCE_S = Fraction(1, 2)
_TOLERANCE_FRAMES = 2
_REORDER = 16


class Length:
    """Compares the end that was read with the end in the headers of MP4, MOV, Matroska and WebM.

    Other formats announce none, or FFmpeg estimates it. Without a duration of the video itself, the end of the
    longest track counts.
    """

    def __init__(self, container: Any, stream: Any, frame_rate: Fraction | None) -> None:
        self._step = 1 / (frame_rate or DEFAULT_RATE)
        self._frames = 0
        self._came = 0
        self._end_s: Fraction | None = None
        self._others_s = Fraction(0)
        self._promised_s, self._of_video = _promise(container, stream)
        if container.format.name.startswith("mov,"):
            self._frames = stream.frames

    def image(self, time_s: Fraction, duration_s: Fraction) -> None:
        """Note that an image was decoded."""
        self._came += 1
        self._reach(time_s + (duration_s or self._step))

    def hidden(self) -> None:
        """Note that a packet of an image was read that an edit list hides."""
        self._came += 1

    def passed(self, end_s: Fraction) -> None:
        """Note that a packet of another track was read."""
        self._others_s = max(self._others_s, end_s)

    def add(self, frames: int, end_s: Fraction) -> None:
        """Note that this many frames were read, the last of which ends at this time."""
        self._came += frames
        self._reach(end_s)

    def _reach(self, end_s: Fraction) -> None:
        self._end_s = end_s if self._end_s is None else max(self._end_s, end_s)

    def losses(self, *, failures: int, whole: bool) -> Iterator[str]:
        """What is missing at the end; ``whole`` where the run began with the first image."""
        if self._promised_s is None or self._end_s is None:
            return
        missing = self._frames - self._came - failures if whole else 0
        if self._frames and whole and missing <= 0:
            return  # all frames of its index were read, whatever its duration is
        end_s = self._end_s if self._of_video else max(self._end_s, self._others_s)
        short_s = self._promised_s - end_s
        counted = missing > 0 and short_s > self._step * Fraction(3, 2)
        if not counted and short_s <= max(_TOLERANCE_S, _TOLERANCE_FRAMES * self._step):
            return
        # An edit list hides frames that the count includes, so the time is compared too. A few images before the last
        # one may be missing, since images are not stored in the order of their times.
        by_time = round((self._promised_s - self._end_s) / self._step)
        sure = 0 < missing <= by_time + _REORDER
        frames = f"{missing}" if sure else f"about {by_time}"
        yield (
            f"the input ends at {float(self._end_s):.1f} s of {float(self._promised_s):.1f} s,"
            f" {frames} frames are missing; it was cut off or is damaged"
        )


def _promise(container: Any, stream: Any) -> tuple[Fraction | None, bool]:
    """The end in seconds of the container's time, and whether it is that of the video itself."""
    name = container.format.name
    if name.startswith("mov,") and stream.duration and stream.time_base:
        # For fragments FFmpeg reports the end as the duration.
        start = (stream.start_time or 0) if stream.frames else 0
        return (start + stream.duration) * Fraction(stream.time_base), True
    if name.startswith("matroska"):
        whole_s = Fraction(container.duration, av.time_base) if container.duration else None
        tags = {key.upper(): value for key, value in stream.metadata.items()}
        end_s = _clock_time(tags.get("DURATION", ""))
        # Tools that cut a file leave the tags of the longer one.
        if end_s is not None and (whole_s is None or end_s <= whole_s + _TOLERANCE_S):
            return end_s, True
        return whole_s, False
    return None, False


def _clock_time(text: str) -> Fraction | None:
    """Hours, minutes and seconds, such as 00:00:04.023000000, in seconds."""
    try:
        hours, minutes, seconds = text.split(":")
        return Fraction(int(hours) * 3600 + int(minutes) * 60) + Fraction(seconds)
    except (ValueError, ZeroDivisionError):
        return None
