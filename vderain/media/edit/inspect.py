"""Reads the packets of a source once; the result serves to cut it and to verify its output."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

from vderain.frames import DEFAULT_RATE
from vderain.media.frames.continuity import Continuity, Jump
from vderain.media.frames.frame_rate import believable_rate, rate_of_first
from vderain.media.io.index import Indexer, VideoIndex, packets_of
from vderain.media.io.length import Length
from vderain.media.io.open import open_container, pick_video
from vderain.media.io.survey import Survey
from vderain.media.verify.contents import Contents


@dataclass(frozen=True, slots=True)
class Inspected:
    """The result of reading all packets of a source.

    Attributes:
        index: the places where its video can be cut.
        contents: the contents that an output must hold.
        rate: frames per second.
        losses: parts missing at its end.

    """

    index: VideoIndex
    contents: Contents
    rate: Fraction | None
    losses: tuple[str, ...] = ()

    @property
    def survey(self) -> Survey:
        """The same as a survey, for opening the source."""
        return Survey(self.index.frames, self._length_s, self.rate, self.index.jumps)

    @property
    def _length_s(self) -> Fraction:
        gops = self.index.gops
        return (gops[-1].end_pts - gops[0].start_pts) * self.index.time_base


def inspect(path: str) -> Inspected:
    """Read all packets of a file, without decoding.

    Raises SourceError where it cannot be read, or its frames have no times.
    """
    with closing(open_container(path)) as container, closing(Inspector(path)) as inspector:
        clock = Continuity(container)
        for packet in packets_of(container, path, clock=clock):
            inspector.add(packet)
        return inspector.result(clock.jumps)


class Inspector:
    """Inspects packets of a file that the caller reads, all of them. Raises as ``inspect``."""

    def __init__(self, path: str) -> None:
        self._container = open_container(path)  # for its header
        try:
            self._stream = pick_video(self._container, path)
            self._indexer = Indexer(self._stream, path)
            self._contents = Contents.of(self._container, path)
        except BaseException:
            self._container.close()
            raise
        self._ends = _Ends()

    def add(self, packet: Any) -> None:
        """Add the next packet."""
        of_video = packet.stream.index == self._stream.index
        self._contents.add(packet)
        self._ends.add(packet, of_video=of_video)
        if of_video:
            self._indexer.add(packet)

    def result(self, jumps: Sequence[Jump]) -> Inspected:
        """The result, after the last packet, with these jumps of the file's clock."""
        index = self._indexer.index(jumps)
        rate = believable_rate(self._stream)
        rate = rate or rate_of_first(self._contents.times, self._contents.unit)
        length = Length(self._container, self._stream, rate)
        losses = () if jumps else tuple(self._ends.losses(length, rate))
        return Inspected(index, self._contents, rate, losses)

    def close(self) -> None:
        """Close the file."""
        self._container.close()


class _Ends:
    """The end of the last track."""

    def __init__(self) -> None:
        self._frames = 0
        self._last_s = self._end_s = self._others_s = Fraction(0)

    def add(self, packet: Any, *, of_video: bool) -> None:
        time = packet.pts if packet.pts is not None else packet.dts
        if time is None or not packet.time_base:
            return
        unit = Fraction(packet.time_base)
        end_s = (time + (packet.duration or 0)) * unit
        if not of_video:
            self._others_s = max(self._others_s, end_s)
            return
        self._frames += 1
        self._last_s = max(self._last_s, time * unit)
        self._end_s = max(self._end_s, end_s)

    def losses(self, length: Length, rate: Fraction | None) -> list[str]:
        """Losses: parts that the container announced and did not have."""
        is_known = self._end_s > self._last_s
        length.add(
            self._frames, self._end_s if is_known else self._last_s + 1 / (rate or DEFAULT_RATE)
        )
        length.passed(self._others_s)
        return list(length.losses(failures=0, whole=True))
