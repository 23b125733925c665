"""What FFmpeg's demuxer does not read of an MP4 or MOV file: boxes around and inside its index."""

from __future__ import annotations

import struct
from collections import Counter
from collections.abc import Collection, Iterator
from contextlib import suppress
from dataclasses import dataclass, field, replace
from typing import IO

from vderain.media.mp4.boxes import (
    Box,
    BoxError,
    Place,
    children,
    entry_boxes,
    has_other_speed,
    places,
    printable,
    read_movie,
    sample_entries,
    tracks_of,
)  # fmt: skip

# Boxes that every muxer writes itself.
_FILE_STRUCTURE = frozenset(
    {
        b"ftyp",
        b"styp",
        b"moov",
        b"moof",
        b"mdat",
        b"mfra",
        b"sidx",
        b"ssix",
        b"pdin",
        b"prft",
        b"imda",
    }
)
_MOVIE_STRUCTURE = frozenset({b"mvhd", b"trak", b"mvex", b"iods", b"udta", b"meta"})
_FILLERS = frozenset({b"free", b"skip", b"wide"})
_WRITER = frozenset({b"\xa9too", b"\xa9swr", b"\xa9enc"})  # the program that wrote the file
_CHAPTERS = b"chpl"
# Of user data, the boxes that FFmpeg reads as tags; the others exist in MP4 and MOV alone.
_READ = frozenset(
    {
        b"meta",
        b"name",
        b"titl",
        b"auth",
        b"perf",
        b"gnre",
        b"dscp",
        b"cprt",
        b"albm",
        b"yrrc",
        b"loci",
        b"XMP_",
    }
)
_OF_TRACK = (b"udta", b"meta", b"uuid", b"tapt")
_REFERENCES = b"tref"
# Of references between tracks, those that FFmpeg writes itself: to timecode, chapters and streaming hints.
_WRITTEN_REFERENCES = frozenset({b"tmcd", b"chap", b"hint"})
# Of the description of a video, the boxes that belong to its frames and not to their codec.
SPHERICAL, CROP = frozenset({b"sv3d", b"st3d", b"uuid", b"vexu", b"hfov"}), b"clap"
# Handlers of tracks that FFmpeg writes itself: video, sound, subtitles and timecode.
_WRITTEN_KINDS = frozenset({b"vide", b"soun", b"text", b"sbtl", b"subt", b"subp", b"clcp", b"tmcd"})
_SECOND_VIEW = frozenset({b"lhvC", b"lvcC"})
_DOLBY_VISION = frozenset({b"dvcC", b"dvvC", b"dvwC"})
_OF_FRAMES = SPHERICAL | {CROP}
_LOOK_BYTES = 1 << 20  # of a filler that are checked for content


@dataclass(frozen=True, slots=True)
class TrackBoxes:
    """Boxes of one track: its own, the descriptions of its samples, and those about its frames.

    ``is_data`` tells tracks for programs from video, sound and text; of these alone ``handler`` and ``media_header``
    are known.
    ``other_speed`` is set where an edit list plays parts of it faster, slower or as a still.
    """

    own: tuple[Box, ...] = ()
    language: Box | None = None
    entries: tuple[Box, ...] = ()
    of_frames: tuple[Box, ...] = ()
    second_view: bool = False
    dolby_vision: bool = False
    other_speed: bool = False
    references: tuple[Box, ...] = ()
    is_data: bool = False
    handler: Box | None = None
    media_header: Box | None = None

    @property
    def named(self) -> dict[bytes, tuple[int, ...]]:
        """The numbers of the tracks that it names, by the kind of the reference."""
        return {
            box.kind: struct.unpack_from(f">{len(box.data) // 4}I", box.data)
            for box in self.references
        }

    def naming(self, carried: Collection[int]) -> tuple[Box, ...]:
        """The references to tracks of these numbers; a reference to none of them is left out."""
        known = {
            kind: [number for number in numbers if number in carried]
            for kind, numbers in self.named.items()
        }
        return tuple(
            Box(kind, struct.pack(f">{len(some)}I", *some)) for kind, some in known.items() if some
        )


