"""Chapters of Matroska and WebM: what FFmpeg does not read of them, which is their order, levels and editions."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from typing import IO

_EBML, _SEGMENT, _CLUSTER = 0x1A45DFA3, 0x18538067, 0x1F43B675
_SEEK_HEAD, _SEEK, _SEEK_ID, _SEEK_POSITION = 0x114D9B74, 0x4DBB, 0x53AB, 0x53AC
_CHAPTERS, _EDITION, _ORDERED = 0x1043A770, 0x45B9, 0x45DD
_ATOM, _HIDDEN, _ENABLED, _OTHER_FILE, _TITLE = 0xB6, 0x98, 0x4598, 0x6E67, 0x80
_LARGEST = 16 << 20  # bytes of chapters, and of a table of positions
_HEAD_BYTES = 12  # of an element: its number, up to four, and its size, up to eight


class EbmlError(ValueError):
    """Data that is no element."""


@dataclass(frozen=True, slots=True)
class Element:
    """An element in memory."""

    kind: int
    data: bytes

    @property
    def number(self) -> int:
        """Its content as a number."""
        return int.from_bytes(self.data, "big")

    def all(self, kind: int) -> list[Element]:
        """The elements of this kind in it. Raises EbmlError."""
        return [child for child in self._children() if child.kind == kind]

    def _children(self) -> Iterator[Element]:
        place = 0
        while place < len(self.data):
            kind, size, header = _head(self.data[place : place + _HEAD_BYTES])
            if size is None or place + header + size > len(self.data):
                raise EbmlError("an element does not end within its parent")
            yield Element(kind, self.data[place + header : place + header + size])
            place += header + size


def edition_losses(path: str) -> list[str]:
    """The line of a report on chapters of a local Matroska file that are more than one plain list."""
    if not os.path.isfile(path):  # a pipe can be read only once
        return []
    with suppress(OSError, EbmlError), open(path, "rb") as file:
        chapters = _chapters(file)
        what = [] if chapters is None else list(_unread(chapters))
        if what:
            return [
                f"editions of Matroska ({', '.join(what)}): lost, an output has one plain list of chapters"
            ]
    return []


def _unread(chapters: Element) -> Iterator[str]:
    editions = chapters.all(_EDITION)
    atoms = [atom for edition in editions for atom in edition.all(_ATOM)]
    if len(editions) > 1:
        yield f"{len(editions)} editions"
    if any(_flag(edition, _ORDERED) for edition in editions):
        yield "ordered chapters, which play in another order"
    if any(atom.all(_OTHER_FILE) for atom in atoms):
        yield "chapters in other files"
    if any(atom.all(_ATOM) for atom in atoms):
        yield "nested chapters"
    if any(_flag(atom, _HIDDEN) or not _flag(atom, _ENABLED, missing=1) for atom in atoms):
        yield "hidden chapters"
    if any(len(atom.all(_TITLE)) > 1 for atom in atoms):
        yield "titles in several languages"


def _flag(element: Element, kind: int, missing: int = 0) -> int:
    found = element.all(kind)
    return found[0].number if found else missing


def _chapters(file: IO[bytes]) -> Element | None:
    """The chapters before the first frames, or where the table of positions has them."""
    kind, size, header = _head(file.read(_HEAD_BYTES))
    if kind != _EBML or size is None:
        return None
    file.seek(header + size)
    kind, _, segment_header = _head(file.read(_HEAD_BYTES))
    begin = place = header + size + segment_header
    if kind != _SEGMENT:
        return None
    listed: int | None = None
    while True:
        file.seek(place)
        kind, size, header = _head(file.read(_HEAD_BYTES))
        if kind == _CHAPTERS:
            return _read(file, place)
        if kind == _SEEK_HEAD:
            listed = _position(_read(file, place), begin) or listed
        if kind == _CLUSTER or size is None:
            found = None if listed is None else _read(file, listed)
            return found if found is not None and found.kind == _CHAPTERS else None
        place += header + size


def _position(table: Element, begin: int) -> int | None:
    """Where a table of positions has the chapters; ``begin`` is that of the segment's content."""
    for entry in table.all(_SEEK):
        if [seek.number for seek in entry.all(_SEEK_ID)] == [_CHAPTERS]:
            return begin + _flag(entry, _SEEK_POSITION)
    return None


def _read(file: IO[bytes], place: int) -> Element:
    file.seek(place)
    kind, size, header = _head(file.read(_HEAD_BYTES))
    if size is None or size > _LARGEST:
        raise EbmlError(f"an element of {size} bytes")
    file.seek(place + header)
    return Element(kind, file.read(size))


def _head(data: bytes) -> tuple[int, int | None, int]:
    """Number and size of an element, and the bytes of both; None as the size of one that ends with its file."""
    kind, used = _number(data, 4, keeps_mark=True)
    size, more = _number(data[used:], 8, keeps_mark=False)
    unknown = size == (1 << 7 * more) - 1
    return kind, None if unknown else size, used + more


def _number(data: bytes, longest: int, *, keeps_mark: bool) -> tuple[int, int]:
    """A number whose leading zeros give its length."""
    length = 9 - data[0].bit_length() if data and data[0] else 9
    if length > longest or length > len(data):
        raise EbmlError("no element")
    value = int.from_bytes(data[:length], "big")
    return value if keeps_mark else value & ((1 << 7 * length) - 1), length
