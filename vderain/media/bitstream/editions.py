"""Chapters of Matroska and WebM: what FFmpeg does not read of them, which is their order, levels and editions."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import suppress
from typing import IO

from vderain.media.bitstream.ebml import HEAD_BYTES, EbmlError, Element, element_head

_EBML, _SEGMENT, _CLUSTER = 0x1A45DFA3, 0x18538067, 0x1F43B675
_SEEK_HEAD, _SEEK, _SEEK_ID, _SEEK_POSITION = 0x114D9B74, 0x4DBB, 0x53AB, 0x53AC
_CHAPTERS, _EDITION, _ORDERED = 0x1043A770, 0x45B9, 0x45DD
_ATOM, _HIDDEN, _ENABLED, _OTHER_FILE, _TITLE = 0xB6, 0x98, 0x4598, 0x6E67, 0x80
_LARGEST = 16 << 20  # bytes of chapters, and of a table of positions


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
    kind, size, header = element_head(file.read(HEAD_BYTES))
    if kind != _EBML or size is None:
        return None
    file.seek(header + size)
    kind, _, segment_header = element_head(file.read(HEAD_BYTES))
    begin = place = header + size + segment_header
    if kind != _SEGMENT:
        return None
    listed: int | None = None
    while True:
        file.seek(place)
        kind, size, header = element_head(file.read(HEAD_BYTES))
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
    kind, size, header = element_head(file.read(HEAD_BYTES))
    if size is None or size > _LARGEST:
        raise EbmlError(f"an element of {size} bytes")
    file.seek(place + header)
    return Element(kind, file.read(size))
