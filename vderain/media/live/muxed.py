"""One output container of a live session: streams from templates, with increasing times."""

from __future__ import annotations

import re
from contextlib import suppress
from fractions import Fraction
from typing import Any

import av

from vderain.media.io.urls import redact
from vderain.media.live.types import EncodedPacket, PacketKind, Streams

# Codecs of sound that players support in each container; other sound is written as AAC.
SOUNDS = {
    "rtsp": ("aac", "mp3", "opus", "pcm_mulaw", "pcm_alaw", "adpcm_g722", "ac3"),
    "flv": ("aac", "mp3"),
    "mpegts": ("aac", "mp3", "mp2", "ac3", "opus"),
    "rtp_mpegts": ("aac", "mp3", "mp2", "ac3"),
    "hls": ("aac", "mp3", "ac3"),
    "mp4": ("aac", "mp3", "ac3", "opus", "alac", "flac"),
    "matroska": ("aac", "mp3", "ac3", "opus", "alac", "flac", "vorbis", "pcm_s16le"),
}


class Muxed:
    """One output container with the streams of a session's templates; makes times increase."""

    def __init__(self, file: Any, muxer: str, streams: Streams, options: dict[str, str]) -> None:
        kind = muxer
        if muxer == "flv":
            kind, options = "fifo", _in_a_thread(muxer, options)
        self.container: Any = av.open(file, "w", format=kind, container_options=options)
        self._streams: dict[PacketKind, Any] = {}
        self._last: dict[PacketKind, int] = {}
        self.note = ""
        try:
            self._add("video", streams.video)
            self._add_sound(muxer, streams)
            self.container.start_encoding()
        except BaseException:
            with suppress(av.FFmpegError, OSError, ValueError):
                self.container.close()
            raise

    def write(self, packet: EncodedPacket) -> None:
        """Mux a packet; sound of another track than this output's is left out."""
        stream = self._streams.get(packet.kind)
        if stream is None:
            return
        media = packet.payload.packet()
        last = self._last.get(packet.kind)
        if last is not None and media.dts <= last:
            media.dts = last + 1
            media.pts = max(media.pts, media.dts)
        self._last[packet.kind] = media.dts
        media.stream = stream
        self.container.mux_one(media)

    def close(self) -> None:
        """Complete the container."""
        self.container.close()

    def _add_sound(self, muxer: str, streams: Streams) -> None:
        if streams.audio is None:
            return
        codec = str(streams.audio.codec_context.codec.canonical_name)
        if codec in SOUNDS[muxer]:
            self._add("audio", streams.audio)
        elif streams.aac is not None:
            self._add("aac", streams.aac)
            self.note = f"sound was transcoded from {codec} to aac, which {muxer} accepts"

    def _add(self, kind: PacketKind, template: Any) -> None:
        stream = self.container.add_stream_from_template(template, opaque=True)
        stream.time_base = template.time_base or Fraction(1, 90_000)
        self._streams[kind] = stream


def _in_a_thread(muxer: str, options: dict[str, str]) -> dict[str, str]:
    """Options for a connection in FFmpeg's own thread, which obeys ``rw_timeout`` while Python goes on.

    PyAV itself connects without options and holds Python's lock meanwhile, without a time limit.
    """
    inner = ":".join(
        f"{name}=" + re.sub(r"([^\w./-])", r"\\\1", value) for name, value in options.items()
    )
    return {"fifo_format": muxer, "queue_size": "1", "format_opts": inner}


def reason_of(error: Exception) -> str:
    """FFmpeg's or the system's error in words, without secrets."""
    if isinstance(error, av.HTTPUnauthorizedError | av.HTTPForbiddenError):
        return "refuses the user name or password"
    if isinstance(error, TimeoutError):
        return "does not respond in time"
    return redact(getattr(error, "strerror", None) or str(error))
