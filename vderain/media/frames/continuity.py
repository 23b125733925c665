"""One clock for all tracks: where a container's time jumps, every track continues without a gap."""

from __future__ import annotations

from dataclasses import dataclass, field
from fractions import Fraction
from typing import Any

import av
from av.stream import Disposition

from vderain.media.frames.timing import move

_AHEAD_S = Fraction(10)  # jump of all tracks; longer than a pause between two frames of a recording
_AHEAD_ALONE_S = Fraction(60)  # the same of a video without sound, whose frames may last long
_AHEAD_STEPS = 20  # the same in distances of frames, for video of one frame every few seconds
_BACK_S = Fraction(1, 5)
_REORDER = 17  # frames; the most by which a codec stores a frame late
_APART_S = Fraction(3)  # the most by which a file stores packets of one time apart
_JOIN_S = Fraction(5)  # a track that jumps later takes an offset that puts it this near to its end
_MOST_HELD = 20_000  # packets
# Counters of MPEG-TS and RTP at 90 kHz, of FLV at 1 kHz.
_WRAPS_S = (Fraction(2**33, 90_000), Fraction(2**32, 90_000), Fraction(2**32, 1000))
_WRAP_TOLERANCE_S = Fraction(1)
_VOTERS = ("video", "audio")  # kinds whose packets are regular, so that a gap is a jump
_TS_DISCONT = 0x200  # FFmpeg's AVFMT_TS_DISCONT: times of the format may jump


@dataclass(frozen=True, slots=True)
class Jump:
    """A jump of a container's clock: it was set, restarted, or its counter wrapped.

    Attributes:
        at_s: its time, in seconds of the continued clock.
        by_s: the jump of the container's clock, negative for backwards.
        is_wrap: whether only a counter wrapped, so that nothing is missing and no scene ends.

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
    """The times of one track so far, in its own units, as the container has them."""

    unit: Fraction
    votes: bool  # whether a gap in it is a jump
    offset_s: Fraction = Fraction(0)
    offset: int = 0  # the same in units
    first: int = 0
    top: int = 0  # latest time
    end: int = 0  # latest end
    last_dts: int | None = None
    count: int = 0
    is_back: bool = False  # whether fragments with an earlier clock follow

    @property
    def step(self) -> Fraction:
        """Mean distance of packets."""
        return Fraction(self.top - self.first, max(1, self.count - 1))

    @property
    def end_s(self) -> Fraction:
        """End of the track so far, in the continued clock."""
        end = self.end if self.end > self.top else self.top + self.step
        return end * self.unit + self.offset_s

    def see(self, packet: Any) -> None:
        """Note the time of the next packet."""
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
        """The packet, or a copy that is shown: FFmpeg hides fragments after a clock was set back."""
        if not packet.is_discard or packet.dts is None:
            self.is_back = False
            return packet
        self.is_back |= self.last_dts is not None and packet.dts <= self.last_dts
        return shown(packet) if self.is_back else packet

    def jump(self, packet: Any) -> int:
        """By how much a packet's time exceeds what is possible without a jump; 0 where it continues."""
        time = _time(packet)
        if time is None or not self.count or packet.is_discard:
            return 0
        dts, last = packet.dts, self.last_dts
        if self.top <= time <= self.end and dts is not None and last is not None and dts >= last:
            return 0  # nearly always; the fractions below cost time
        ahead = time - self.end
        if ahead > 0:
            limit = max(_AHEAD_S / self.unit, _AHEAD_STEPS * self.step)
            return ahead if ahead > limit else 0
        back = _BACK_S / self.unit
        if dts is not None and last is not None and dts < last - max(back, 3 * self.step):
            return time - self.end
        if time < self.top - back:
            # Images are out of order only between keyframes.
            late = back if packet.is_keyframe else max(5 * back, _REORDER * self.step)
            if time < self.top - late:
                return time - self.end
        return 0

    def move_to(self, offset_s: Fraction) -> None:
        """Use another offset from now on."""
        self.offset_s = offset_s
        self.offset = round(offset_s / self.unit)

    def restarted(self, offset_s: Fraction) -> _Track:
        """A new state of the same track, after a jump."""
        state = _Track(self.unit, self.votes)
        state.move_to(offset_s)
        state.is_back = self.is_back
        return state

    def go_on(self, other: _Track) -> None:
        """Adopt another state of the same track."""
        self.top, self.end = max(self.top, other.top), max(self.end, other.end)
        self.last_dts, self.count = other.last_dts, self.count + other.count


@dataclass(slots=True)
class _Pending:
    """A jump of which it is not known yet which tracks it concerns.

    ``held`` are packets in their order; those of tracks that have not jumped have their times already, and the
    others are in ``moving``.
    """

    index: int  # of the track that jumped first
    by: int  # in its units
    alive: set[int]  # tracks that had not ended
    fresh: dict[int, _Track] = field(default_factory=dict)  # states after the jump
    went_on: set[int] = field(default_factory=set)
    held: list[Any] = field(default_factory=list)
    moving: list[Any] = field(default_factory=list)

    @property
    def is_clear(self) -> bool:
        """Whether all tracks have jumped, or the others had time to."""
        first = self.fresh[self.index]
        if len(self.held) > _MOST_HELD or (first.top - first.first) * first.unit > _APART_S:
            return True
        # A few packets of each, since images are out of order.
        enough = all(track.count > _REORDER for track in self.fresh.values())
        return enough and self.alive <= set(self.fresh)


