"""Whether an output holds all that its source held; read from the packets, decoded only where asked."""

from __future__ import annotations

import hashlib
from array import array
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass, field, replace
from fractions import Fraction
from pathlib import Path
from typing import Any

import av

from vderain.errors import SourceError
from vderain.media.carry.sidecar import place_beside
from vderain.media.carry.timecode import told_timecode
from vderain.media.frames.timing import FAR_S
from vderain.media.io.index import packets_of
from vderain.media.io.open import (
    codec_name,
    describe_track,
    is_container_track,
    open_container,
    pick_video,
)  # fmt: skip

_SHOWN = 3  # times that differ, in a message


def problems_of(
    source: str | Contents, output_path: str, *, frames: int | None = None, decode: bool = False
) -> list[str]:
    """What an output lacks of its source, one line each; an empty list is a verified output.

    Compared are the number of video frames (``frames``, where the source's packets are not what
    counts), the time of each as exactly as the container holds it, the end, the other tracks, which
    may stand beside the output, the content of all sound, and whether there is a timecode. Where the
    source has another number of packets, each frame must have the time of one of them. ``decode`` also
    decodes all video. Where a container holds no negative times, all may begin later by as much; a clock
    that begins far from zero may begin there instead.
    ``source`` is a path, or its contents where somebody has read it already.
    """
    try:
        known = source if isinstance(source, Contents) else Contents.read(source)
        output = Contents.read(output_path)
        failures = _failures(output_path) if decode else None
    except SourceError as error:
        return [str(error)]
    problems = [*_frame_problems(known, output, frames), *_track_problems(known, output)]
    if known.timecode and output.holds_timecode and output.timecode is None:
        problems.append(f"its timecode {known.timecode} is missing")
    if failures:
        problems.append(f"{failures} packets of its video cannot be decoded")
    elif failures is not None and failures < 0:
        problems.append(f"{-failures} frames of its video are not shown")
    return problems


@dataclass(slots=True)
class _Other:
    """A track beside the video; ``digest`` is fed with all payloads of sound, ``shown`` with those that play."""

    index: int
    kind: str
    codec: str
    name: str
    packets: int = 0
    digest: Any = field(default_factory=hashlib.blake2b)
    shown: Any = field(default_factory=hashlib.blake2b)

    @property
    def contents(self) -> set[bytes]:
        """What its sound is, with and without what an edit list hides, which outputs may leave out."""
        return {self.digest.digest(), self.shown.digest()}


@dataclass(slots=True)
class Contents:
    """What the packets of a file tell: ``times`` of the video in ``unit`` seconds, and of each other track."""

    path: str
    video_index: int
    unit: Fraction
    times: array[int] = field(default_factory=lambda: array("q"))  # in the order of decoding
    end: int = 0
    others: dict[int, _Other] = field(default_factory=dict)
    timecode: str | None = None
    holds_timecode: bool = False

    @classmethod
    def of(cls, container: Any, path: str) -> Contents:
        """Of an open file, before its first packet."""
        video = pick_video(container, path)
        contents = cls(path, video.index, Fraction(video.time_base))
        contents.timecode = told_timecode(container, video)
        contents.holds_timecode = not {"mp4", "matroska"}.isdisjoint(
            container.format.name.split(",")
        )
        for stream in container.streams:
            if stream.index != video.index and not is_container_track(stream):
                track = describe_track(stream)
                name = f"#{track.index} {track.kind} {track.codec}"
                contents.others[stream.index] = _Other(
                    track.index, track.kind, codec_name(stream), name
                )
        return contents

    @classmethod
    def read(cls, path: str) -> Contents:
        """Of a whole file. Raises SourceError."""
        with closing(open_container(path)) as container:
            contents = cls.of(container, path)
            for packet in packets_of(container, path):
                contents.add(packet)
        return contents

    def add(self, packet: Any) -> None:
        """Take the next packet."""
        if packet.stream.index == self.video_index:
            if packet.pts is not None and not packet.is_discard:
                self.times.append(packet.pts)
                self.end = max(self.end, packet.pts + (packet.duration or 0))
        elif (other := self.others.get(packet.stream.index)) is not None:
            other.packets += 1
            if other.kind == "audio":
                payload = _sound(bytes(packet), other.codec)
                other.digest.update(payload)
                if not packet.is_discard:
                    other.shown.update(payload)

    def sorted(self) -> Contents:
        """With the times in the order in which the frames are shown."""
        return replace(self, times=array("q", sorted(self.times)))


def _rising(times: array[int]) -> Iterator[int]:
    """Times as frames get them: one that another frame had before lies behind it."""
    last: int | None = None
    for time in times:
        last = time if last is None else max(time, last + 1)
        yield last


