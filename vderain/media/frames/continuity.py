"""One clock for all tracks: where the time of a container jumps, every track goes on without a gap."""

from __future__ import annotations

from dataclasses import dataclass, field
from fractions import Fraction
from typing import Any

import av
from av.stream import Disposition

from vderain.media.frames.timing import move

_AHEAD_S = Fraction(10)  # of all tracks: longer than any pause between two frames of a recording
_AHEAD_ALONE_S = Fraction(60)  # of a video without sound, where a frame may really last so long
_AHEAD_STEPS = 20  # in a video of one frame every few seconds
_BACK_S = Fraction(1, 5)
_REORDER = 17  # frames; no codec lets one come later than that behind its turn
_APART_S = Fraction(3)  # tracks of one moment lie no further apart in a file
_JOIN_S = Fraction(
    5
)  # a track that jumps later follows an offset that brings it so near to its end
_MOST_HELD = 20_000  # packets
# Counters of MPEG-TS and RTP at 90 kHz, of FLV at 1 kHz.
_WRAPS_S = (Fraction(2**33, 90_000), Fraction(2**32, 90_000), Fraction(2**32, 1000))
_WRAP_TOLERANCE_S = Fraction(1)
_VOTERS = ("video", "audio")  # whose packets come so regularly that a gap means something
_TS_DISCONT = 0x200  # FFmpeg's AVFMT_TS_DISCONT: times of the format may jump


@dataclass(frozen=True, slots=True)
class Jump:
    """A place where the clock of a container was set, restarted or ran over.

    Attributes:
        at_s: when it happens, in seconds of the time that goes on.
        by_s: how far the container's clock jumps, negative backwards.
        is_wrap: whether only a counter ran over, so that nothing is missing and no scene is cut.

    """

    at_s: Fraction
    by_s: Fraction
    is_wrap: bool = False

    def note(self, origin_s: Fraction) -> str:
        """The line of a report; times count from ``origin_s``."""
        at = f"{float(self.at_s - origin_s):.2f} s"
        if self.is_wrap:
            return f"the clock of the input runs over at {at}; all tracks go on without a gap"
        way = "back" if self.by_s < 0 else "ahead"
        return (
            f"the clock of the input jumps {way} by {float(abs(self.by_s)):.2f} s at {at};"
            " all tracks go on from there without a gap"
        )


@dataclass(slots=True)
class _Track:
    """What the packets of one track told of its time, in its own units, as the container has them."""

    unit: Fraction
    votes: bool  # whether a gap in it means something
    offset_s: Fraction = Fraction(0)
    offset: int = 0  # the same in units
    first: int = 0
    top: int = 0  # latest time
    end: int = 0  # latest end
    last_dts: int | None = None
    count: int = 0
    is_back: bool = False  # whether fragments follow whose clock was set back

    @property
    def step(self) -> Fraction:
        """Mean distance of packets."""
        return Fraction(self.top - self.first, max(1, self.count - 1))

    @property
    def end_s(self) -> Fraction:
        """Where it ends by now, in the time that goes on."""
        end = self.end if self.end > self.top else self.top + self.step
        return end * self.unit + self.offset_s

    def see(self, packet: Any) -> None:
        """Take the time of the next packet."""
        time = _time(packet)
        if time is None or packet.is_discard:
            return
        if not self.count:
            self.first = self.top = self.end = time
        self.first = min(self.first, time)
        self.top = max(self.top, time)
        self.end = max(self.end, time + (packet.duration or 0))
        self.last_dts = packet.dts
        self.count += 1

    def shown(self, packet: Any) -> Any:
        """The packet, or one like it that is shown: FFmpeg hides fragments behind a clock that was set back."""
        if not packet.is_discard or packet.dts is None:
            self.is_back = False
            return packet
        self.is_back |= self.last_dts is not None and packet.dts <= self.last_dts
        return shown(packet) if self.is_back else packet

    def jump(self, packet: Any) -> int:
        """How far a packet lies before or behind what can be; 0 where it goes on."""
        time = _time(packet)
        if time is None or not self.count or packet.is_discard:
            return 0
        ahead = time - self.end
        if ahead > 0:
            limit = max(_AHEAD_S / self.unit, _AHEAD_STEPS * self.step)
            return ahead if ahead > limit else 0
        dts, last = packet.dts, self.last_dts
        back = _BACK_S / self.unit
        if dts is not None and last is not None and dts < last - max(back, 3 * self.step):
            return time - self.end
        if time < self.top - back:
            # Pictures come out of order between keyframes only.
            late = back if packet.is_keyframe else max(5 * back, _REORDER * self.step)
            if time < self.top - late:
                return time - self.end
        return 0

    def move_to(self, offset_s: Fraction) -> None:
        """Use another offset from now on."""
        self.offset_s = offset_s
        self.offset = round(offset_s / self.unit)

    def begun_anew(self, offset_s: Fraction) -> _Track:
        """The same track behind a jump."""
        anew = _Track(self.unit, self.votes)
        anew.move_to(offset_s)
        anew.is_back = self.is_back
        return anew

    def go_on(self, other: _Track) -> None:
        """Take what another saw of the same track."""
        self.top, self.end = max(self.top, other.top), max(self.end, other.end)
        self.last_dts, self.count = other.last_dts, self.count + other.count


