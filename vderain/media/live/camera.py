"""Live video in: RTSP, MJPEG and HLS over HTTP, UDP, RTMP, V4L2 devices; a file plays at its own rate."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from fractions import Fraction
from typing import Any

import av
from av.codec.context import Flags
from av.stream import Discard

from vderain.errors import SourceError, UnusableError
from vderain.frames import Frame, PassedPacket
from vderain.interfaces import SourceStats, StreamInfo
from vderain.media.frames.color import chroma_location, color_tags, hdr_name
from vderain.media.frames.decoding import Decoder, Deinterlacer, Images
from vderain.media.frames.frame_rate import believable_camera_rate
from vderain.media.frames.memory import check_memory
from vderain.media.frames.planes import PlaneReader, display_matrix
from vderain.media.frames.timing import FrameClock
from vderain.media.frames.untrained import hdr_refusal, interlaced_refusal
from vderain.media.io.open import codec_name, describe_track, input_name, pick_video
from vderain.media.io.urls import is_device, is_url
from vderain.media.io.variants import choose_variant, is_left_out
from vderain.media.live.connect import CameraOptions, connect, reason_of
from vderain.media.live.types import LiveFrame
from vderain.media.live.upright import AS_STORED, Orientation
from vderain.options import EncodeOptions

_ARRIVALS = 64  # packets whose images the decoder may still hold back


class CameraSource:
    """``Camera`` over anything that FFmpeg reads in real time.

    Frame threads are off, since they delay frames. Frames are turned upright, to the nearest quarter turn,
    because few outputs can hold a rotation. Packets without usable times (MJPEG over HTTP) get the time of
    their arrival. Raises SourceError, LoginError, UnusableError.
    """

    def __init__(self, url: str, options: CameraOptions, encode: EncodeOptions) -> None:
        self._name = input_name(url)
        self._options = options
        self._encode = encode
        self._stats = SourceStats()
        self._stop = threading.Event()
        self._arrivals: dict[int, float] = {}
        self._began: tuple[float, float] | None = None  # (clock, media time) of a paced file
        self.is_live = is_url(url) or is_device(url)
        self._container = connect(url, options)
        try:
            self._prepare(url)
        except BaseException:
            self._container.close()
            raise

    @property
    def info(self) -> StreamInfo:
        """Properties of the stream, known before the first frame."""
        return self._info

    @property
    def stats(self) -> SourceStats:
        """Counters of this connection."""
        return self._stats

    @property
    def audio(self) -> Any:
        """The audio stream; None where there is none."""
        return self._audio

    def __iter__(self) -> Iterator[LiveFrame | PassedPacket]:
        """Frames and packets of sound, as they arrive."""
        for packet in self._packets():
            if self._stop.is_set():
                return
            if self._audio is not None and packet.stream.index == self._audio.index:
                yield PassedPacket(packet.stream.index, packet)
                continue
            if packet.stream.index != self._video.index:
                continue
            self._arrived(packet)
            for image in self._decoded(packet):
                yield self._captured(image)
        if not self.is_live:
            for image in self._decoded(None):
                yield self._captured(image)

    def cancel(self) -> None:
        """End the iteration with the next packet, or when a blocked read times out."""
        self._stop.set()

    def close(self) -> None:
        """Release the connection."""
        self._container.close()

    def _prepare(self, url: str) -> None:
        choose_variant(self._container)
        self._video = pick_video(self._container, url)
        sounds = self._container.streams.audio if self._options.audio else ()
        readable = (s for s in sounds if s.codec_context is not None and not is_left_out(s))
        self._audio = next(readable, None)
        for stream in self._container.streams:
            if stream not in (self._video, self._audio):
                stream.discard = Discard.all
        self._time_base = Fraction(self._video.time_base or Fraction(1, 90_000))
        self._rate = believable_camera_rate(self._video)
        self._clock = FrameClock(self._time_base, self._rate)
        self._decoder = Decoder(
            self._video, self._name, self._stats, self._clock, most_pixels=self._most_pixels()
        )
        context = self._video.codec_context
        # Frame threads would hold back one frame each; with slice threads FFmpeg neither conceals damage nor
        # reports it. One core decodes 1080p at several times real time.
        context.thread_type, context.thread_count = "NONE", 1
        if self.is_live:
            context.flags |= Flags.low_delay
        deinterlaces = self._encode.interlaced == "deinterlace"
        self._images = Images(
            self._decoder, Deinterlacer(self._time_base) if deinterlaces else None
        )
        self._reader = PlaneReader()
        self._orientation = AS_STORED
        self._seen: tuple[int, int, int] | None = None  # size and rotation of the last image
        self._location = chroma_location(self._video)
        self._stamps_arrival = self._container.format.name in ("mpjpeg", "mjpeg", "jpeg_pipe")
        self._info = StreamInfo(
            path=self._name,
            width=self._video.width,
            height=self._video.height,
            time_base=self._time_base,
            frame_rate=self._rate,
            codec=codec_name(self._video),
            pix_fmt=self._video.codec_context.pix_fmt or "",
            container=self._container.format.name,
            sample_aspect_ratio=_pixel_shape(self._video),
            tracks=tuple(describe_track(stream) for stream in self._container.streams),
        )

    def _most_pixels(self) -> int:
        try:
            return check_memory(self._video, self._name, self._options.max_memory, live=True)
        except SourceError as error:  # its images will not become smaller
            raise UnusableError(str(error)) from None

    def _packets(self) -> Iterator[av.Packet[Any]]:
        last_s = time.monotonic()
        while not self._stop.is_set():
            try:
                for packet in self._container.demux():
                    if packet.stream.index == self._video.index and packet.size:
                        last_s = time.monotonic()
                    elif time.monotonic() - last_s > self._options.timeout_s:
                        raise SourceError(f"{self._name}: its image stopped")
                    if packet.size:
                        yield packet
                return
            except av.InvalidDataError as error:
                self._decoder.failed(error)
            except av.FFmpegError as error:
                raise SourceError(f"{self._name}: {reason_of(error)}") from None

    def _arrived(self, packet: av.Packet[Any]) -> None:
        now_s = time.monotonic()
        if self._stamps_arrival:
            packet.pts = packet.dts = round(Fraction(now_s) / self._time_base)
        if packet.pts is not None:
            self._arrivals[packet.pts] = now_s
            while len(self._arrivals) > _ARRIVALS:
                del self._arrivals[next(iter(self._arrivals))]
        if not self.is_live and packet.pts is not None:
            self._pace(float((packet.dts or packet.pts) * self._time_base))

    def _pace(self, time_s: float) -> None:
        """Wait until a file's packet is due."""
        now_s = time.monotonic()
        if self._began is None:
            self._began = now_s, time_s
        due_s = self._began[0] + time_s - self._began[1]
        self._stop.wait(max(0.0, due_s - now_s))

    def _decoded(self, packet: av.Packet[Any] | None) -> Iterator[av.VideoFrame]:
        for image in self._images.push(packet):
            if self._images.interlaced and self._encode.interlaced == "refuse":
                raise UnusableError(interlaced_refusal(self._name))
            yield image

    def _captured(self, image: av.VideoFrame) -> LiveFrame:
        arrived_s = time.monotonic()
        if image.pts is not None:
            arrived_s = self._arrivals.pop(image.pts, arrived_s)
        tags = color_tags(image, self._location)
        kind = hdr_name(tags)
        if kind and self._encode.hdr == "refuse":
            raise UnusableError(hdr_refusal(self._name, kind))
        self._look_at(image)
        pts = self._clock.stamp(image.pts)
        planes, _, layout = self._reader.read(image, tags)
        self._stats.frames += 1
        frame = Frame(
            self._orientation.upright(planes),
            layout.rotated(self._orientation.turns),
            pts,
            self._time_base,
            duration=image.duration or 0,
            tags=tags,
            discontinuity=self._decoder.take_gap(),
        )
        return LiveFrame(frame, arrived_s, self._info.sample_aspect_ratio)

    def _look_at(self, image: av.VideoFrame) -> None:
        """Take over size, rotation and pixel shape where they differ from those of the last image."""
        seen = image.width, image.height, image.rotation
        if seen == self._seen:
            return
        # The container's values are those of the first size; later ones are in the stream alone.
        origin = self._video if self._seen is None else self._video.codec_context
        self._seen = seen
        self._orientation = _orientation(image)
        shape = _pixel_shape(origin)
        width, height = image.width, image.height
        if self._orientation.turns % 2:
            width, height, shape = height, width, 1 / shape
        self._info = replace(self._info, width=width, height=height, sample_aspect_ratio=shape)


def _pixel_shape(origin: Any) -> Fraction:
    """The pixel shape of a stream or a decoder; pixels of unknown shape count as square."""
    return Fraction(origin.sample_aspect_ratio or 1)


def _orientation(image: av.VideoFrame) -> Orientation:
    matrix = display_matrix(image)
    return AS_STORED if matrix is None else Orientation.of(matrix)
