"""Properties of a file by its packets before its run: number of frames, rate and length; decodes nothing."""

from __future__ import annotations

import os
from contextlib import closing
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

import av

from vderain.errors import SourceError
from vderain.media.frames.continuity import Continuity, Jump
from vderain.media.frames.frame_rate import MEASURED_FRAMES, believable_rate, rate_of_first
from vderain.media.io.index import packets_of
from vderain.media.io.open import open_container

_MOST_BYTES = 64 << 20  # read at most, in a fraction of a second
_MOST_BYTES_FOR_CLOCK = 1 << 30  # read at most where jumps of the clock are looked for
_ASTRAY = Fraction(3, 2)  # an announced number of frames that is wrong by this factor is ignored
_HIDDEN = 2  # frames; a count that exceeds the length by as much includes hidden ones


@dataclass(frozen=True, slots=True)
class Survey:
    """The properties; estimates where the file was not read to its end.

    Attributes:
        frames: their number; None where only the container has it.
        length_s: from the first frame to the end of the last, without gaps by jumps of the clock.
        rate: frames per second, by the distances of the first frames.
        jumps: of the clock, in the part that was read.
        whole: whether the file was read to its end.

    """

    frames: int | None = None
    length_s: Fraction | None = None
    rate: Fraction | None = None
    jumps: tuple[Jump, ...] = ()
    whole: bool = True


def survey(path: str, stream: Any) -> Survey | None:
    """Read the packets of a file's beginning, or of all of a small one; None where that is needless.

    It is needless where the container's header counts its frames, and impossible for pipes.
    """
    if not os.path.isfile(path) or _counts_frames(stream):
        return None
    try:
        with closing(open_container(path)) as container:
            return _read(container, path, stream.index)
    except SourceError:  # the run will report it, and read as far as possible
        return None


def clock_notes(path: str, stream: Any) -> list[str]:
    """What a run will report of jumps of a file's clock, for people; the packets of up to 1 GiB are read.

    A file that is longer gets a line that says so.
    """
    if not os.path.isfile(path):
        return []
    try:
        with closing(open_container(path)) as container:
            origin_s = Fraction(container.start_time or 0, av.time_base)
            found = _read(container, path, stream.index, most_bytes=_MOST_BYTES_FOR_CLOCK)
    except SourceError:
        return []
    notes = [jump.note(origin_s) for jump in found.jumps]
    if not found.whole:
        notes.append(
            f"jumps of the clock were looked for in the first {_MOST_BYTES_FOR_CLOCK / 2**30:.3g} GiB of the file only"
        )
    return notes


def _counts_frames(stream: Any) -> bool:
    """Whether the header's count is that of all frames that are shown.

    It is not for a file of fragments, of which it counts the part before them, nor where an edit list hides frames.
    """
    rate, length = stream.average_rate, stream.duration
    if not stream.frames:
        return False
    if not rate or not length or not stream.time_base:
        return True
    shown = length * stream.time_base * rate
    return bool(stream.frames * _ASTRAY >= shown and stream.frames - shown < _HIDDEN)


def announced_length_s(container: Any, stream: Any) -> Fraction | None:
    """The length of a video by its container, without the time before its beginning."""
    start, length, unit = stream.start_time or 0, stream.duration, stream.time_base
    is_fragmented = container.format.name.startswith("mov,") and not stream.frames
    if length is not None and unit:
        # For fragments FFmpeg reports the end as the length.
        length -= start if is_fragmented and start <= length else 0
        return Fraction(length * unit)
    if container.duration is None:
        return None
    length_s = Fraction(container.duration, av.time_base)
    begin_s = Fraction(container.start_time or 0, av.time_base)
    ends = container.format.name.startswith("matroska")  # as a stream, it has its end as length
    return length_s - begin_s if ends and 0 < begin_s < length_s else length_s


class _Tally:
    """Collects times of the video's packets."""

    def __init__(self) -> None:
        self.count = 0
        self.first: list[int] = []
        self._begin: int | None = None
        self._end: int | None = None

    def add(self, packet: Any) -> None:
        """Add the next packet."""
        self.count += 1
        time = packet.pts if packet.pts is not None else packet.dts
        if time is None:
            return
        self._begin = time if self._begin is None else min(self._begin, time)
        end = time + (packet.duration or 0)
        self._end = end if self._end is None else max(self._end, end)
        if len(self.first) < MEASURED_FRAMES:
            self.first.append(time)

    def rate(self, unit: Fraction) -> Fraction | None:
        """The rate by the first frames."""
        return rate_of_first(self.first, unit)

    def length(self) -> int | None:
        """The length in units of the video."""
        return None if self._begin is None or self._end is None else self._end - self._begin


def _read(container: Any, path: str, index: int, most_bytes: int = _MOST_BYTES) -> Survey:
    stream: Any = container.streams[index]
    clock, tally = Continuity(container), _Tally()
    read_bytes, whole = 0, True
    for packet in packets_of(container, path, clock=clock):
        read_bytes += packet.size
        if packet.stream.index == index and not packet.is_discard:
            tally.add(packet)
        if read_bytes > most_bytes:
            whole = False
            break
    unit = Fraction(stream.time_base or Fraction(1, 90_000))
    length, rate, jumps = tally.length(), tally.rate(unit), tuple(clock.jumps)
    length_s = None if length is None else length * unit
    if whole:
        return Survey(tally.count, length_s, rate, jumps)
    share = min(Fraction(1), Fraction(read_bytes, max(1, os.path.getsize(path))))
    announced_s, fast = announced_length_s(container, stream), believable_rate(stream) or rate
    frames = tally.count / share
    if path.lower().endswith(".m3u8"):  # its size is not that of the video
        return Survey(None, announced_s, rate, jumps, whole)
    if announced_s is not None and fast:
        announced = announced_s * fast
        if not frames > announced * _ASTRAY and not announced > frames * _ASTRAY:
            return Survey(round(announced), announced_s, rate, jumps, whole)
    length_s = None if length_s is None else length_s / share
    return Survey(round(frames), length_s, rate, jumps, whole)
