"""The part of an input that a source reads, and the packet at which decoding begins."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

import av
from av.stream import Discard

from vderain.frames import DEFAULT_RATE
from vderain.media.frames.continuity import Continuity
from vderain.media.io.index import nal_format, packets_of
from vderain.media.io.open import can_reopen, codec_name, open_container, seconds
from vderain.options import RunOptions

_TRIAL_MARGINS_S = (1, 10, 60)  # the first one includes sound stored before its image
_MARGINS_S = (0, 2, 10, 60, 600)  # before its first frame, in which an exact entry is searched
_REORDER = 16  # packets; the most by which a codec stores an image late


@dataclass(frozen=True, slots=True)
class Span:
    """The part of the input that a run reads, in seconds of the container's time.

    With a start, all tracks begin there and are moved by the same ``shift``, so that the output begins near
    zero; without a start nothing is moved.
    """

    start_s: Fraction | None = None
    end_s: Fraction | None = None

    @classmethod
    def of(cls, run: RunOptions, origin_s: Fraction) -> Span:
        """The span that the options ask for, in a container whose time begins at ``origin_s``."""
        begin = origin_s + Fraction(run.start_s).limit_denominator(1_000_000)
        end = None
        if run.duration_s is not None:
            end = begin + Fraction(run.duration_s).limit_denominator(1_000_000)
        return cls(begin if run.start_s else None, end)

    @property
    def shift_s(self) -> Fraction:
        """Is subtracted from every time."""
        return self.start_s or Fraction(0)

    def shift(self, time_base: Fraction) -> int:
        """The shift in units of a track."""
        return round(self.shift_s / time_base)

    def move(self, packet: Any, time_base: Fraction) -> None:
        """Subtract the shift from a packet's times."""
        if shift := self.shift(time_base):
            packet.pts = packet.pts - shift if packet.pts is not None else None
            packet.dts = packet.dts - shift if packet.dts is not None else None

    @property
    def note(self) -> str:
        """The cut, for the report; "" without one."""
        if self.start_s is None:
            return ""
        return f"all tracks were cut at {float(self.start_s):g} s and moved back by as much"

    def emptiness(self, container: Any) -> str:
        """Why a source is refused that has no image in the span."""
        if self == Span():
            return "not one image of its video can be decoded"
        length_s = seconds(container.duration, Fraction(1, av.time_base))
        lasts = "" if length_s is None else f"; it lasts {length_s:.3f} s"
        return f"no image lies in the chosen time{lasts}"

    def before(self, pts: int, time_base: Fraction) -> bool:
        """Whether a time lies before the span."""
        return self.start_s is not None and pts < round(self.start_s / time_base)

    def shortened(self, packet: Any, time_base: Fraction) -> int:
        """The time of a text, which begins with the span where it is shown over the start."""
        pts: int = packet.pts if packet.pts is not None else packet.dts
        if not self.before(pts, time_base) or self.start_s is None:
            return pts
        start = round(self.start_s / time_base)
        if pts + (packet.duration or 0) > start:
            packet.duration -= start - pts
            packet.pts = packet.dts = pts = start
        return pts

    def after(self, pts: int, time_base: Fraction) -> bool:
        """Whether a time lies behind the span."""
        return self.end_s is not None and pts >= round(self.end_s / time_base)

    def frames(self, time_base: Fraction) -> FrameSpan:
        """The frames of the span, in a video with this unit."""
        return FrameSpan(
            None if self.start_s is None else round(self.start_s / time_base),
            None if self.end_s is None else round(self.end_s / time_base),
        )

    def chapters(self, container: Any) -> Iterator[Any]:
        """The chapters of a container inside the span, moved with it."""
        for chapter in container.chapters():
            unit = Fraction(chapter["time_base"] or Fraction(1, 1000))
            start, end = chapter["start"], chapter["end"]
            if self.after(start, unit) or self.before(end - 1, unit):
                continue
            shift = self.shift(unit)
            yield {**chapter, "start": max(0, start - shift), "end": end - shift}


@dataclass(frozen=True, slots=True)
class FrameSpan:
    """The frames with ``start_pts <= pts < end_pts``, in units of the video; None is the first frame, or the end.

    Up to ``before`` earlier and ``after`` later frames are included, so that clips at the cut equal those of an
    uninterrupted run. ``seeks`` is False for a file whose clock jumps, where seeking finds no times: it is read
    from the beginning.
    """

    start_pts: int | None = None
    end_pts: int | None = None
    before: int = 0
    after: int = 0
    seeks: bool = True

    def is_early(self, pts: int) -> bool:
        """Whether a time lies before the span."""
        return self.start_pts is not None and pts < self.start_pts

    def is_late(self, pts: int) -> bool:
        """Whether a time lies behind the span."""
        return self.end_pts is not None and pts >= self.end_pts

    def emptiness(self, _container: Any) -> str:
        """Why a source is refused that has no image in the span, which is that of a segment."""
        return f"no image lies in the segment from {self.start_pts} to {self.end_pts}"

    def __contains__(self, pts: int) -> bool:
        return not self.is_early(pts) and not self.is_late(pts)


