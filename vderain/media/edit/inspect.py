"""A source read once, before it is cut: what its packets tell serves to cut it and to verify the output."""

from __future__ import annotations

from contextlib import closing
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

from vderain.media.frames.continuity import Continuity
from vderain.media.io.index import Indexer, VideoIndex, packets_of
from vderain.media.io.length import Length
from vderain.media.io.open import open_container, pick_video
from vderain.media.io.survey import Survey, believable_rate, rate_of
from vderain.media.verify.contents import Contents

_FIRST = 120  # frames whose distances tell the rate, where the container does not
_REORDER = 16  # the latest of them may still have others before them


@dataclass(frozen=True, slots=True)
class Inspected:
    """What one reading of all packets of a source told.

    Attributes:
        index: where its video can be cut.
        contents: what an output must hold.
        rate: frames per second.
        losses: what is missing at its end.

    """

    index: VideoIndex
    contents: Contents
    rate: Fraction | None
    losses: tuple[str, ...] = ()

    @property
    def survey(self) -> Survey:
        """The same in the words of a source that is opened."""
        return Survey(self.index.frames, self._length_s, self.rate, self.index.jumps)

    @property
    def _length_s(self) -> Fraction:
        gops = self.index.gops
        return (gops[-1].end_pts - gops[0].start_pts) * self.index.time_base


def inspect(path: str) -> Inspected:
    """Read all packets of a file; decodes nothing.

    Raises SourceError for what cannot be read, or whose frames have no times of their own.
    """
    with closing(open_container(path)) as container:
        stream = pick_video(container, path)
        indexer, contents = Indexer(stream, path), Contents.of(container, path)
        clock, ends = Continuity(container), _Ends()
        for packet in packets_of(container, path, clock=clock):
            contents.add(packet)
            ends.add(packet, of_video=packet.stream.index == stream.index)
            if packet.stream.index == stream.index:
                indexer.add(packet)
        index = indexer.index(clock)
        rate = believable_rate(stream) or _rate(contents)
        losses = () if clock.jumps else tuple(ends.losses(Length(container, stream, rate), rate))
        return Inspected(index, contents, rate, losses)


class _Ends:
    """Where the tracks end."""

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
        """What the container promised and did not hold."""
        is_known = self._end_s > self._last_s
        length.add(
            self._frames, self._end_s if is_known else self._last_s + 1 / (rate or Fraction(25))
        )
        length.passed(self._others_s)
        return list(length.losses(failures=0, whole=True))


def _rate(contents: Contents) -> Fraction | None:
    """By the first frames, without those that may have others before them."""
    first = sorted(contents.times[:_FIRST])
    return rate_of(first[:-_REORDER] if len(first) == _FIRST else first, contents.unit)
