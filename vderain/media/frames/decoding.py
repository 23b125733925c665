"""Decodes packets into images, also damaged ones, and deinterlaces."""

from __future__ import annotations

from collections.abc import Iterator
from fractions import Fraction
from typing import Any

import av
from av.codec.context import Flags
from av.filter import Graph

from vderain.errors import SourceError
from vderain.interfaces import SourceStats
from vderain.media.frames.planes import (
    Scaler,
    carrier_of,
    conversion_note,
    pix_fmt_name,
    pix_fmt_of,
)  # fmt: skip
from vderain.media.frames.timing import FrameClock

MAX_CONSECUTIVE_FAILURES = 500
_BLANK = 32  # pixels; size of an image that tests which formats the filter takes


class Decoder:
    """Decodes one stream; counts damaged packets and continues behind them.

    Damaged images are counted and returned, since most of such an image is often sound.

    ``take_gap`` returns whether images were lost or damaged since its last call. Raises SourceError after
    MAX_CONSECUTIVE_FAILURES packets in a row without an image. Frames of more than ``most_pixels`` count as damaged.
    """

    def __init__(
        self,
        stream: Any,
        name: str,
        stats: SourceStats,
        clock: FrameClock,
        *,
        most_pixels: int | None = None,
    ) -> None:
        self._context = stream.codec_context
        if most_pixels is not None:
            self._context.options = {"max_pixels": str(most_pixels)}
        if self._context.is_hwaccel:
            # A thread that decodes a frame of its own would hold a surface of the GPU, and there are few. Threads
            # for slices hold none, and serve software where NVDEC leaves later images to it.
            self._context.thread_type = "SLICE"
        else:
            self._context.thread_type = "AUTO"
        # Without it, FFmpeg ignores a crop on the left that is no multiple of the alignment.
        self._context.flags |= Flags.unaligned
        self._name = name
        self._stats = stats
        self._clock = clock
        self._failures = 0
        self._gap = False
        self._counted: tuple[int | None, int | None] = (None, None)
        self._is_cut = False  # whether a packet ended before its end
        self._owed = 0  # packets that are neither an image nor a failure yet
        self._is_over = False

    def count_within(self, start_pts: int | None, end_pts: int | None) -> None:
        """Count damage with ``start_pts <= pts < end_pts`` alone; other sources count the rest."""
        self._counted = start_pts, end_pts

    def decode(self, packet: av.Packet[Any] | None) -> list[av.VideoFrame]:
        """The images that a packet completes, in presentation order; None flushes, once."""
        if packet is not None:
            self._clock.sent(packet.dts)
            self._is_cut |= packet.is_corrupt
            self._owed += not packet.is_discard
        try:
            images: list[av.VideoFrame] = self._context.decode(packet)
        except av.FFmpegError as error:
            self.failed(error, None if packet is None else packet.pts)
            self._clock.lost()
            return []
        if images:
            self._failures = 0
        self._owed -= len(images)
        self._is_over = packet is None
        corrupt = [image.pts for image in images if image.is_corrupt]
        counted = sum(map(self._counts, corrupt))
        self._stats.decode_failures += counted
        self._stats.damaged_frames += counted
        self._gap = self._gap or bool(corrupt)
        return images

    def failed(self, error: av.FFmpegError, pts: int | None = None) -> None:
        """Count a failure of the decoder at a packet, or of the demuxer before it."""
        self._failures += 1
        self._owed -= 1
        self._stats.decode_failures += self._counts(pts)
        self._gap = True
        if self._failures > MAX_CONSECUTIVE_FAILURES:
            advice = "the rest of the file is damaged"
            if self._name == "standard input":
                advice = "it is damaged, or an MP4 with its index at the end: name a file instead"
            raise SourceError(
                f"{self._name}: nothing can be decoded after {self._stats.frames} frames"
                f" ({error.strerror}); {advice}"
            )

    @property
    def kept(self) -> int:
        """At the end, images that never came: FFmpeg's threads keep some where the last packet was cut off."""
        return max(0, self._owed) if self._is_cut and self._is_over else 0

    def take_gap(self) -> bool:
        """Whether images were lost or damaged since the last call."""
        gap, self._gap = self._gap, False
        return gap

    def _counts(self, pts: int | None) -> bool:
        start, end = self._counted
        return pts is None or ((start is None or start <= pts) and (end is None or pts < end))