def _sound(payload: bytes, codec: str) -> bytes:
    """A packet of sound without the header that MPEG-TS puts before each of AAC."""
    if codec == "aac" and len(payload) > 7 and payload[0] == 0xFF and payload[1] >> 4 == 0xF:
        return payload[7 if payload[1] & 1 else 9 :]
    return payload


def _frame_problems(source: Contents, output: Contents, frames: int | None) -> Iterator[str]:
    source, output = source.sorted(), output.sorted()
    source.times = array("q", _rising(source.times))
    wanted = len(source.times) if frames is None else frames
    if len(output.times) != wanted:
        yield f"it has {len(output.times)} video frames instead of {wanted}"
    if not output.times or not source.times:
        return
    exact = (source.unit / output.unit).denominator == 1
    tolerance = Fraction(0) if exact else output.unit
    begun = source.times[0] * source.unit
    late = output.times[0] * output.unit - begun
    shifts = [(Fraction(0), tolerance)]
    if late > tolerance or (late < 0 and begun >= FAR_S):
        shifts.append((late, tolerance + output.unit))
    if len(output.times) != len(source.times):
        # The first frame may be one of those that are missing, so a late one alone tells of no shift.
        wrong = min(_strangers(source, output, *shift) for shift in shifts)
        if wrong:
            yield f"{wrong} video frames have a time that no frame of the source has"
        return
    shift, tolerance = shifts[-1]
    yield from _time_problems(source, output, shift, tolerance)
    yield from _end_problems(source, output, shift)


def _time_problems(
    source: Contents, output: Contents, shift: Fraction, tolerance: Fraction
) -> Iterator[str]:
    wrong = [
        place
        for place, (ours, theirs) in enumerate(zip(output.times, source.times, strict=True))
        if abs(ours * output.unit - theirs * source.unit - shift) > tolerance
    ]
    if wrong:
        places = ", ".join(map(str, wrong[:_SHOWN]))
        more = ", ..." if len(wrong) > _SHOWN else ""
        yield f"{len(wrong)} video frames have another time than in the source (frames {places}{more})"


def _strangers(source: Contents, output: Contents, shift: Fraction, tolerance: Fraction) -> int:
    """How many frames of the output no frame of the source, each taken once, has the time of."""
    strangers = place = 0
    for ours in output.times:
        at = ours * output.unit - shift
        while place < len(source.times) and source.times[place] * source.unit < at - tolerance:
            place += 1  # not in the output
        if place < len(source.times) and source.times[place] * source.unit <= at + tolerance:
            place += 1
        else:
            strangers += 1
    return strangers


def _end_problems(source: Contents, output: Contents, shift: Fraction) -> Iterator[str]:
    """Whether the last frame stays as long; containers that store no durations guess them."""
    count = len(source.times)
    if count < 2:
        return
    frame_s = (source.times[-1] - source.times[0]) * source.unit / (count - 1)
    short_s = source.end * source.unit + shift - output.end * output.unit
    if abs(short_s) > frame_s * Fraction(3, 2):
        yield f"its video ends {float(abs(short_s)):.3f} s {'early' if short_s > 0 else 'late'}"


def _track_problems(source: Contents, output: Contents) -> Iterator[str]:
    left = list(output.others.values())
    for track in source.others.values():
        # A codec may have been converted for its container, but not that of sound.
        found = next(
            (
                other
                for other in left
                if other.kind == track.kind
                and (track.kind != "audio" or other.codec == track.codec)
            ),
            None,
        )
        if place_beside(Path(output.path), track.index, track.codec).exists():
            continue
        if found is None:
            if track.packets or track.kind == "attachment":
                yield f"track {track.name} is missing"
            continue
        left.remove(found)
        if track.kind == "audio" and not track.contents & found.contents:
            yield f"track {track.name} has another content"


def _failures(path: str) -> int:
    """Packets of the video that do not decode; negative, how many pictures are missing otherwise."""
    failures = sent = shown = 0
    with closing(open_container(path)) as container:
        stream = pick_video(container, path)
        context = stream.codec_context
        context.thread_type = "AUTO"
        for packet in packets_of(container, path, stream):
            sent += not packet.is_discard
            try:
                shown += _intact(context.decode(packet))
            except av.FFmpegError:
                failures += 1
        try:
            shown += _intact(context.decode(None))
        except av.FFmpegError:
            failures += 1
    return failures or min(0, shown - sent)


def _intact(pictures: list[Any]) -> int:
    return sum(not picture.is_corrupt for picture in pictures)
