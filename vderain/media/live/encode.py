"""Live encoding: one encoder for video and one for sound, whose packets all outlets can mux."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass, replace
from fractions import Fraction
from typing import Any

import av
from av.codec.context import Flags

from vderain.errors import OptionError, SinkError
from vderain.frames import DEFAULT_RATE, Frame
from vderain.media.frames.color import FULL_RANGE, Mastering
from vderain.media.frames.planes import PlaneWriter, tags_after
from vderain.media.io.encoders import Encoder, codec_options, encoder_for, fit
from vderain.media.io.urls import redact
from vderain.media.live.types import EncodedPacket, PacketKind
from vderain.options import EncodeOptions

UNIT = Fraction(1, 90_000)  # of all video times in a session
KEY_INTERVAL_S = 2.0  # a new viewer sees an image after at most this time
LIVE_CODECS = ("h264", "hevc", "h264_nvenc", "hevc_nvenc")
_PRESETS = {"h264": "veryfast", "hevc": "ultrafast"}
_QUALITY = {"h264": 20, "hevc": 23}  # lower than for files, since a stream takes bandwidth all day


@dataclass(frozen=True, slots=True, eq=False)
class Packed:
    """The bytes of a packet and its times in ``time_base`` units, free of any container."""

    data: bytes
    pts: int
    dts: int
    duration: int
    time_base: Fraction
    is_key: bool

    def packet(self) -> Any:
        """A new av.Packet, since muxers change their packets.

        FFmpeg owns its memory. A packet over ``bytes`` can only be freed with Python's lock; a muxer's own thread
        would wait for the lock while a close that holds it waits for that thread.
        """
        packet: Any = av.Packet(len(self.data))
        packet.update(self.data)
        packet.pts, packet.dts, packet.duration = self.pts, self.dts, self.duration
        packet.time_base = self.time_base
        packet.is_keyframe = self.is_key
        return packet


def live_encoder(options: EncodeOptions) -> tuple[Encoder, EncodeOptions, list[str]]:
    """The encoder that will run, its options with live defaults, and notes on a fallback.

    Raises OptionError for a codec that no live output carries, and what ``encoder_for`` raises.
    """
    if options.codec not in LIVE_CODECS:
        raise OptionError(f"codec={options.codec!r}: live outputs take {', '.join(LIVE_CODECS)}")
    family = options.codec.removesuffix("_nvenc")
    hardware = family != options.codec
    chosen = replace(
        options,
        preset=options.preset or (None if hardware else _PRESETS[family]),
        crf=_QUALITY[family] if options.crf is None and options.bitrate is None else options.crf,
    )
    encoder, notes = encoder_for(chosen, "mpegts")
    return encoder, chosen, notes


class LiveVideoEncoder:
    """Encodes upright frames of one format without delay; ``stream`` is the template for muxers.

    The stream has ``pixel_shape``, width by height. Raises SinkError where the encoder does not open
    open or fails.
    """

    def __init__(
        self,
        first: Frame,
        rate: Fraction | None,
        options: EncodeOptions,
        *,
        pixel_shape: Fraction = Fraction(1),
    ) -> None:
        self._encoder, options, self.notes = live_encoder(options)
        self.format = first.format
        fitted = fit(
            self._encoder, first.format, bit_depth=options.bit_depth, alpha=False, images=False
        )
        self.notes += [*fitted.notes, *fitted.losses]
        self._writer = PlaneWriter(fitted.target)
        rate = rate or DEFAULT_RATE
        self._step = round(1 / rate / UNIT)
        self._last_pts: int | None = None
        # The null muxer opens no file; it makes the encoder's stream, which muxers use as a template.
        self._container: Any = av.open(os.devnull, "w", format="null")
        self.stream: Any = self._container.add_stream(self._encoder.name, rate=rate)
        context: Any = self.stream.codec_context
        context.width, context.height = fitted.target.width, fitted.target.height
        context.pix_fmt = fitted.target.pix_fmt
        context.sample_aspect_ratio = pixel_shape
        context.time_base = UNIT
        context.gop_size = max(1, round(KEY_INTERVAL_S * rate))
        context.max_b_frames = 0
        context.flags |= Flags.global_header  # MPEG-TS and RTSP repeat the parameter sets
        tags = tags_after(first.tags, first.format, fitted.target.pix_fmt)
        full = first.format.full_range and first.format.layout != "rgb"
        context.color_range = FULL_RANGE if full else tags.range
        context.colorspace, context.color_primaries = tags.matrix, tags.primaries
        context.color_trc = tags.transfer
        context.options = _live_options(self._encoder, options, context.width, context.height)
        if options.bitrate is not None:
            context.bit_rate = options.bitrate * 1000
        try:
            self._container.start_encoding()
        except (av.FFmpegError, OSError) as error:
            raise SinkError(f"{self._encoder.name} does not open: {_text(error)}") from None

    def encode(self, frame: Frame, time_s: Fraction, *, key: bool = False) -> list[EncodedPacket]:
        """The packets of a frame, at a time in seconds of the session; ``key`` forces a keyframe."""
        pts = round(time_s / UNIT)
        if self._last_pts is not None:
            pts = max(pts, self._last_pts + 1)
        self._last_pts = pts
        image: Any = self._writer.write(frame.planes, None, frame.format)
        image.time_base, image.pts = UNIT, pts
        if key:
            image.pict_type = av.video.frame.PictureType.I
        try:
            return [self._packed(packet) for packet in self.stream.encode(image)]
        except (av.FFmpegError, OSError) as error:
            raise SinkError(f"{self._encoder.name} failed: {_text(error)}") from None

    def close(self) -> None:
        """Release the encoder."""
        self.stream = None
        self._container.close()

    def _packed(self, packet: Any) -> EncodedPacket:
        dts = packet.dts if packet.dts is not None else packet.pts
        packed = Packed(
            bytes(packet), packet.pts, dts, packet.duration or self._step, UNIT, packet.is_keyframe
        )
        return EncodedPacket("video", packed, float(dts * UNIT), packet.is_keyframe)


def _live_options(
    encoder: Encoder, options: EncodeOptions, width: int, height: int
) -> dict[str, str]:
    chosen = codec_options(encoder, options, Mastering(), width, height)
    if encoder.name in ("libx264", "libx265"):
        chosen |= {"tune": "zerolatency", "forced-idr": "1"}
    elif encoder.name.endswith("_nvenc"):
        chosen |= {"tune": "ull", "delay": "0", "forced-idr": "1"}
    return chosen


class LiveAudio:
    """The sound of one connection: unchanged, and as AAC where ``transcode`` is set.

    ``stream`` and ``aac_stream`` are templates for muxers. Sound that cannot be decoded is counted in ``failures``
    and left out. ``offset_s``, which is the video's, is added to times.
    """

    def __init__(self, stream: Any, *, transcode: bool) -> None:
        context = stream.codec_context
        self.codec = str(context.codec.canonical_name)
        self.failures = 0
        self._decoder = context
        # Outlets may open after the connection has ended, so they get a copy of its description.
        self._containers: list[Any] = [av.open(os.devnull, "w", format="null")]
        self.stream = self._containers[0].add_stream_from_template(stream, opaque=True)
        self._containers[0].start_encoding()
        self.aac_stream: Any = None
        if transcode and self.codec != "aac":
            self._open_aac(context)
        self.signature = (
            *(self.codec, context.sample_rate, context.layout.name, context.extradata),
            transcode,
        )

    def packets(self, packet: Any, offset_s: Fraction) -> Iterator[EncodedPacket]:
        """The outlets' packets for one packet of the camera."""
        if packet.pts is None or not packet.size:
            return
        unit = Fraction(packet.time_base)
        shift = round(offset_s / unit)
        yield _sound("audio", packet, packet.pts + shift, unit)
        if self.aac_stream is None:
            return
        try:
            for sound in self._decoder.decode(packet):
                sound.pts = None if sound.pts is None else sound.pts + shift
                for piece in self._resampler.resample(sound):
                    for encoded in self.aac_stream.encode(piece):
                        yield _sound("aac", encoded, encoded.pts, Fraction(encoded.time_base))
        except av.FFmpegError:
            self.failures += 1

    def close(self) -> None:
        """Release the encoder; the templates stay usable."""
        self._decoder = None
        for container in self._containers:
            container.close()

    def _open_aac(self, decoder: Any) -> None:
        layout = "mono" if decoder.layout.nb_channels == 1 else "stereo"
        container: Any = av.open(os.devnull, "w", format="null")
        self._containers.append(container)
        stream = container.add_stream("aac", rate=decoder.sample_rate)
        stream.codec_context.layout = layout
        stream.codec_context.flags |= Flags.global_header
        container.start_encoding()
        self._resampler = av.AudioResampler(
            "fltp", layout, decoder.sample_rate, frame_size=stream.codec_context.frame_size
        )
        self.aac_stream = stream


def _sound(kind: PacketKind, packet: Any, pts: int, unit: Fraction) -> EncodedPacket:
    packed = Packed(bytes(packet), pts, pts, packet.duration or 0, unit, True)
    return EncodedPacket(kind, packed, float(pts * unit))


def _text(error: Exception) -> str:
    return redact(getattr(error, "strerror", None) or type(error).__name__)
