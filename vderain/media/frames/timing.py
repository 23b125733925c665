"""Times in integers: presentation and decoding times for every frame."""

from __future__ import annotations

import heapq
from collections import deque
from fractions import Fraction
from itertools import pairwise
from typing import Any

from vderain.frames import DEFAULT_RATE

FAR_S = 10  # a clock that begins later than this did not begin with the recording
_REORDER = 16  # frames; the most by which a codec stores a frame early
_TTA = b"TTA1"  # how the header of TTA begins
_TTA_RATE, _TTA_SAMPLES = slice(10, 14), slice(14, 18)  # in that header, little-endian


class FrameClock:
    """Gives every decoded image a presentation time, strictly increasing, in ``time_base`` units.

    Times are kept. A missing one follows from the frame rate, and one that does not increase is moved behind the
    one before; ``notes`` has the number of both.

    Args:
        sort_dts: for AVI, which stores one time per frame in decoding order: the times are right,
        but belong to the frames in the order of their presentation.

    """

    def __init__(
        self, time_base: Fraction, frame_rate: Fraction | None, *, sort_dts: bool = False
    ) -> None:
        self._step = 1 / (frame_rate or DEFAULT_RATE) / time_base
        self._sort_dts = sort_dts
        self._waiting: list[int] = []
        self._last: int | None = None
        self._anchor = 0  # estimated times count from this one
        self._since_anchor = 0
        self._made_up = 0
        self._moved = 0

    def sent(self, dts: int | None) -> None:
        """Note that a packet with this decoding time went into the decoder."""
        if self._sort_dts and dts is not None:
            heapq.heappush(self._waiting, dts)

    def lost(self) -> None:
        """Note that the decoder returned no image for a packet."""
        if self._waiting:
            heapq.heappop(self._waiting)

    def stamp(self, pts: int | None) -> int:
        """The presentation time of the next image, whose own is ``pts``."""
        if self._sort_dts:
            pts = heapq.heappop(self._waiting) if self._waiting else None
        if pts is None:
            self._made_up += 1
            self._since_anchor += self._last is not None
            pts = self._anchor + round(self._since_anchor * self._step)
        else:
            self._anchor, self._since_anchor = pts, 0
        if self._last is not None and pts <= self._last:
            self._moved += 1
            pts = self._last + 1
            self._anchor, self._since_anchor = pts, 0
        self._last = pts
        return pts

    @property
    def notes(self) -> list[str]:
        """Estimated and moved times, for the report."""
        notes = []
        if self._sort_dts:
            notes.append("AVI stores no presentation times; they follow its frame rate")
        if self._made_up:
            notes.append(f"{self._made_up} frames came without a time; they follow the frame rate")
        if self._moved:
            notes.append(
                f"{self._moved} times did not increase and were moved behind the one before"
            )
        return notes


class DecodingTimes:
    """Gives copied video packets the decoding times that Matroska does not store.

    Presentation times are kept. The decoding times are the same times in rising order, moved so far back that
    none is later than its packet's presentation time. Packets that have decoding times are passed on.
    """

    def __init__(self) -> None:
        self._waiting: deque[Any] = deque()
        self._times: list[int] = []
        self._made_up: bool | None = None  # unknown until the first packets were seen

    def push(self, packet: Any) -> list[Any]:
        """The packets that are complete; as many as may be out of order are held back."""
        if self._made_up is False or packet.pts is None:
            return [*self.flush(), packet]
        self._waiting.append(packet)
        if self._made_up:
            heapq.heappush(self._times, packet.pts)
            return [self._next()]
        if len(self._waiting) <= _REORDER:
            return []
        self._begin()
        return [self._next()]

    def flush(self) -> list[Any]:
        """The packets held back."""
        if self._waiting and self._made_up is None:
            self._begin()
        return [self._next() for _ in range(len(self._waiting))]

    def _begin(self) -> None:
        """Find from the first packets, one or more, how far they are out of order."""
        self._made_up = any(packet.dts is None for packet in self._waiting)
        times = sorted(packet.pts for packet in self._waiting)
        step = min((b - a for a, b in pairwise(times) if b > a), default=1)
        delay = 0
        for index, packet in enumerate(self._waiting):
            delay = max(delay, index - sum(time <= packet.pts for time in times) + 1)
        self._times = [times[0] - step * (delay - index) for index in range(delay)] + times

    def _next(self) -> Any:
        packet = self._waiting.popleft()
        if self._made_up:
            # Later packets may be further out of order than the first ones.
            latest = min((other.pts for other in self._waiting), default=packet.pts)
            packet.dts = min(heapq.heappop(self._times), packet.pts, latest)
        return packet


