"""Concatenated MP4 files, as ``cat`` makes them: FFmpeg reads the first and does not mention the second."""

from __future__ import annotations

import os
from dataclasses import dataclass

from vderain.media.mp4.boxes import BoxError, Place, places, read_movie, sample_entries

_BEGINNINGS = (b"ftyp", b"moov", b"mdat", b"free", b"skip", b"wide", b"styp", b"pnot")


@dataclass(frozen=True, slots=True)
class NextMovie:
    """A movie behind the first one of a file; ``start`` is its position in bytes.

    ``mixes`` where FFmpeg would read its fragments with the first movie's settings, which differ.
    """

    start: int
    mixes: bool = False

    @property
    def loss(self) -> str:
        """The line of a report."""
        return (
            f"another movie follows at byte {self.start}, as cat puts files together: only the first was read;"
            f" split the file there (tail -c +{self.start + 1})"
        )


def movie_losses(path: str) -> list[str]:
    """The line of a report where another movie follows the first one of a local file."""
    follows = next_movie(path)
    return [] if follows is None else [follows.loss]


def next_movie(path: str) -> NextMovie | None:
    """The movie behind the first one of a local file; None for one movie, and for a file that is no MP4 or MOV.

    None also for fragments with the settings of the first movie, as when a recorder starts again: FFmpeg reads
    them.
    """
    if not os.path.isfile(path):  # a pipe can be read only once
        return None
    try:
        with open(path, "rb") as file:
            if file.read(8)[4:] not in _BEGINNINGS:
                return None
            found = list(places(file))
            indexes = [place for place in found if place.kind == b"moov"]
            if len(indexes) < 2:
                return None
            start = _beginning(found, indexes[1])
            fragments = [place.start for place in found if place.kind == b"moof"]
            if not fragments or fragments[0] > start or fragments[-1] < start:
                return NextMovie(start)
            first, second = (
                [
                    bytes(entry)
                    for track in read_movie(file, place).all(b"trak")
                    for entry in sample_entries(track)
                ]
                for place in indexes[:2]
            )
            return None if first == second else NextMovie(start, mixes=True)
    except (OSError, BoxError):
        return None


def ends_in_index(path: str) -> bool:
    """Whether a local MP4 or MOV file ends within its index."""
    if not os.path.isfile(path):
        return False
    try:
        with open(path, "rb") as file:
            if file.read(8)[4:] not in _BEGINNINGS:
                return False
            *_, last = places(file)
            file.seek(last.start)
            return not last.kind and file.read(8)[4:] == b"moov"
    except OSError:
        return False


def _beginning(found: list[Place], index: Place) -> int:
    """The position of the movie of the second index."""
    heads = [
        place.start for place in found[1:] if place.kind == b"ftyp" and place.start < index.start
    ]
    return heads[0] if heads else index.start