@dataclass(frozen=True, slots=True)
class Entry:
    """The place in the file at which decoding begins.

    Attributes:
        seek_pts: the time to seek to; None reads from the beginning.
        key_pts: of the first keyframe to decode; None for the first in the file.

    """

    seek_pts: int | None = None
    key_pts: int | None = None

    def go(self, container: Any, stream: Any) -> None:
        """Seek there, unless reading begins with the file."""
        if self.seek_pts is not None:
            container.seek(self.seek_pts, stream=stream)

    def is_before(self, packet: Any) -> bool:
        """Whether a packet of the video comes before that keyframe, so that it is not decoded."""
        return self.key_pts is not None and not (packet.is_keyframe and packet.pts == self.key_pts)

    def leads(self, pts: int | None) -> bool:
        """Whether an image comes before the keyframe and was decoded without its references."""
        return self.key_pts is not None and pts is not None and pts < self.key_pts


def leave_out_others(container: Any, stream: Any) -> None:
    """Let FFmpeg skip the packets of all tracks but one."""
    for other in container.streams:
        if other.index != stream.index:
            other.discard = Discard.all


def tried_entry(path: str, stream: Any, start_s: Fraction) -> Entry:
    """An entry from which an image before ``start_s`` is decoded; the beginning where there is none.

    Some containers seek to a packet that decodes only later, and there may be no image before the start, so
    it is tried with a second container.
    """
    unit = Fraction(stream.time_base or Fraction(1, 90_000))
    for margin_s in _TRIAL_MARGINS_S if can_reopen(path) else ():
        target = int(max(Fraction(0), start_s - margin_s) / unit)
        try:
            with open_container(path) as trial:
                video = trial.streams[stream.index]
                trial.seek(target, stream=video)
                image: Any = next(trial.decode(video), None)
        except av.FFmpegError:
            continue
        if image is not None and (image.pts or 0) * unit <= start_s:
            return Entry(target)
    return Entry()


def exact_entry(
    path: str,
    stream_index: int,
    start_pts: int,
    needed: int = 0,
    rate: Fraction | None = None,
    *,
    seeks: bool = True,
) -> Entry:
    """The entry for images from ``start_pts`` on, with at least ``needed`` frames before them.

    It is the beginning of the file where no later keyframe serves. ``seeks`` is that of FrameSpan.
    """
    with closing(open_container(path)) as container:
        stream: Any = container.streams[stream_index]
        if not seeks:
            clock = Continuity(container)
            return Entry(key_pts=_latest_key(container, stream, clock, path, start_pts, needed))
        leave_out_others(container, stream)
        unit = Fraction(stream.time_base)
        for margin_s in _MARGINS_S:
            back_s = margin_s + Fraction(3, 2) * needed / (rate or DEFAULT_RATE)
            target = start_pts - round(back_s / unit)
            if stream.start_time is None or target <= stream.start_time:
                return Entry()
            try:
                container.seek(target, stream=stream)
                clock = Continuity(container, steady=True)
                key_pts = _latest_key(container, stream, clock, path, start_pts, needed)
            except av.FFmpegError:
                return Entry()
            if key_pts is not None:
                return Entry(target, key_pts)
    return Entry()


def _latest_key(
    container: Any, stream: Any, clock: Continuity, path: str, start_pts: int, needed: int
) -> int | None:
    nals = nal_format(stream, codec_name(stream), path)
    keys: list[int] = []
    times: list[int] = []
    behind = 0
    for packet in packets_of(container, path, stream, clock=clock):
        if packet.pts is None:
            return None
        is_key = packet.is_keyframe and packet.pts <= start_pts
        if is_key and (nals is None or nals.is_entry(nals.split(bytes(packet)))):
            keys.append(packet.pts)
        if keys and not packet.is_discard:
            times.append(packet.pts)
        behind += packet.pts >= start_pts
        if behind > _REORDER:
            break
    early = [pts for pts in times if pts < start_pts]
    fitting = (key for key in reversed(keys) if sum(pts >= key for pts in early) >= needed)
    return next(fitting, None)
