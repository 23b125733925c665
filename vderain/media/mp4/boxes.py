"""Boxes of MP4 and MOV files, as far as vderain copies what FFmpeg does not read."""

from __future__ import annotations

import io
import struct
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import IO

_LARGEST_MOVIE = 1 << 30  # bytes; enough for the index of days of video
# Kind -> number of bytes before its children.
_PARENTS = {
    b"moov": 0, b"trak": 0, b"mdia": 0, b"minf": 0, b"stbl": 0, b"udta": 0, b"stsd": 8,
}  # fmt: skip
_VIDEO_ENTRY = 78  # bytes before the boxes of a visual sample entry
_USUAL_RATE = 0x1_0000  # of an edit: 1 in 16.16 bits
ENTRY_HEADER = 16  # bytes of every sample entry: size, kind, reserved, index of the data reference


class BoxError(ValueError):
    """Data that is no box, or a box that does not end within its parent."""


@dataclass(frozen=True, slots=True)
class Place:
    """Position of a box in a file: ``start`` and ``size`` in bytes; its header of ``header`` bytes is included."""

    kind: bytes
    start: int
    size: int
    header: int = 8

    @property
    def end(self) -> int:
        """The first byte after it."""
        return self.start + self.size


@dataclass(slots=True)
class Box:
    """A box in memory: ``data`` is all after its header, or the part before its ``children``."""

    kind: bytes
    data: bytes = b""
    children: list[Box] = field(default_factory=list)

    def __bytes__(self) -> bytes:
        content = self.data + b"".join(map(bytes, self.children))
        size = len(content) + 8
        if size < 1 << 32:
            return struct.pack(">I4s", size, self.kind) + content
        return struct.pack(">I4sQ", 1, self.kind, size + 8) + content

    def all(self, *kinds: bytes) -> list[Box]:
        """The children of these kinds."""
        return [child for child in self.children if child.kind in kinds]

    def find(self, *path: bytes) -> Box | None:
        """The first box at a path of kinds below this one."""
        found = self
        for kind in path:
            below = found.all(kind)
            if not below:
                return None
            found = below[0]
        return found


def places(file: IO[bytes]) -> Iterator[Place]:
    """The top boxes of a file; as kind ``b""`` the data after the last one that is no box."""
    end = file.seek(0, 2)
    start = 0
    while start < end:
        file.seek(start)
        try:
            kind, size, header = _header(file.read(16), end - start)
        except BoxError:
            yield Place(b"", start, end - start, 0)
            return
        yield Place(kind, start, size, header)
        start += size


def read_movie(file: IO[bytes], place: Place) -> Box:
    """The index of a file, ``moov``. Raises BoxError."""
    if place.size > _LARGEST_MOVIE:
        raise BoxError(f"the index has {place.size} bytes")
    file.seek(place.start)
    content = file.read(place.size)
    return parse(place.kind, content[place.header :])


def parse(kind: bytes, content: bytes) -> Box:
    """A box with this content; its children are parsed where they are needed. Raises BoxError."""
    prefix = _PARENTS.get(kind)
    if prefix is None or len(content) < prefix:
        return Box(kind, content)
    return Box(kind, content[:prefix], list(children(content[prefix:])))


def children(content: bytes) -> Iterator[Box]:
    """The boxes in a content, one after the other; zeros at its end are ignored. Raises BoxError."""
    start = 0
    while len(content) - start >= 8:
        if not any(content[start:]):
            return
        kind, size, header = _header(content[start : start + 16], len(content) - start)
        yield parse(kind, content[start + header : start + size])
        start += size
    if any(content[start:]):
        raise BoxError("bytes are left behind the last box")


def _header(begin: bytes, left: int) -> tuple[bytes, int, int]:
    if len(begin) < 8:
        raise BoxError("no header of a box")
    size, kind = struct.unpack_from(">I4s", begin)
    header = 8
    if size == 1 and len(begin) >= 16:
        (size,), header = struct.unpack_from(">Q", begin, 8), 16
    elif size == 0:
        size = left
    printable = all(0x20 <= byte < 0x7F or byte == 0xA9 for byte in kind)
    if size < header or size > left or not printable:
        raise BoxError(f"no box: {begin[:8]!r}")
    return kind, size, header


def tracks_of(movie: Box) -> dict[int, Box]:
    """Every ``trak`` by its number."""
    found = {}
    for track in movie.all(b"trak"):
        header = track.find(b"tkhd")
        if header is not None and len(header.data) >= 24:
            at = 20 if header.data[0] else 12
            found[int.from_bytes(header.data[at : at + 4], "big")] = track
    return found


def sample_entries(track: Box) -> list[Box]:
    """The description of a track's samples."""
    table = track.find(b"mdia", b"minf", b"stbl", b"stsd")
    return table.children if table is not None else []


def has_other_speed(track: Box) -> bool:
    """Whether an edit list plays a part of a track at another speed than its own, which FFmpeg ignores."""
    edits = track.find(b"edts")
    tables = [box for box in _readable(edits.data) if box.kind == b"elst"] if edits else []
    for table in tables:
        row = struct.Struct(">QqI" if table.data[:1] == b"\1" else ">IiI")
        rows = table.data[8:]
        usable = rows[: len(rows) // row.size * row.size]
        for lasts, begins, rate in row.iter_unpack(usable):
            if lasts and begins >= 0 and rate != _USUAL_RATE:
                return True
    return False


def first_sample_entry(content: bytes) -> bytes:
    """The description of the samples of a file's first track, in memory; b"" without one."""
    file = io.BytesIO(content)
    for place in places(file):
        if place.kind == b"moov":
            for track in read_movie(file, place).all(b"trak"):
                return b"".join(map(bytes, sample_entries(track)[:1]))
    return b""


def entry_boxes(entry: Box) -> list[Box]:
    """The boxes in a visual sample entry; none where they cannot be read."""
    return _readable(entry.data[_VIDEO_ENTRY:])


def _readable(content: bytes) -> list[Box]:
    try:
        return list(children(content))
    except BoxError:
        return []


def printable(kind: bytes) -> str:
    """A box's kind as text."""
    return kind.decode("latin-1")
