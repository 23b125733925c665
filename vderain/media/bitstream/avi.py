"""The clock of sound in AVI, which FFmpeg's muxer computes from a bit rate that many files have wrong."""

from __future__ import annotations

import os
import struct
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

_HEADER_BYTES = 1 << 20  # of a file, which include the headers of its streams
_STREAM = b"strh"
_FIELDS = "<4s4sIHHIIIIIIII"  # kind, codec, flags, priority, language, and numbers of four bytes
_SCALE_AT = 20  # bytes, of scale and rate in a stream's header
_INDEX = b"movi"


@dataclass(frozen=True, slots=True)
class SoundClock:
    """The clock of a stream: a sample of ``sample_bytes`` lasts ``scale / rate`` seconds; ``at`` is its place."""

    scale: int
    rate: int
    sample_bytes: int
    at: int

    @property
    def bit_rate(self) -> int:
        """Bits per second, from which FFmpeg computes the clock that it writes."""
        return round(self.sample_bytes * 8 * self.rate / self.scale)


def clocks_of(container: Any) -> dict[int, SoundClock]:
    """The clocks of the sound of an open input; none where it is no local AVI file. Raises OSError."""
    path = str(container.name).removeprefix("file:")
    is_local = container.format.name == "avi" and os.path.isfile(path)
    return sound_clocks(path) if is_local else {}


def sound_clocks(path: str | Path) -> dict[int, SoundClock]:
    """The clocks of the sound of a local AVI file, by the index of the stream. Raises OSError."""
    with open(path, "rb") as file:
        data = file.read(_HEADER_BYTES)
    data = data[: data.find(_INDEX)] if _INDEX in data else data
    found: dict[int, SoundClock] = {}
    index, place = 0, data.find(_STREAM)
    while place >= 0 and place + 8 + struct.calcsize(_FIELDS) <= len(data):
        kind, *_, scale, rate, _, _, _, _, size = struct.unpack_from(_FIELDS, data, place + 8)
        if kind == b"auds" and scale and rate:
            found[index] = SoundClock(scale, rate, size, place + 8 + _SCALE_AT)
        index, place = index + 1, data.find(_STREAM, place + 8)
    return found


def set_clocks(path: Path, wanted: Mapping[int, SoundClock]) -> None:
    """Give streams of a complete AVI file the clocks of their source, where both count the same bytes.

    Raises OSError.
    """
    with path.open("r+b") as file:
        for index, clock in sound_clocks(path).items():
            source = wanted.get(index)
            if source is not None and source.sample_bytes == clock.sample_bytes:
                file.seek(clock.at)
                file.write(struct.pack("<II", source.scale, source.rate))
