"""Live video in: RTSP, MJPEG and HLS over HTTP, UDP, RTMP, V4L2 devices; a file plays at its own rate."""

from __future__ import annotations

import errno
import os
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, replace
from fractions import Fraction
from typing import Any
from urllib.parse import urlsplit

import av
from av.codec.context import Flags
from av.stream import Discard

from vderain.errors import LoginError, SourceError, UnusableError
from vderain.frames import Frame, PassedPacket
from vderain.interfaces import SourceStats, StreamInfo
from vderain.media.frames.color import chroma_location, color_tags, hdr_name
from vderain.media.frames.decoding import Decoder, Deinterlacer
from vderain.media.frames.planes import PlaneReader, display_matrix
from vderain.media.frames.timing import FrameClock
from vderain.media.io.open import check_file, codec_name, describe_track, input_name, pick_video
from vderain.media.io.playlists import NO_LIST, is_list, local_options
from vderain.media.io.urls import escaped_login, is_device, is_url, redact
from vderain.media.io.variants import choose_variant, is_left_out
from vderain.media.live.reach import tls_options
from vderain.media.live.types import LiveFrame
from vderain.media.live.upright import AS_STORED, Posture
from vderain.options import EncodeOptions

_BACKSTOP_S = 2.0  # PyAV's own timeout, for where FFmpeg's option does not fire
_ANALYSE_US = "2000000"
_ARRIVALS = 64  # packets whose images the decoder may still hold back
_DEVICE_ERRORS = {
    errno.ENOENT: "there is no such device; v4l2-ctl --list-devices shows what there is",
    errno.EACCES: "this user may not open it; it must be in the group video",
    errno.EBUSY: "is in use by another program",
    errno.ENODEV: "its device is gone; plug it in again",
    errno.ENXIO: "its device is gone; plug it in again",
}
_NO_CAMERA = "is no camera that FFmpeg can read (it needs V4L2 with streaming capture)"
_SCHEMES = ("rtsp", "rtsps", "http", "https", "udp", "rtp", "tcp", "rtmp", "rtmps")
_ACCESS_ERRORS = (av.HTTPUnauthorizedError, av.HTTPForbiddenError)


@dataclass(frozen=True, slots=True)
class CameraOptions:
    """How one camera is opened; ``transport`` is auto, tcp or udp."""

    transport: str = "auto"
    timeout_s: float = 5.0
    audio: bool = True
    ca_file: str | None = None


def check_source(url: str) -> None:
    """Raise an error for what no waiting helps: a file that is not there, a protocol that is not known.

    Nothing is connected to: FFmpeg looks for the protocol first, and then finds that it may use none.
    """
    if is_device(url):
        return
    if not is_url(url):
        check_file(url)
        return
    with suppress(av.FFmpegError, OSError, ValueError):
        try:
            av.open(url.split("://", 1)[0].lower() + "://x", options={"protocol_whitelist": "none"})
        except av.ProtocolNotFoundError:
            raise SourceError(
                f"{input_name(url)}: FFmpeg has no such protocol here; use one of {', '.join(_SCHEMES)}"
            ) from None