class Continuity:
    """Changes the times of a container's packets so that every track continues where its clock jumps.

    A jump back, a wrapped counter, and a jump ahead of all tracks by many seconds give one offset for all
    tracks, which applies to each from its first packet after the jump. A gap in one track while others continue
    is kept. Packets are changed in place; those near a jump are held back until its tracks are known.

    Args:
        container: an open input.
        steady: whether a reading of all tracks has found no jump; jumps are then not looked for, since some
        tracks alone might seem to have one.

    Attributes:
        jumps: found so far.

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
        self._scenes = 0  # number of jumps passed

    def begins(self, time_s: Fraction) -> bool:
        """Whether the image with this time is the first after a jump; called for one image after the other."""
        begun = sum(jump.at_s <= time_s for jump in self.jumps if not jump.is_wrap)
        begins, self._scenes = begun > self._scenes, begun
        return begins

    @property
    def offset_s(self) -> Fraction:
        """The offset of times after the latest jump."""
        return self._offset_s

    def push(self, packet: Any) -> list[Any]:
        """The packets that are released, in order."""
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
            track = self._tracks[index] = track.restarted(self._offset_s)
        elif by:
            self._pending = _Pending(index, by, self._alive())
            return self._hold(packet, track)
        track.see(packet)
        move(packet, track.offset)
        return [packet]

    def flush(self) -> list[Any]:
        """The packets still held back, at the end."""
        return [] if self._pending is None else self._settle(self._pending)

    def _new_track(self, packet: Any) -> _Track:
        stream = packet.stream
        votes = stream.type in _VOTERS and not stream.disposition & Disposition.attached_pic
        track = _Track(Fraction(packet.time_base or Fraction(1, 90_000)), votes)
        track.move_to(self._offset_s)
        return track

    def _alive(self) -> set[int]:
        """Tracks of sound and video that have not ended."""
        ends_s = {index: t.end_s for index, t in self._tracks.items() if t.votes and t.count}
        head_s = max(ends_s.values())
        return {index for index, end_s in ends_s.items() if end_s >= head_s - _APART_S}

    def _joins(self, track: _Track, packet: Any) -> bool:
        """Whether a track jumps as others did before, so that their offset fits."""
        time = _time(packet)
        if track.offset_s == self._offset_s or time is None:
            return False
        return abs(time * track.unit + self._offset_s - track.end_s) <= _JOIN_S

    def _hold(self, packet: Any, track: _Track) -> list[Any]:
        """Hold a packet back, unless the jump is clear now."""
        pending, index = self._pending, packet.stream.index
        assert pending is not None
        pending.held.append(packet)
        fresh = pending.fresh.get(index)
        if fresh is not None:
            _forget_old_dts(packet)
        if fresh is not None and fresh.jump(packet):
            pending.held.pop()
            ready = self._settle(pending)
            # The track may jump again.
            return [*ready, *self._take(packet, index, self._tracks[index])]
        if fresh is None and track.votes and track.jump(packet):
            fresh = pending.fresh[index] = track.restarted(track.offset_s)
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
        """Decide which tracks jumped, and release the packets held back."""
        self._pending = None
        old_end_s = self._tracks[pending.index].end_s
        others_go_on = bool(pending.went_on - set(pending.fresh))
        if self._is_gap(pending, others_go_on):
            for index, fresh in pending.fresh.items():
                self._tracks[index].go_on(fresh)
        else:
            self._restart(pending, others_go_on)
        for packet in pending.moving:
            track = self._tracks[packet.stream.index]
            if track.votes:
                move(packet, track.offset)
            else:
                move(packet, self._nearest(packet, track, old_end_s))
        return pending.held

    def _is_gap(self, pending: _Pending, others_go_on: bool) -> bool:
        """Whether the tracks that jumped ahead only had a pause."""
        if pending.by < 0:
            return False
        if others_go_on:
            return True
        gap_s = pending.by * self._tracks[pending.index].unit
        return len(pending.alive) == 1 and not self._may_jump and gap_s < _AHEAD_ALONE_S

    def _restart(self, pending: _Pending, others_go_on: bool) -> None:
        """Give the tracks that jumped the smallest offset with which none begins before its own end."""
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
        if not others_go_on:  # late tracks follow when they jump
            for index, track in self._tracks.items():
                if index not in pending.alive:
                    track.move_to(self._offset_s)
        at_s = min(t.first * t.unit for t in pending.fresh.values()) + self._offset_s
        self.jumps.append(Jump(at_s, by_s, is_wrap))

    def _nearest(self, packet: Any, track: _Track, near_s: Fraction) -> int:
        """For a track of text or data, the old or new offset with which a packet is nearest to the jump."""
        time = _time(packet)
        old = round(self._before_s / track.unit)
        if time is None:
            return track.offset
        near = round(near_s / track.unit)
        return min((old, track.offset), key=lambda offset: abs(time + offset - near))


def _wrap_near(offset_s: Fraction) -> Fraction:
    """The length of a counter that explains an offset; 0 for none."""
    return next((s for s in _WRAPS_S if abs(offset_s - s) < _WRAP_TOLERANCE_S), Fraction(0))


def _time(packet: Any) -> int | None:
    time: int | None = packet.pts if packet.pts is not None else packet.dts
    return time


def shown(packet: Any) -> Any:
    """A copy of a packet without the flag that hides it."""
    made: Any = av.Packet(bytes(packet))
    made.stream, made.time_base = packet.stream, packet.time_base
    made.pts, made.dts, made.duration = packet.pts, packet.dts, packet.duration
    made.is_keyframe = packet.is_keyframe
    return made


def _forget_old_dts(packet: Any) -> None:
    """Correct decoding times that FFmpeg derives, for Matroska, from presentation times on both sides of a jump."""
    if packet.pts is None or packet.dts is None:
        return
    if abs(packet.pts - packet.dts) * packet.time_base > _APART_S:
        packet.dts = None