class TtaEnd:
    """Gives the last packet the duration with which the sound is as long as its header says.

    The last packet is shorter than the others, and Matroska does not store by how much. FFmpeg takes the number of
    samples from the duration of the file, and refuses a last packet that does not fit.
    """

    def __init__(self, lasts_s: Fraction) -> None:
        self._lasts_s = lasts_s
        self._begin: int | None = None
        self._last: Any = None

    @classmethod
    def of(cls, stream: Any) -> TtaEnd | None:
        """For a track; None where it is no TTA with a header."""
        if stream.type != "audio" or stream.codec_context is None:
            return None
        header = bytes(stream.codec_context.extradata or b"")
        rate, samples = (
            int.from_bytes(header[part], "little") for part in (_TTA_RATE, _TTA_SAMPLES)
        )
        return cls(Fraction(samples, rate)) if header.startswith(_TTA) and rate else None

    def push(self, packet: Any) -> list[Any]:
        """The packet before this one."""
        ready = [] if self._last is None else [self._last]
        self._begin = packet.pts if self._begin is None else self._begin
        self._last = packet
        return ready

    def flush(self) -> list[Any]:
        """The last packet."""
        last, self._last = self._last, None
        if last is None:
            return []
        if last.pts is not None and self._begin is not None:
            left = round(self._lasts_s / last.time_base) - (last.pts - self._begin)
            if 0 < left < (last.duration or 0):
                last.duration = left
        return [last]


def move(packet: Any, offset: int) -> None:
    """Add an offset, in the packet's units, to its times."""
    if not offset:
        return
    if packet.pts is not None:
        packet.pts += offset
    if packet.dts is not None:
        packet.dts += offset


def shift_to_show(
    first_s: Fraction,
    origin_s: Fraction,
    lasts_s: float | None,
    *,
    muxer: str,
    late_start: bool,
    early_start: bool,
    clock_s: Fraction | None,
) -> tuple[Fraction, str]:
    """The offset of all times with which players show every frame, and begin soon; and the note of a report.

    Args:
        first_s: the time of the first frame.
        origin_s: where the first of all tracks begins.
        lasts_s: how long the video is, where that is known.
        muxer: FFmpeg's name of the output's container.
        late_start, early_start, clock_s: as the output's ``Container`` has them.

    """
    shift_s, why = Fraction(0), ""
    ends_s = origin_s + Fraction(lasts_s or 0)
    if first_s < 0 and not early_start:
        shift_s, why = -min(first_s, origin_s), "so that no frame is before zero"
    elif origin_s >= FAR_S and not late_start:
        shift_s, why = -origin_s, f"because players of {muxer} would wait that long"
    elif origin_s >= FAR_S and clock_s is not None and ends_s >= clock_s:
        why = f"because the clock of {muxer} starts again after {float(clock_s):.0f} s"
        shift_s = -origin_s
    if not shift_s:
        return shift_s, ""
    way = "later" if shift_s > 0 else "earlier"
    return shift_s, f"all tracks begin {float(abs(shift_s)):.3f} s {way}, {why}"


def clock_note(end_s: Fraction, muxer: str, clock_s: Fraction | None) -> str:
    """The note of a report on a video that ends at ``end_s``, where the clock of its container starts again before."""
    if clock_s is None or end_s < clock_s:
        return ""
    return (
        f"the clock of {muxer} starts again from zero at {float(clock_s):.0f} s of the output,"
        " as in every such file of this length"
    )
