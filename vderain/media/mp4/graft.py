"""Adds to a complete MP4 or MOV file what FFmpeg's muxer does not write, and moves its index to the front."""

from __future__ import annotations

import os
import struct
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO

from vderain.media.mp4.boxes import (
    Box,
    Place,
    entry_boxes,
    places,
    read_movie,
    sample_entries,
    tracks_of,
)
from vderain.media.mp4.data_tracks import describe
from vderain.media.mp4.leftovers import Leftovers, TrackBoxes

_BLOCK = 1 << 22  # bytes that are copied at once
_CHAPTERS = b"chpl"
_OFFSETS = {b"stco": ">I", b"co64": ">Q"}
_SMALL_OFFSET = 0xFFFF_FFFF
# FFmpeg's tag -> QuickTime's user data, which phones and photo tools read.
PLAIN_TAGS = {"location": b"\xa9xyz", "make": b"\xa9mak", "model": b"\xa9mod"}
_LANGUAGE = 0x55C4  # undetermined, packed
_TEXT = 1  # type of a value: UTF-8


@dataclass(frozen=True, slots=True)
class Graft:
    """The additions to a file.

    Attributes:
        leftovers: of the source; None where it is no MP4 or MOV.
        tracks: number of a track in the source -> index of its track in the output, from 0.
        frames_stay: whether frames keep their size, so that crops still fit.
        tags: tags that FFmpeg did not write.
        is_quicktime: whether the output is MOV.

    """

    leftovers: Leftovers | None = None
    tracks: Mapping[int, int] = field(default_factory=dict)
    frames_stay: bool = True
    tags: Mapping[str, str] = field(default_factory=dict)
    is_quicktime: bool = False


def graft(path: Path, what: Graft) -> None:
    """Change a file in place; afterwards its index is before its samples.

    Raises OSError, and BoxError for a file that FFmpeg did not write.
    """
    with path.open("r+b") as file:
        found = list(places(file))
        index = next(place for place in found if place.kind == b"moov")
        front = found[0].end if found[0].kind == b"ftyp" else 0
        movie = read_movie(file, index)
        _put_tags(movie, what)
        if what.leftovers is not None:
            _put_tracks(movie, what.leftovers, what)
            movie.children.extend(what.leftovers.movie)
        end = file.seek(0, os.SEEK_END) - index.size
        before = index.start < found[-1].start
        if before:  # FFmpeg has moved the index to the front; take it out
            _move(file, index.end, end + index.size, -index.size)
        _widen_offsets(movie, end + len(bytes(movie)))
        shift = len(bytes(movie))
        _shift_offsets(movie, shift - (index.size if before else 0))
        extras = _Extras(what.leftovers, end + shift)
        extras.relocate(movie)
        _move(file, front, end, shift)
        file.seek(front)
        file.write(bytes(movie))
        file.truncate(end + shift)
        file.seek(end + shift)
        extras.write(file)


class _Extras:
    """Data behind the samples: boxes of the source, and the data that an index of positions refers to."""

    def __init__(self, leftovers: Leftovers | None, start: int) -> None:
        self._leftovers = leftovers
        self._moved: list[tuple[Place, int]] = []  # a piece of the source, and its new position
        self._at = start
        outside = leftovers.outside if leftovers is not None else ()
        named = _regions(leftovers) if leftovers is not None else []
        inside = [r for r in named if not any(_holds(place, r) for place in outside)]
        # Data that is no box stays last, since some readers search it from the end.
        for place in sorted((*outside, *inside), key=lambda place: (not place.kind, place.start)):
            if place.header or not place.kind:
                self._append(place, 0)
            else:  # data without a box gets one of a kind that readers skip
                self._append(place, 8)

    def _append(self, place: Place, wrapped: int) -> None:
        self._moved.append((place, self._at + wrapped))
        self._at += wrapped + place.size

    def relocate(self, movie: Box) -> None:
        """Write the new positions into the index of positions."""
        end = os.path.getsize(self._leftovers.path) if self._leftovers is not None else 0
        for box in movie.all(b"gps ") if end else ():
            if not _is_index(box, end):
                continue
            box.data = box.data[:8] + b"".join(
                struct.pack(">II", self._new(start, size), size) for start, size in _entries(box)
            )

    def _new(self, start: int, size: int) -> int:
        for place, at in self._moved:
            if _holds(place, Place(b"", start, size, 0)):
                return at + start - place.start
        return start

    def write(self, file: IO[bytes]) -> None:
        """Append all of it."""
        if self._leftovers is None or not self._moved:
            return
        with open(self._leftovers.path, "rb") as source:
            for place, at in self._moved:
                if at > file.tell():
                    file.write(struct.pack(">I4s", place.size + 8, b"free"))
                source.seek(place.start)
                left = place.size
                while left and (block := source.read(min(left, _BLOCK))):
                    file.write(block)
                    left -= len(block)


