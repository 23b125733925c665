"""Sound in Matroska by the tags of WAV: for codecs that Matroska has no name of its own for.

G.711, ADPCM, WMA and AMR are written as ``A_MS/ACM``, with the header that a WAV file would have. FFmpeg
can, but PyAV 18 asks it only for names that Matroska defines. So the track is made as unsigned 8-bit PCM,
which passes packets as they are, and gets its right name when the file is complete.
"""

from __future__ import annotations

import io
import re
import zlib
from collections.abc import Collection
from pathlib import Path
from typing import Any

import av

_MADE_AS = b"\x86\x8dA_PCM/INT/LIT"  # element CodecID with its size
_MEANT = b"\x86\x88A_MS/ACM\xec\x83\0\0\0"  # the same length, with an empty element behind it
_SEGMENT, _TRACKS = 0x18538067, 0x1654AE6B
_CRC = b"\xbf\x84"
_HEADER_BYTES = 1 << 20  # of the file; the tracks are described in its beginning
_ENTRY_BYTES = 160  # behind the name of a codec, within which its header stands
_WAVE_HEADER = 18  # bytes: with the size of what follows, which PCM leaves out


def wave_header(stream: Any) -> bytes | None:
    """What a WAV file says of this sound; None where a WAV file cannot hold it."""
    buffer = io.BytesIO()
    try:
        with av.open(buffer, "w", format="wav") as trial:
            trial.add_stream_from_template(stream, opaque=True)
            trial.start_encoding()
    except (av.FFmpegError, ValueError):
        return None
    content = buffer.getvalue()
    at = content.find(b"fmt ")
    if at < 0:
        return None
    size = int.from_bytes(content[at + 4 : at + 8], "little")
    return content[at + 8 : at + 8 + size].ljust(_WAVE_HEADER, b"\0")


def add_acm(output: Any, stream: Any) -> Any:
    """Make the output's stream for a sound. Raises ValueError where it cannot be described so."""
    header = wave_header(stream)
    if header is None:
        raise ValueError(f"a WAV header cannot describe {stream.name}")
    sound = stream.codec_context
    added = output.add_stream("pcm_u8", rate=sound.sample_rate)
    channels = sound.layout.nb_channels
    added.codec_context.layout = {1: "mono", 2: "stereo"}.get(channels, sound.layout.name)
    added.codec_context.extradata = header
    added.time_base = stream.time_base
    return added


def named(beginning: bytes, headers: Collection[bytes]) -> bytes:
    """The beginning of a Matroska file with the tracks that have one of these headers under their right name."""
    content = bytearray(beginning)
    for match in re.finditer(re.escape(_MADE_AS), beginning):
        behind = beginning[match.end() : match.end() + _ENTRY_BYTES]
        if any(header in behind for header in headers):
            content[match.start() : match.end()] = _MEANT
    place = _tracks(content)
    if bytes(content) != beginning and place is not None:
        start, end = place
        if content[start : start + 2] == _CRC:
            checksum = zlib.crc32(content[start + 6 : end])
            content[start + 2 : start + 6] = checksum.to_bytes(4, "little")
    return bytes(content)


def name_tracks(path: Path, headers: Collection[bytes]) -> None:
    """Give the tracks of a complete file their right names, in place. Raises OSError."""
    with path.open("r+b") as file:
        beginning = file.read(_HEADER_BYTES)
        changed = named(beginning, headers)
        if changed != beginning:
            file.seek(0)
            file.write(changed)


def _tracks(content: bytearray) -> tuple[int, int] | None:
    """Where the content of the element Tracks begins and ends; None where it is not found."""
    at = 0
    while at + 12 < len(content):
        name, at = _number(content, at, marked=True)
        size, at = _number(content, at, marked=False)
        if name == _TRACKS:
            return at, at + size
        if name != _SEGMENT:  # whose elements follow
            at += size
    return None


def _number(content: bytearray, at: int, *, marked: bool) -> tuple[int, int]:
    """A number of variable length, with its mark of the length or without, and what follows it."""
    length = max(1, 9 - content[at].bit_length())
    value = int.from_bytes(content[at : at + length], "big")
    return value if marked else value & ((1 << 7 * length) - 1), at + length