class CameraSource:
    """``Camera`` over anything that FFmpeg reads while it happens.

    Decodes without the delay of frame threads. Frames come upright, to the nearest quarter turn:
    few outputs can say how an image stands. Where the packets carry no usable times (MJPEG over
    HTTP) those of their arrival are taken. Raises SourceError, LoginError, UnusableError.
    """

    def __init__(self, url: str, options: CameraOptions, encode: EncodeOptions) -> None:
        self._url = url
        self._name = input_name(url)
        self._options = options
        self._encode = encode
        self._stats = SourceStats()
        self._stop = threading.Event()
        self._arrivals: dict[int, float] = {}
        self._began: tuple[float, float] | None = None  # (clock, media time) of a paced file
        self.is_live = is_url(url) or is_device(url)
        self._container = self._connect()
        try:
            self._prepare()
        except BaseException:
            self._container.close()
            raise

    @property
    def info(self) -> StreamInfo:
        """What is known before the first frame."""
        return self._info

    @property
    def stats(self) -> SourceStats:
        """Counters of this connection."""
        return self._stats

    @property
    def audio(self) -> Any:
        """The stream of the sound, None where there is none."""
        return self._audio

    def __iter__(self) -> Iterator[LiveFrame | PassedPacket]:
        """Frames and packets of the sound, as they come."""
        for packet in self._packets():
            if self._stop.is_set():
                return
            if self._audio is not None and packet.stream.index == self._audio.index:
                yield PassedPacket(packet.stream.index, packet)
                continue
            if packet.stream.index != self._video.index:
                continue
            self._arrived(packet)
            for image in self._images(packet):
                yield self._captured(image)
        if not self.is_live:
            for image in self._images(None):
                yield self._captured(image)

    def cancel(self) -> None:
        """End the iteration with the next packet, or when a blocked read times out."""
        self._stop.set()

    def close(self) -> None:
        """Release the connection."""
        self._container.close()

    def _connect(self) -> Any:
        if not self.is_live:
            try:
                local = local_options(self._url)
                return _open(self._url, local, None, self._name, self._options.timeout_s)
            except SourceError as error:  # nobody mends a file meanwhile
                raise UnusableError(str(error)) from None
        if is_device(self._url):
            return _open_device(self._url, self._name, self._options.timeout_s)
        scheme = self._url.split("://", 1)[0].lower()
        if scheme not in ("rtsp", "rtsps"):
            return self._open_url(scheme)
        transport = self._options.transport
        try:
            return self._open_rtsp(transport)
        except _TransportRefusedError:
            if transport != "auto":
                raise
        return self._open_rtsp("udp")  # of a server that refuses in words that FFmpeg does not know

    def _open_url(self, scheme: str) -> Any:
        # The protocol udp calls it timeout, tcp and what lies above it rw_timeout.
        key = "timeout" if scheme in ("udp", "rtp") else "rw_timeout"
        options = {key: self._timeout_us, "analyzeduration": _ANALYSE_US, **self._tls}
        return _open(self._url, options, None, self._name, self._options.timeout_s)

    def _open_rtsp(self, transport: str) -> Any:
        options = {
            "rtsp_transport": transport,
            "timeout": self._timeout_us,
            "analyzeduration": _ANALYSE_US,
            **self._tls,
        }
        if transport == "auto":
            # Both are offered on one connection: some servers reply 503 to the next one for a second.
            options |= {"rtsp_transport": "tcp+udp", "rtsp_flags": "prefer_tcp"}
        return _open(self._url, options, "rtsp", self._name, self._options.timeout_s)

    @property
    def _tls(self) -> dict[str, str]:
        return tls_options(self._url, self._options.ca_file)

    @property
    def _timeout_us(self) -> str:
        return str(round(self._options.timeout_s * 1e6))

    def _prepare(self) -> None:
        choose_variant(self._container)
        self._video = pick_video(self._container, self._url)
        sounds = self._container.streams.audio if self._options.audio else ()
        readable = (s for s in sounds if s.codec_context is not None and not is_left_out(s))
        self._audio = next(readable, None)
        for stream in self._container.streams:
            if stream not in (self._video, self._audio):
                stream.discard = Discard.all
        self._time_base = Fraction(self._video.time_base or Fraction(1, 90_000))
        rate = self._video.average_rate or self._video.guessed_rate
        self._rate = Fraction(rate) if rate and 0.1 < rate <= 240 else None
        self._clock = FrameClock(self._time_base, self._rate)
        self._decoder = Decoder(self._video, self._name, self._stats, self._clock)
        context = self._video.codec_context
        # Threads over frames would hold back as many of them; with threads over slices FFmpeg neither
        # conceals damage nor reports it. One core decodes 1080p at several times real time.
        context.thread_type, context.thread_count = "NONE", 1
        if self.is_live:
            context.flags |= Flags.low_delay
        self._filter = (
            Deinterlacer(self._time_base) if self._encode.interlaced == "deinterlace" else None
        )
        self._reader = PlaneReader()
        self._posture = AS_STORED
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
                raise SourceError(f"{self._name}: {_reason(error)}") from None

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

    def _images(self, packet: av.Packet[Any] | None) -> Iterator[av.VideoFrame]:
        for image in self._decoder.decode(packet):
            if image.interlaced_frame and self._encode.interlaced == "refuse":
                raise UnusableError(
                    f"{self._name}: is interlaced, which this network was not trained on; use"
                    " interlaced='deinterlace' to turn it into full frames first, or interlaced='keep'"
                    " where only the flag is wrong"
                )
            if self._filter is None:
                yield image
            else:
                yield from self._filter.push(image)

    def _captured(self, image: av.VideoFrame) -> LiveFrame:
        arrived_s = time.monotonic()
        if image.pts is not None:
            arrived_s = self._arrivals.pop(image.pts, arrived_s)
        tags = color_tags(image, self._location)
        kind = hdr_name(tags)
        if kind and self._encode.hdr == "refuse":
            raise UnusableError(
                f"{self._name}: is HDR video ({kind}), which this network was not trained on;"
                " use hdr='keep' to go on all the same"
            )
        self._look_at(image)
        pts = self._clock.stamp(image.pts)
        planes, _, layout = self._reader.read(image, tags)
        self._stats.frames += 1
        frame = Frame(
            self._posture.upright(planes),
            layout.rotated(self._posture.turns),
            pts,
            self._time_base,
            duration=image.duration or 0,
            tags=tags,
            discontinuity=self._decoder.take_gap(),
        )
        return LiveFrame(frame, arrived_s, self._info.sample_aspect_ratio)

    def _look_at(self, image: av.VideoFrame) -> None:
        """How images of this size stand, and what shape their pixels have."""
        seen = image.width, image.height, image.rotation
        if seen == self._seen:
            return
        # What the container said was of the first size.
        teller = self._video if self._seen is None else self._video.codec_context
        self._seen = seen
        self._posture = _posture(image)
        shape = _pixel_shape(teller)
        width, height = image.width, image.height
        if self._posture.turns % 2:
            width, height, shape = height, width, 1 / shape
        self._info = replace(self._info, width=width, height=height, sample_aspect_ratio=shape)


