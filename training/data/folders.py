"""What is below a folder, by names alone: its images, its clips, and folders that are kept for tests."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from itertools import pairwise
from pathlib import Path

from vderain.training.data.images import CLIPS, IMAGES, natural

_FOR_TESTS = re.compile(r"(^|[_-])(test|testing|val|validation)([_-]|$)", re.IGNORECASE)
_SEQUENCE = 5  # images in a folder that count as a clip


def files_below(
    folder: Path, suffixes: frozenset[str], *, tests: bool = False
) -> Iterator[tuple[Path, Path]]:
    """Files below a folder with their path inside it, in natural order; with ``tests`` also ``folders_for_tests``."""
    if folder.is_file():
        if folder.suffix.lower() in suffixes:
            yield folder, Path(folder.name)
        return
    for path in sorted(folder.rglob("*"), key=natural):
        inside = path.relative_to(folder)
        hidden = any(part.startswith(".") for part in inside.parts)
        for_tests = any(_FOR_TESTS.search(part) for part in inside.parts[:-1])
        left_out = hidden or (for_tests and not tests)
        if path.suffix.lower() in suffixes and path.is_file() and not left_out:
            yield path, inside


def folders_for_tests(folder: Path) -> list[Path]:
    """The folders below one whose names say that they are for tests."""
    if not folder.is_dir():
        return []
    below = (path for path in sorted(folder.rglob("*")) if path.is_dir())
    return [path for path in below if _FOR_TESTS.search(path.name)]


def find_clips(folder: Path, *, tests: bool = False) -> list[Path]:
    """Video files below a folder, and folders that hold a clip as images; one file is itself a clip.

    With ``tests`` also in folders whose names say that they are for tests.
    """
    images: dict[Path, list[Path]] = {}
    for path, _ in files_below(folder, IMAGES, tests=tests):
        images.setdefault(path.parent, []).append(path)
    sequences = [path for path, files in images.items() if _is_sequence(files)]
    videos = [path for path, _ in files_below(folder, CLIPS, tests=tests)]
    return sorted(videos + sequences, key=natural)


def _is_sequence(files: Sequence[Path]) -> bool:
    """Whether images in order are the frames of a clip: their names differ in a number, which counts evenly."""
    names = [natural(Path(path.name)) for path in files]
    if len(files) < _SEQUENCE or len({len(name) for name in names}) > 1:
        return False
    changing = [parts for parts in zip(*names, strict=True) if len(set(parts)) > 1]
    if len(changing) != 1:
        return False
    numbers = [part for part in changing[0] if isinstance(part, int)]
    return len(numbers) == len(files) and len({b - a for a, b in pairwise(numbers)}) == 1
