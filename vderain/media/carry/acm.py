"""Sound in Matroska under the tags of WAV, for codecs without a Matroska name.

G.711, ADPCM, WMA and AMR are written as ``A_MS/ACM`` with the header of a WAV file. FFmpeg can do this, but PyAV
18 accepts only codecs that Matroska names. So the track is made as unsigned 8-bit PCM, which passes packets
unchanged, and gets its own name when the file is complete.
"""

from __future__ import annotations

import io
import re
import zlib
from collections.abc import Collection
from contextlib import suppress
from pathlib import Path
from typing import Any

import av

from vderain.media.bitstream.ebml import HEAD_BYTES, EbmlError, element_head

_MADE_AS = b"\x86\x8dA_PCM/INT/LIT"  # the element CodecID with its size
_MEANT = b"\x86\x88A_MS/ACM\xec\x83\0\0\0"  # the same length, with an empty element after it
_SEGMENT, _TRACKS = 0x18538067, 0x1654AE6B
_CRC = b"\xbf\x84"
_HEADER_BYTES = 1 << 20  # of the file, which include the descriptions of tracks
_ENTRY_BYTES = 160  # after the name of a codec, which include its header
_WAVE_HEADER = 18  # bytes, with the size of the extension, which PCM leaves out


def wave_header(stream: Any) -> bytes | None:
    """The header of this sound in a WAV file; None where a WAV file cannot hold it."""
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
    """Make the output's stream for a sound. Raises ValueError where no WAV header describes it."""
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
    """The beginning of a Matroska file, in which the tracks with one of these headers have their own name."""
    content = bytearray(beginning)
    for match in re.finditer(re.escape(_MADE_AS), beginning):
        behind = beginning[match.end() : match.end() + _ENTRY_BYTES]
        if any(header in behind for header in headers):
            content[match.start() : match.end()] = _MEANT
    place = _tracks(beginning)
    if bytes(content) != beginning and place is not None:
        start, end = place
        if content[start : start + 2] == _CRC:
            checksum = zlib.crc32(content[start + 6 : end])
            content[start + 2 : start + 6] = checksum.to_bytes(4, "little")
    return bytes(content)


def name_tracks(path: Path, headers: Collection[bytes]) -> None:
    """Give the tracks of a complete file their own names, in place. Raises OSError."""
    with path.open("r+b") as file:
        beginning = file.read(_HEADER_BYTES)
        changed = named(beginning, headers)
        if changed != beginning:
            file.seek(0)
            file.write(changed)


def _tracks(content: bytes) -> tuple[int, int] | None:
    """Start and end of the content of the element Tracks; None where it is not found."""
    at = 0
    with suppress(EbmlError):
        while True:
            kind, size, header = element_head(content[at : at + HEAD_BYTES])
            at += header
            if kind == _SEGMENT:  # whose content are further elements
                continue
            if size is None:
                return None
            if kind == _TRACKS:
                return at, at + size
            at += size
    return None