@dataclass(slots=True)
class _Pending:
    """A jump while it is not clear yet which tracks it is of.

    ``held`` are packets in their order; those of tracks that have not jumped have their times already,
    and the others are in ``moving``.
    """

    index: int  # of the track that jumped first
    by: int  # in its units
    alive: set[int]  # tracks that were going on
    fresh: dict[int, _Track] = field(default_factory=dict)  # those that jumped, from there on
    went_on: set[int] = field(default_factory=set)
    held: list[Any] = field(default_factory=list)
    moving: list[Any] = field(default_factory=list)

    @property
    def is_clear(self) -> bool:
        """Whether all tracks have jumped, or the others had the time to."""
        first = self.fresh[self.index]
        if len(self.held) > _MOST_HELD or (first.top - first.first) * first.unit > _APART_S:
            return True
        # A few packets of each, since pictures come out of order.
        enough = all(track.count > _REORDER for track in self.fresh.values())
        return enough and self.alive <= set(self.fresh)


class Continuity:
    """Moves the packets of a container so that the times of every track go on where its clock jumps.

    A jump back, a counter that runs over, and a jump ahead of all tracks by many seconds become one
    offset for all tracks, each from its own first packet behind the jump on. A gap in one track while
    others go on stays. Packets are changed in place; those around a jump are held back until it is clear
    what it is of.

    Args:
        container: an open input.
        steady: whether a reading of all tracks has found that the clock does not jump; none is looked for
            then, which some tracks alone might seem to show.

    Attributes:
        jumps: those found so far.

    """

    def __init__(self, container: Any, *, steady: bool = False) -> None:
        self.jumps: list[Jump] = []
        self._is_steady = steady
        self._is_fragmented = container.format.name.startswith("mov,") and not any(
            stream.frames for stream in container.streams.video
        )
        self._may_jump = bool(int(container.format.flags) & _TS_DISCONT)
        self._tracks: dict[int, _Track] = {}
        self._offset_s = self._before_s = Fraction(0)  # since the latest jump, and before it
        self._pending: _Pending | None = None
        self._scenes = 0  # that have begun

    def begins(self, time_s: Fraction) -> bool:
        """Whether the picture of a time is the first behind a jump; asked of one picture after the other."""
        begun = sum(jump.at_s <= time_s for jump in self.jumps if not jump.is_wrap)
        begins, self._scenes = begun > self._scenes, begun
        return begins

    @property
    def offset_s(self) -> Fraction:
        """What is added to times behind the latest jump."""
        return self._offset_s

    def push(self, packet: Any) -> list[Any]:
        """The packets that can go on, in their order."""
        index = packet.stream.index
        track = self._tracks.get(index)
        if track is None:
            track = self._tracks[index] = self._new_track(packet)
        if self._is_fragmented:
            fresh = {} if self._pending is None else self._pending.fresh
            packet = fresh.get(index, track).shown(packet)
        if self._is_steady:
            track.see(packet)
            return [packet]
        return self._take(packet, index, track)

    def _take(self, packet: Any, index: int, track: _Track) -> list[Any]:
        if self._pending is not None:
            return self._hold(packet, track)
        by = track.jump(packet) if track.votes else 0
        if by and self._joins(track, packet):
            track = self._tracks[index] = track.begun_anew(self._offset_s)
        elif by:
            self._pending = _Pending(index, by, self._alive())
            return self._hold(packet, track)
        track.see(packet)
        move(packet, track.offset)
        return [packet]

    def flush(self) -> list[Any]:
        """What is still held back, at the end."""
        return [] if self._pending is None else self._settle(self._pending)

    def _new_track(self, packet: Any) -> _Track:
        stream = packet.stream
        votes = stream.type in _VOTERS and not stream.disposition & Disposition.attached_pic
        track = _Track(Fraction(packet.time_base or Fraction(1, 90_000)), votes)
        track.move_to(self._offset_s)
        return track

    def _alive(self) -> set[int]:
        """The tracks with sound and pictures that have not ended before."""
        ends_s = {index: t.end_s for index, t in self._tracks.items() if t.votes and t.count}
        head_s = max(ends_s.values())
        return {index for index, end_s in ends_s.items() if end_s >= head_s - _APART_S}

    def _joins(self, track: _Track, packet: Any) -> bool:
        """Whether a track jumps as others did before, so that their offset fits it."""
        time = _time(packet)
        if track.offset_s == self._offset_s or time is None:
            return False
        return abs(time * track.unit + self._offset_s - track.end_s) <= _JOIN_S

    def _hold(self, packet: Any, track: _Track) -> list[Any]:
        """Keep a packet back, unless the jump is clear now."""
        pending, index = self._pending, packet.stream.index
        assert pending is not None
        pending.held.append(packet)
        fresh = pending.fresh.get(index)
        if fresh is not None:
            _forget_old_dts(packet)
        if fresh is not None and fresh.jump(packet):
            pending.held.pop()
            ready = self._settle(pending)
            return [*ready, *self._take(packet, index, self._tracks[index])]  # jumps once more
        if fresh is None and track.votes and track.jump(packet):
            fresh = pending.fresh[index] = track.begun_anew(track.offset_s)
            _forget_old_dts(packet)
        if fresh is not None:
            fresh.see(packet)
            pending.moving.append(packet)
        elif track.votes:
            track.see(packet)
            move(packet, track.offset)
            pending.went_on.add(index)
        else:
            pending.moving.append(packet)
        return self._settle(pending) if pending.is_clear else []

    def _settle(self, pending: _Pending) -> list[Any]:
        """Decide what the jump was, and let the packets that were held back go."""
        self._pending = None
        old_end_s = self._tracks[pending.index].end_s
        others_go_on = bool(pending.went_on - set(pending.fresh))
        if self._is_gap(pending, others_go_on):
            for index, fresh in pending.fresh.items():
                self._tracks[index].go_on(fresh)
        else:
            self._begin_anew(pending, others_go_on)
        for packet in pending.moving:
            track = self._tracks[packet.stream.index]
            if track.votes:
                move(packet, track.offset)
            else:
                move(packet, self._nearest(packet, track, old_end_s))
        return pending.held

    def _is_gap(self, pending: _Pending, others_go_on: bool) -> bool:
        """Whether the tracks that jumped ahead only had nothing for a while."""
        if pending.by < 0:
            return False
        if others_go_on:
            return True
        gap_s = pending.by * self._tracks[pending.index].unit
        return len(pending.alive) == 1 and not self._may_jump and gap_s < _AHEAD_ALONE_S

    def _begin_anew(self, pending: _Pending, others_go_on: bool) -> None:
        """Give the tracks that jumped the offset by which none begins before its own end."""
        first = self._tracks[pending.index]
        needed_s = max(
            self._tracks[index].end_s - fresh.first * fresh.unit
            for index, fresh in pending.fresh.items()
        )
        by_s = pending.by * first.unit
        offset_s = -(-needed_s // first.unit) * first.unit
        wrap_s = first.offset_s + _wrap_near(offset_s - first.offset_s)
        is_wrap = by_s < 0 and wrap_s != first.offset_s
        self._before_s, self._offset_s = first.offset_s, wrap_s if is_wrap else offset_s
        for index, fresh in pending.fresh.items():
            fresh.move_to(self._offset_s)
            self._tracks[index] = fresh
        if not others_go_on:  # those that are late follow when they jump
            for index, track in self._tracks.items():
                if index not in pending.alive:
                    track.move_to(self._offset_s)
        at_s = min(t.first * t.unit for t in pending.fresh.values()) + self._offset_s
        self.jumps.append(Jump(at_s, by_s, is_wrap))

    def _nearest(self, packet: Any, track: _Track, near_s: Fraction) -> int:
        """Of a track of texts or data the offset, old or new, that brings a packet nearest to the jump."""
        time = _time(packet)
        old = round(self._before_s / track.unit)
        if time is None:
            return track.offset
        near = round(near_s / track.unit)
        return min((old, track.offset), key=lambda offset: abs(time + offset - near))


def _wrap_near(offset_s: Fraction) -> Fraction:
    """The length of a counter that explains an offset, 0 for none."""
    return next((s for s in _WRAPS_S if abs(offset_s - s) < _WRAP_TOLERANCE_S), Fraction(0))


def _time(packet: Any) -> int | None:
    time: int | None = packet.pts if packet.pts is not None else packet.dts
    return time


def shown(packet: Any) -> Any:
    """A copy of a packet without the mark that it is not to be shown."""
    made: Any = av.Packet(bytes(packet))
    made.stream, made.time_base = packet.stream, packet.time_base
    made.pts, made.dts, made.duration = packet.pts, packet.dts, packet.duration
    made.is_keyframe = packet.is_keyframe
    return made


def _forget_old_dts(packet: Any) -> None:
    """Of Matroska, FFmpeg makes decoding times from presentation times before and behind the jump."""
    if packet.pts is None or packet.dts is None:
        return
    if abs(packet.pts - packet.dts) * packet.time_base > _APART_S:
        packet.dts = None