def _entries(box: Box) -> list[tuple[int, int]]:
    """Positions and sizes of pieces of GPS data in the file, as dashcams write them."""
    count = (len(box.data) - 8) // 8
    return [struct.unpack_from(">II", box.data, 8 + 8 * number) for number in range(count)]


def _is_index(box: Box, end: int) -> bool:
    """Whether a box is an index of positions in a file of this length; it may hold the data itself."""
    if box.kind != b"gps " or len(box.data) < 16 or len(box.data) % 8:
        return False
    entries = _entries(box)
    count = int.from_bytes(box.data[4:8], "big")
    return count == len(entries) and all(start + size <= end for start, size in entries)


def _regions(leftovers: Leftovers) -> list[Place]:
    """The data that an index of positions refers to, inside the file."""
    end = os.path.getsize(leftovers.path)
    found = {}
    for box in leftovers.movie:
        for start, size in _entries(box) if _is_index(box, end) else ():
            if size:
                found[start] = size
    with open(leftovers.path, "rb") as file:
        return [_region(file, start, size) for start, size in sorted(found.items())]


def _region(file: IO[bytes], start: int, size: int) -> Place:
    file.seek(start)
    begin = file.read(8)
    is_box = len(begin) == 8 and int.from_bytes(begin[:4], "big") == size
    return Place(begin[4:] if is_box else b"free", start, size, 8 if is_box else 0)


def _holds(outer: Place, inner: Place) -> bool:
    return outer.start <= inner.start and inner.end <= outer.end


def _put_tags(movie: Box, what: Graft) -> None:
    """The source's own tags instead of FFmpeg's, or next to them the tags that FFmpeg did not write."""
    left = what.leftovers
    if left is not None and (left.user_data or left.tags):
        chapters = [box for udta in movie.all(b"udta") for box in udta.all(_CHAPTERS)]
        movie.children = [box for box in movie.children if box.kind not in (b"udta", b"meta")]
        movie.children.append(Box(b"udta", b"", [*left.user_data, *chapters]))
        movie.children.extend(left.tags)
        return
    if not movie.all(b"udta"):
        movie.children.append(Box(b"udta"))
    udta = movie.all(b"udta")[0]
    for key, kind in PLAIN_TAGS.items():
        value = next((value for name, value in what.tags.items() if name.lower() == key), None)
        if value is not None and not udta.all(kind):
            udta.children.append(_plain_tag(kind, value))
    others = {key: value for key, value in what.tags.items() if key.lower() not in PLAIN_TAGS}
    if others:
        movie.children.append(_keyed_tags(others, is_quicktime=what.is_quicktime))


def _plain_tag(kind: bytes, value: str) -> Box:
    text = value.encode("utf-8", "surrogateescape")[:0xFFFF]
    return Box(kind, struct.pack(">HH", len(text), _LANGUAGE) + text)