@dataclass(frozen=True, slots=True)
class Leftovers:
    """The boxes of a file without its tracks, chapters and usual tags.

    Attributes:
        path: of the file.
        outside: boxes outside of the index, and data behind the last box.
        movie: boxes of the index that are neither tracks nor tags.
        user_data: the boxes of ``udta`` in the index; chapters and the writer's name are left out.
        tags: the ``meta`` boxes of the index.
        tracks: by the number of the track.

    """

    path: str
    outside: tuple[Place, ...] = ()
    movie: tuple[Box, ...] = ()
    user_data: tuple[Box, ...] = ()
    tags: tuple[Box, ...] = ()
    tracks: dict[int, TrackBoxes] = field(default_factory=dict)

    @property
    def unread_user_data(self) -> tuple[Box, ...]:
        """User data that FFmpeg does not read as tags."""
        return tuple(
            box for box in self.user_data if box.kind not in _READ and box.kind[:1] != b"\xa9"
        )

    def of(self, number: int) -> TrackBoxes:
        """The boxes of a track; none for an unknown one."""
        return self.tracks.get(number, TrackBoxes())

    def naming(self, carried: Collection[int]) -> Leftovers:
        """These boxes in an output that has the tracks of these numbers: others are neither named nor name any."""
        tracks = {
            number: replace(track, references=track.naming(carried if number in carried else ()))
            for number, track in self.tracks.items()
        }
        return replace(self, tracks=tracks)

    def entry(self, number: int) -> bytes | None:
        """The description of a track's samples; None for an unknown track."""
        entries = self.of(number).entries
        return bytes(entries[0]) if entries else None


def read_leftovers(path: str) -> Leftovers | None:
    """Read the boxes of a file; None for one that is no MP4 or MOV, or that cannot be read. Raises nothing."""
    try:
        with open(path, "rb") as file:
            found = list(places(file))
            if not any(place.kind == b"moov" for place in found):
                return None
            outside = tuple(place for place in found if _is_content(file, place))
            movie = read_movie(file, next(place for place in found if place.kind == b"moov"))
    except (OSError, BoxError):
        return None
    user_data = [box for parent in movie.all(b"udta") for box in parent.children]
    return Leftovers(
        path,
        outside,
        tuple(
            box
            for box in movie.children
            if box.kind not in _MOVIE_STRUCTURE and (box.kind not in _FILLERS or any(box.data))
        ),
        tuple(box for box in user_data if not _is_of_the_writer(box)),
        tuple(movie.all(b"meta")),
        {number: _track(track) for number, track in tracks_of(movie).items()},
    )


def _is_content(file: IO[bytes], place: Place) -> bool:
    """Whether a box outside of the index is more than structure or free space."""
    if place.kind in _FILE_STRUCTURE:
        return False
    file.seek(place.start)
    if not place.kind and file.read(8)[4:] in _FILE_STRUCTURE:
        return False  # a box that was cut off, as of a recording that still grows
    if place.kind not in _FILLERS and place.kind:
        return True
    file.seek(place.start + place.header)
    return any(file.read(min(place.size - place.header, _LOOK_BYTES)))


def _is_of_the_writer(box: Box) -> bool:
    """Whether user data holds only chapters or the writer's name, which the output replaces."""
    if box.kind == _CHAPTERS or box.kind in _WRITER:
        return True
    if box.kind != b"meta":
        return not box.data and not box.children
    listed = box.data.find(b"ilst")
    # FFmpeg's own: a list of one item, the writer's name.
    return (
        b"mdir" in box.data
        and listed > 0
        and box.data[listed + 8 : listed + 12] in _WRITER
        and (
            int.from_bytes(box.data[listed - 4 : listed], "big")
            == int.from_bytes(box.data[listed + 4 : listed + 8], "big") + 8
        )
    )


def _track(track: Box) -> TrackBoxes:
    entries = sample_entries(track)
    handler = track.find(b"mdia", b"hdlr")
    kind = handler.data[8:12] if handler is not None else b""
    inside = entry_boxes(entries[0]) if kind == b"vide" and entries else []
    is_data = bool(kind) and kind not in _WRITTEN_KINDS
    information = track.find(b"mdia", b"minf")
    headers = information.all(b"gmhd", b"nmhd") if is_data and information is not None else []
    return TrackBoxes(
        tuple(track.all(*_OF_TRACK)),
        track.find(b"mdia", b"elng"),
        tuple(entries),
        tuple(box for box in inside if box.kind in _OF_FRAMES),
        any(box.kind in _SECOND_VIEW for box in inside),
        any(box.kind in _DOLBY_VISION for box in inside),
        has_other_speed(track),
        tuple(_references(track)),
        is_data,
        handler if is_data else None,
        headers[0] if headers else None,
    )


def _references(track: Box) -> Iterator[Box]:
    for parent in track.all(_REFERENCES):
        with suppress(BoxError):
            for box in children(parent.data):
                if box.kind not in _WRITTEN_REFERENCES and any(box.data):
                    yield box


def summary(paths: Iterator[str] | list[str]) -> str:
    """Boxes as text, each kind once with its count: ``2 free, moov/gps``."""
    counted = Counter(paths)
    return ", ".join(
        f"{count} {path}" if count > 1 else path for path, count in sorted(counted.items())
    )


def path_of(kind: bytes, *parents: str) -> str:
    """The path of a box as text; data that is no box is called data behind the last box."""
    return "/".join([*parents, printable(kind).strip()]) if kind else "data behind the last box"
