"""The contents of a file by its packets: times of its frames, and its other tracks."""

from __future__ import annotations

import hashlib
from array import array
from contextlib import closing
from dataclasses import dataclass, field, replace
from fractions import Fraction
from typing import Any

from vderain.media.carry.timecode import container_timecode
from vderain.media.io.index import packets_of
from vderain.media.io.open import (
    codec_name,
    describe_track,
    is_container_track,
    open_container,
    pick_video,
)  # fmt: skip


@dataclass(slots=True)
class Other:
    """A track other than the video; ``digest`` is of all payloads of sound, ``shown`` of those that are played."""

    index: int
    kind: str
    codec: str
    name: str
    packets: int = 0
    unit: Fraction | None = None  # of the times of what plays, in seconds
    begin: int | None = None
    end: int = 0
    shift_s: Fraction = Fraction(0)
    digest: Any = field(default_factory=hashlib.blake2b)
    shown: Any = field(default_factory=hashlib.blake2b)

    def play(self, packet: Any) -> None:
        """Update when the track begins and ends."""
        begin, unit = packet.pts, packet.time_base
        if begin is None or packet.is_discard or not unit:
            return
        end = begin + (packet.duration or 0)
        if self.begin is None:
            self.unit, self.begin, self.end = unit, begin, end
            return
        if unit != self.unit:  # in files that are joined
            begin, end = round(begin * unit / self.unit), round(end * unit / self.unit)
        self.begin, self.end = min(self.begin, begin), max(self.end, end)

    def move(self, shift_s: Fraction) -> None:
        """Shift all times to be later by this much."""
        self.shift_s += shift_s

    @property
    def span_s(self) -> tuple[Fraction, Fraction] | None:
        """When it begins and ends; None where nothing plays."""
        if self.begin is None or self.unit is None:
            return None
        return self.begin * self.unit + self.shift_s, self.end * self.unit + self.shift_s

    @property
    def contents(self) -> set[bytes]:
        """Digests of its sound, with and without packets that an edit list hides, which outputs may leave out."""
        return {self.digest.digest(), self.shown.digest()}


@dataclass(slots=True)
class Contents:
    """The contents of a file: ``times`` of the video in ``unit`` seconds, and each other track."""

    path: str
    video_index: int
    unit: Fraction
    times: array[int] = field(default_factory=lambda: array("q"))  # in the order of decoding
    end: int = 0
    others: dict[int, Other] = field(default_factory=dict)
    timecode: str | None = None
    holds_timecode: bool = False

    @classmethod
    def of(cls, container: Any, path: str) -> Contents:
        """Of an open file, before its first packet."""
        video = pick_video(container, path)
        contents = cls(path, video.index, Fraction(video.time_base))
        contents.timecode = container_timecode(container, video)
        contents.holds_timecode = not {"mp4", "matroska"}.isdisjoint(
            container.format.name.split(",")
        )
        for stream in container.streams:
            if stream.index != video.index and not is_container_track(stream):
                track = describe_track(stream)
                name = f"#{track.index} {track.kind} {track.codec}"
                contents.others[stream.index] = Other(
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

    def show(self, pts: int, duration: int) -> None:
        """Add a frame of the video, in its units."""
        end = pts + duration
        self.end = max(self.end, end) if self.times else end
        self.times.append(pts)

    def add(self, packet: Any, index: int | None = None) -> None:
        """Add the next packet; ``index`` replaces the packet's own, of another file."""
        index = packet.stream.index if index is None else index
        if index == self.video_index:
            if packet.pts is not None and not packet.is_discard:
                self.show(packet.pts, packet.duration or 0)
        elif (other := self.others.get(index)) is not None:
            other.packets += 1
            other.play(packet)
            if other.kind == "audio":
                payload = _sound(bytes(packet), other.codec)
                other.digest.update(payload)
                if not packet.is_discard:
                    other.shown.update(payload)

    def sorted(self) -> Contents:
        """With the times in the order of display."""
        return replace(self, times=array("q", sorted(self.times)))


def _sound(payload: bytes, codec: str) -> bytes:
    """A packet of sound without the header that MPEG-TS puts before AAC."""
    if codec == "aac" and len(payload) > 7 and payload[0] == 0xFF and payload[1] >> 4 == 0xF:
        return payload[7 if payload[1] & 1 else 9 :]
    return payload