class Images:
    """The images of a decoder, deinterlaced where there is a filter for it.

    Attributes:
        interlaced: number of interlaced images.
        decoded: number of images.
        on_gpu: number of those on a GPU.
        pix_fmt: FFmpeg's name of the first image's pixel format; "" before it.

    """

    def __init__(self, decoder: Decoder, deinterlacer: Deinterlacer | None) -> None:
        self.interlaced = self.decoded = self.on_gpu = 0
        self.pix_fmt = ""
        self._decoder, self._filter = decoder, deinterlacer

    @property
    def note(self) -> str:
        """The filter's conversion, for the report; "" for none."""
        return "" if self._filter is None else self._filter.note

    def push(self, packet: av.Packet[Any] | None) -> Iterator[av.VideoFrame]:
        """The images that a packet completes; None completes those held back."""
        for image in self._decoder.decode(packet):
            self.interlaced += image.interlaced_frame
            self.pix_fmt = self.pix_fmt or pix_fmt_of(image)
            self.decoded += 1
            self.on_gpu += image.sw_format is not None
            if self._filter is None:
                yield image
            else:
                yield from self._filter.push(image)
        if self._filter is not None and packet is None:
            yield from self._filter.flush()


class Deinterlacer:
    """libavfilter's bwdif: one image for each image, times kept; progressive images keep their samples.

    A pixel format that bwdif does not take is converted to the nearest that it takes. ``note`` names the
    conversion; "" where samples are at most rearranged.
    """

    def __init__(self, time_base: Fraction) -> None:
        self.note = ""
        self._time_base = time_base
        self._scaler = Scaler()
        self._taken: dict[str, str] = {}
        self._shape: tuple[Any, ...] | None = None
        self._graph: Graph | None = None

    def push(self, image: av.VideoFrame) -> Iterator[av.VideoFrame]:
        """The images that are complete; the filter holds one back."""
        image = self._fitted(image)
        size = (image.width, image.height, image.format.name)
        shape = (*size, image.color_range, image.colorspace)
        if shape != self._shape:
            yield from self.flush()
            self._graph, self._shape = _build(*size, self._time_base), shape
        assert self._graph is not None
        image.time_base = self._time_base
        self._graph.push(image)
        yield from self._pull()

    def flush(self) -> Iterator[av.VideoFrame]:
        """The images that are still held back."""
        if self._graph is not None:
            self._graph.push(None)
            yield from self._pull()
        self._graph = self._shape = None

    def _fitted(self, image: av.VideoFrame) -> av.VideoFrame:
        """The image in a format that bwdif takes, with unchanged colour tags."""
        name = image.format.name
        if name not in self._taken:
            self._taken[name] = _nearest_taken(name)
        if self._taken[name] == name:
            return image
        carrier = carrier_of(self._taken[name])
        self.note = conversion_note(name, carrier) or self.note
        fitted = self._scaler.repacked(image, carrier.pix_fmt, int(image.color_range))
        fitted.color_range, fitted.colorspace = image.color_range, image.colorspace
        return fitted

    def _pull(self) -> Iterator[av.VideoFrame]:
        assert self._graph is not None
        while True:
            try:
                image: Any = self._graph.pull()
            except (av.BlockingIOError, av.EOFError):
                return
            # The filter counts in fields, so that its unit is half as long.
            ratio = image.time_base / self._time_base
            image.pts = round(image.pts * ratio) if image.pts is not None else None
            image.duration = round(image.duration * ratio)
            image.time_base = self._time_base
            assert self._shape is not None
            image.color_range, image.colorspace = self._shape[3:]  # the filter changes tags of RGB
            yield image


def _nearest_taken(name: str) -> str:
    """The pixel format itself where bwdif takes it, else the nearest that it takes."""
    carrier = carrier_of(name)
    alpha = carrier.alpha is not None
    candidates = (
        name,
        carrier.pix_fmt,
        pix_fmt_name(carrier.layout, 16, alpha=alpha),
        pix_fmt_name("yuv444", carrier.bit_depth, alpha=alpha),
    )
    return next(candidate for candidate in candidates if _takes(candidate))


def _takes(name: str) -> bool:
    """Whether bwdif returns this pixel format; for others libavfilter inserts a conversion."""
    try:
        graph = _build(_BLANK, _BLANK, name, Fraction(1, 25))
        blank = av.VideoFrame(_BLANK, _BLANK, name)
        blank.pts, blank.time_base = 0, Fraction(1, 25)
        graph.push(blank)
        graph.push(None)
        image: Any = graph.pull()
    except (av.FFmpegError, ValueError):  # not every name made here is a format
        return False
    return bool(image.format.name == name)


def _build(width: int, height: int, pix_fmt: str, time_base: Fraction) -> Graph:
    graph = Graph()
    buffer = graph.add(
        "buffer",
        f"video_size={width}x{height}:pix_fmt={pix_fmt}"
        f":time_base={time_base.numerator}/{time_base.denominator}",
    )
    bwdif = graph.add("bwdif", "mode=send_frame:deint=interlaced")
    sink = graph.add("buffersink")
    buffer.link_to(bwdif)
    bwdif.link_to(sink)
    graph.configure()
    return graph
