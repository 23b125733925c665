"""Converts subtitles between SubRip (Matroska) and MP4's timed text, where the container requires it."""

from __future__ import annotations

import re
import struct
from collections.abc import Callable

_MARKUP = re.compile(r"</?[a-zA-Z][^>]*>|\{\\[^}]*\}")


def to_mov_text(payload: bytes) -> bytes:
    """A SubRip text as MP4 timed text: its length in two bytes, then the text without markup."""
    text = _MARKUP.sub("", payload.decode("utf-8", "replace")).encode()[:0xFFFF]
    return struct.pack(">H", len(text)) + text


def to_subrip(payload: bytes) -> bytes:
    """MP4 timed text as a SubRip text; b"" for samples that fill gaps. Style boxes are dropped."""
    if len(payload) < 2:
        return b""
    (length,) = struct.unpack_from(">H", payload)
    return payload[2 : 2 + length]


def conversion(codec: str, muxer: str) -> tuple[str, Callable[[bytes], bytes]] | None:
    """The codec that a container holds instead of ``codec``, and the conversion of payloads."""
    if codec == "subrip" and muxer in ("mp4", "mov"):
        return "mov_text", to_mov_text
    if codec == "mov_text" and muxer == "matroska":
        return "subrip", to_subrip
    return None
