"""Folders whose images are the consecutive frames of one video."""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path

import numpy as np
import numpy.typing as npt

from vderain.errors import SourceError
from vderain.frames import Frame

_PATTERN = re.compile(r"%0?(\d*)d")
_NUMBER = re.compile(r"(.*?)(\d+)(\D*)")
_FEWEST = 5  # images of a sequence
_TRIED = 4  # images that are compared, from the first on
_GRID = 24  # images are compared by the means of this many cells across and down
_ALIKE = 0.9  # correlation; above it for frames of one scene, below for two photographs


def pattern_of(path: str) -> re.Pattern[str] | None:
    """The pattern of a sequence's file names, from a path such as ``frames/frame_%04d.png``.

    None where the path exists itself, or has no ``%d``.
    """
    name = os.path.basename(path)
    match = _PATTERN.search(name)
    if match is None or os.path.lexists(path):
        return None
    digits = rf"\d{{{int(match[1] or 1)},}}"
    begin, end = name[: match.start()], name[match.end() :]
    return re.compile(f"{re.escape(begin)}({digits}){re.escape(end)}")


def numbered(folder: Path, pattern: re.Pattern[str]) -> list[Path]:
    """The files of a folder that match a pattern, by their numbers. Raises SourceError where there are none."""
    try:
        names = os.listdir(folder)
    except OSError as error:
        raise SourceError(f"{folder}: cannot be listed: {error.strerror}") from error
    found = {int(match[1]): name for name in sorted(names) if (match := pattern.fullmatch(name))}
    if not found:
        raise SourceError(f"{folder}: no file in it is of the sequence; check the pattern")
    return [folder / found[number] for number in sorted(found)]


class Likeness:
    """Whether a folder looks like a sequence: names with consecutive numbers, and first images of one scene."""

    def __init__(self, images: Sequence[Path]) -> None:
        self._numbered = _are_consecutive([path.name for path in images])
        self._seen: list[npt.NDArray[np.float64]] = []

    def see(self, frame: Frame) -> None:
        """Compare the next image; only the first ones are used."""
        if self._numbered and len(self._seen) < _TRIED:
            self._seen.append(_means(frame))

    @property
    def is_sequence(self) -> bool:
        """Whether it is one, by the images so far."""
        if not self._numbered or len(self._seen) < _TRIED:
            return False
        return all(_likeness(one, other) > _ALIKE for one, other in pairwise(self._seen))


def _are_consecutive(names: Sequence[str]) -> bool:
    matches = [_NUMBER.fullmatch(Path(name).stem) for name in names]
    if len(names) < _FEWEST or not all(matches):
        return False
    parts = [(match[1], match[3], int(match[2])) for match in matches if match is not None]
    steps = {b[2] - a[2] for a, b in pairwise(parts)}
    return len({part[:2] for part in parts}) == 1 and steps == {1}


def _means(frame: Frame) -> npt.NDArray[np.float64]:
    """Means of the cells of a grid over the middle plane (green, or gray)."""
    plane = frame.planes[len(frame.planes) // 2]
    rows = np.array_split(np.arange(plane.shape[0]), min(_GRID, plane.shape[0]))
    columns = np.array_split(np.arange(plane.shape[1]), min(_GRID, plane.shape[1]))
    bands = [plane[r[0] : r[-1] + 1].mean(0) for r in rows]
    return np.array([[band[c[0] : c[-1] + 1].mean() for c in columns] for band in bands])


def _likeness(one: npt.NDArray[np.float64], other: npt.NDArray[np.float64]) -> float:
    if one.shape != other.shape or not one.std() or not other.std():
        return 0.0
    return float(np.corrcoef(one.ravel(), other.ravel())[0, 1])
