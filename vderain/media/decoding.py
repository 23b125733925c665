"""Packets to pictures: a decoder that survives damage, and a deinterlacer."""

from __future__ import annotations

from collections.abc import Iterator
from fractions import Fraction
from typing import Any

import av
from av.filter import Graph

from vderain.errors import SourceError
from vderain.interfaces import SourceStats
from vderain.media.timing import FrameClock

MAX_CONSECUTIVE_FAILURES = 500


class Decoder:
    """Decodes one stream; damaged packets are counted and passed over, and the decoder lives on.

    ``take_gap`` tells whether pictures were lost or damaged since it was asked last. Raises SourceError after
    MAX_CONSECUTIVE_FAILURES packets in a row without a picture.
    """

    def __init__(self, stream: Any, name: str, stats: SourceStats, clock: FrameClock) -> None:
        self._context = stream.codec_context
        self._context.thread_type = "AUTO"
        self._name = name
        self._stats = stats
        self._clock = clock
        self._failures = 0
        self._gap = False

    def decode(self, packet: av.Packet[Any]) -> list[av.VideoFrame]:
        """The pictures that a packet completes, in presentation order; an empty packet flushes."""
        if packet.size:
            self._clock.sent(packet.dts)
        try:
            pictures: list[av.VideoFrame] = self._context.decode(packet)
        except av.FFmpegError as error:
            self.failed(error)
            self._clock.lost()
            return []
        if pictures:
            self._failures = 0
        corrupt = sum(picture.is_corrupt for picture in pictures)
        self._stats.decode_failures += corrupt
        self._gap = self._gap or corrupt > 0
        return pictures

    def failed(self, error: av.FFmpegError) -> None:
        """Count a failure of the decoder, or of the demuxer before it."""
        self._failures += 1
        self._stats.decode_failures += 1
        self._gap = True
        if self._failures > MAX_CONSECUTIVE_FAILURES:
            raise SourceError(
                f"{self._name}: nothing can be decoded after {self._stats.frames} frames"
                f" ({error.strerror}); the rest of the file is damaged"
            )

    def take_gap(self) -> bool:
        """Whether pictures were lost or damaged since the last call."""
        gap, self._gap = self._gap, False
        return gap


class Deinterlacer:
    """libavfilter's bwdif: one picture for one, times kept; progressive pictures pass untouched."""

    def __init__(self, time_base: Fraction) -> None:
        self._time_base = time_base
        self._shape: tuple[int, int, str] | None = None
        self._graph: Graph | None = None

    def push(self, picture: av.VideoFrame) -> Iterator[av.VideoFrame]:
        """The pictures that are complete; the filter holds one back."""
        shape = (picture.width, picture.height, picture.format.name)
        if shape != self._shape:
            yield from self.flush()
            self._graph, self._shape = self._build(*shape), shape
        assert self._graph is not None
        picture.time_base = self._time_base
        self._graph.push(picture)
        yield from self._pull()

    def flush(self) -> Iterator[av.VideoFrame]:
        """The pictures that are still held back."""
        if self._graph is not None:
            self._graph.push(None)
            yield from self._pull()
        self._graph = self._shape = None

    def _pull(self) -> Iterator[av.VideoFrame]:
        assert self._graph is not None
        while True:
            try:
                picture: Any = self._graph.pull()
            except (av.BlockingIOError, av.EOFError):
                return
            # The filter counts in fields, at half the unit.
            ratio = picture.time_base / self._time_base
            picture.pts = round(picture.pts * ratio) if picture.pts is not None else None
            picture.duration = round(picture.duration * ratio)
            picture.time_base = self._time_base
            yield picture

    def _build(self, width: int, height: int, pix_fmt: str) -> Graph:
        graph = Graph()
        buffer = graph.add(
            "buffer",
            f"video_size={width}x{height}:pix_fmt={pix_fmt}"
            f":time_base={self._time_base.numerator}/{self._time_base.denominator}",
        )
        bwdif = graph.add("bwdif", "mode=send_frame:deint=interlaced")
        sink = graph.add("buffersink")
        buffer.link_to(bwdif)
        bwdif.link_to(sink)
        graph.configure()
        return graph