def _pixel_shape(teller: Any) -> Fraction:
    """Of a stream or a decoder; pixels of unknown shape count as square."""
    return Fraction(teller.sample_aspect_ratio or 1)


def _posture(image: av.VideoFrame) -> Posture:
    matrix = display_matrix(image)
    return AS_STORED if matrix is None else Posture.of(matrix)


class _TransportRefusedError(SourceError):
    """The server speaks, but not over the transport that was asked for."""


def _open(url: str, options: dict[str, str], kind: str | None, name: str, timeout_s: float) -> Any:
    target = escaped_login(url) if is_url(url) else f"file:{url}" if kind is None else url
    backstop_s = timeout_s + _BACKSTOP_S
    began_s = time.monotonic()
    try:
        return av.open(
            target,
            "r",
            format=kind,
            options=options,
            timeout=(backstop_s, backstop_s),
            metadata_errors="surrogateescape",
        )
    except _ACCESS_ERRORS:
        raise LoginError(
            f"{name}: refuses the user name or password; check them in its address"
            " (characters such as @ : / % are written as %40 %3A %2F %25 there)"
        ) from None
    except (av.FFmpegError, OSError) as error:
        if "ca_file" in options and getattr(error, "errno", None) == errno.EIO:
            raise SourceError(
                f"{name}: breaks off, or shows a certificate for another name or that ca_file does"
                " not vouch for"
            ) from None
        if kind is None and not is_url(url) and is_list(url):
            raise SourceError(f"{name}: {NO_LIST}") from None
        # A name server that does not respond is not waited for again.
        if time.monotonic() - began_s < timeout_s and _lacks_address(url, error):
            raise SourceError(
                f"{name}: the name of its host is not known; check the address and the network"
            ) from None
        failure = _TransportRefusedError if _refuses_transport(error) else SourceError
        raise failure(f"{name}: {_reason(error)}") from (error if kind == "v4l2" else None)


def _lacks_address(url: str, error: Exception) -> bool:
    """Whether it failed since the name of the host leads nowhere, which FFmpeg calls an I/O error."""
    if not is_url(url) or getattr(error, "errno", None) != errno.EIO:
        return False
    with suppress(ValueError, OSError):
        place = urlsplit(escaped_login(url))
        try:
            socket.getaddrinfo(place.hostname, place.port)
        except socket.gaierror:
            return place.hostname is not None
    return False


def _open_device(path: str, name: str, timeout_s: float) -> Any:
    """A V4L2 camera, with what the system says where it is none."""
    try:
        os.close(os.open(path, os.O_RDWR | os.O_NONBLOCK))
    except OSError as error:
        words = _DEVICE_ERRORS.get(error.errno or 0, error.strerror)
        raise SourceError(f"{name}: {words}") from None
    try:
        return _open(path, {}, "v4l2", name, timeout_s)
    except SourceError as error:
        busy = errno.EBUSY == getattr(error.__cause__, "errno", None)
        words = _DEVICE_ERRORS[errno.EBUSY] if busy else _NO_CAMERA
        raise SourceError(f"{name}: {words}") from None


def _refuses_transport(error: Exception) -> bool:
    """RTSP's 461, or a server that offers nothing else."""
    other = getattr(error, "errno", None) == errno.EPROTONOSUPPORT
    return other or isinstance(error, av.HTTPOtherClientError)


def _reason(error: Exception) -> str:
    """FFmpeg's error in words, without the address that it may hold."""
    if isinstance(error, av.HTTPNotFoundError):
        return "there is no such stream on that server; check the path of the address"
    if isinstance(error, av.ExitError | av.TimeoutError):
        return "does not respond in time; check the address and the network"
    if isinstance(error, av.InvalidDataError):
        return "sends nothing that can be read, or went silent"
    reason = getattr(error, "strerror", None) or type(error).__name__
    return f"cannot be read ({redact(reason)})"
