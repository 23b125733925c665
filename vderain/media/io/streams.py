"""The video stream of an output, whether its packets are encoded or copied."""

from __future__ import annotations

from fractions import Fraction
from typing import Any

from vderain.frames import DEFAULT_RATE

MP4_FAMILY = ("mp4", "mov")


def add_copied_video(container: Any, template: Any, rate: Fraction | None) -> Any:
    """A stream for packets that were encoded before.

    ``rate`` is that of the output in frames per second. ``template`` has only the container's value, which may be the
    unit of time; muxers write the rate, and need it for a timecode.
    """
    stream = container.add_stream_from_template(template, opaque=True)
    stream.codec_context.framerate = rate or DEFAULT_RATE
    return stream


def tag_video(stream: Any, codec: str, muxer: str) -> None:
    """Give HEVC in MP4 and MOV the tag that Apple's players need; they refuse FFmpeg's default, hev1."""
    if codec.startswith("hevc") and muxer in MP4_FAMILY:
        stream.codec_tag = "hvc1"