def _keyed_tags(tags: Mapping[str, str], *, is_quicktime: bool) -> Box:
    """The source's QuickTime tags by name."""
    handler = Box(b"hdlr", bytes(8) + b"mdta" + bytes(13))
    keys = b"".join(bytes(Box(b"mdta", _encoded(key))) for key in tags)
    values = b"".join(
        bytes(
            Box(struct.pack(">I", number), bytes(Box(b"data", struct.pack(">II", _TEXT, 0) + text)))
        )
        for number, text in enumerate(map(_encoded, tags.values()), 1)
    )
    content = [handler, Box(b"keys", struct.pack(">II", 0, len(tags)) + keys), Box(b"ilst", values)]
    return Box(b"meta", b"" if is_quicktime else bytes(4), content)


def _encoded(text: str) -> bytes:
    return text.encode("utf-8", "surrogateescape")


def _put_tracks(movie: Box, left: Leftovers, what: Graft) -> None:
    written = movie.all(b"trak")
    places = {number: place for number, place in what.tracks.items() if place < len(written)}
    new_numbers = [number for track in written for number in tracks_of(Box(b"moov", b"", [track]))]
    numbers = {number: new_numbers[place] for number, place in places.items()}
    for number, place in places.items():
        source = left.of(number)
        describe(written[place], source)
        _put_track(written[place], source, frames_stay=what.frames_stay)
        _put_references(written[place], source, numbers)


def _put_references(track: Box, source: TrackBoxes, numbers: Mapping[int, int]) -> None:
    """Let a track name others as its source did; those that the output lacks are left out."""
    made = b""
    for kind, named in source.named.items():
        known = [numbers[number] for number in named if number in numbers]
        if known:
            made += bytes(Box(kind, struct.pack(f">{len(known)}I", *known)))
    if not made:
        return
    if not track.all(b"tref"):
        media = next(i for i, box in enumerate(track.children) if box.kind == b"mdia")
        track.children.insert(media, Box(b"tref"))
    track.all(b"tref")[0].data += made


def _put_track(track: Box, source: TrackBoxes, *, frames_stay: bool) -> None:
    own = [box for box in source.own if frames_stay or box.kind != b"tapt"]
    kinds = {box.kind for box in own}
    track.children = [box for box in track.children if box.kind not in kinds]
    track.children.extend(own)
    media = track.find(b"mdia")
    if source.language is not None and media is not None and not media.all(b"elng"):
        media.children.insert(1, source.language)  # after the header
    for entry in sample_entries(track)[:1] if source.of_frames else ():
        known = {box.kind for box in entry_boxes(entry)}
        entry.data += b"".join(
            bytes(box)
            for box in source.of_frames
            if box.kind not in known and (frames_stay or box.kind != b"clap")
        )


def _tables(movie: Box) -> Iterable[Box]:
    for track in movie.all(b"trak"):
        table = track.find(b"mdia", b"minf", b"stbl")
        yield from table.all(*_OFFSETS) if table is not None else ()


def _widen_offsets(movie: Box, largest: int) -> None:
    """Change to 64-bit positions where the file exceeds 4 GiB."""
    for table in _tables(movie) if largest > _SMALL_OFFSET else ():
        if table.kind == b"stco":
            offsets = struct.unpack_from(f">{(len(table.data) - 8) // 4}I", table.data, 8)
            table.kind = b"co64"
            table.data = table.data[:8] + struct.pack(f">{len(offsets)}Q", *offsets)


def _shift_offsets(movie: Box, shift: int) -> None:
    """Correct the offsets of the samples after all of them were moved."""
    for table in _tables(movie):
        code = _OFFSETS[table.kind][1]
        count = (len(table.data) - 8) // struct.calcsize(code)
        offsets = struct.unpack_from(f">{count}{code}", table.data, 8)
        moved = [offset + shift for offset in offsets]
        table.data = table.data[:8] + struct.pack(f">{count}{code}", *moved)


def _move(file: IO[bytes], start: int, end: int, shift: int) -> None:
    """Move a part of a file in place."""
    size = end - start
    steps = range(0, size, _BLOCK)
    for step in reversed(steps) if shift > 0 else steps:
        file.seek(start + step)
        block = file.read(min(_BLOCK, size - step))
        file.seek(start + step + shift)
        file.write(block)
