"""Unlabelled rainy footage as short pieces of consecutive frames, some of them for validation (ours)."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from vderain.errors import SourceError
from vderain.frames import Frame
from vderain.media import open_source
from vderain.options import EncodeOptions, RunOptions
from vderain.training.data.cache import ImageCache
from vderain.training.data.folders import find_clips
from vderain.training.data.images import CLIPS, IMAGES, ClipFile, read_window, sequence_files
from vderain.training.data.sources import load_sources
from vderain.training.rain.streaks import Image
from vderain.training.rain.temporal import View, view

_log = logging.getLogger(__name__)

WINDOW = 7  # frames of a piece; the middle one is learnt from
_SHORTEST = 24  # frames of a clip: some to learn from, some for validation, none in both
_VALIDATION_SHARE = 0.2  # of a clip, at its end
_PIECES_FOR_ONE = 5  # for so many to learn from, one is for validation
_LARGEST = (576, 960)  # height and width of the part of an image that is looked at
_STILL = 0.02  # code values of mean difference between frames, below which nothing moves
_FEWEST = 3  # pieces that must be left


@dataclass(frozen=True, slots=True, eq=False)
class Piece:
    """Consecutive frames (H, W, 3) uint8 RGB of one place, and how messages call it."""

    name: str
    frames: tuple[Image, ...]


@dataclass(frozen=True, slots=True, eq=False)
class Footage:
    """The pieces that a run learns from, and those that validate it: later frames, from which it does not learn."""

    learnt: tuple[Piece, ...]
    validation: tuple[Piece, ...]
    notes: tuple[str, ...] = ()


def read_footage(paths: Sequence[Path], count: int, seed: int = 1) -> Footage:
    """Some ``count`` pieces to learn from, spread over clips, and a fifth as many for validation.

    ``paths`` are video files, folders of them, and folders with an image for each frame. Pieces that
    cannot be decoded are left out and named in ``notes``. Raises SourceError where there are no clips, they
    are too short, nothing moves in them, or too little of them can be read.
    """
    clips = [clip for path in paths for clip in _clips(path)]
    lengths = {clip: clip_length(clip) for clip in dict.fromkeys(clips)}
    for clip, length in lengths.items():
        if length < _SHORTEST:
            frames = "1 frame" if length == 1 else f"{length} frames"
            raise SourceError(
                f"{clip}: has {frames}, too few; adapting needs at least {_SHORTEST} of each clip, a minute is good"
            )
    total = sum(lengths.values())
    learnt: list[ClipFile] = []
    validation: list[ClipFile] = []
    for clip, length in lengths.items():
        share = length / total
        end = length - max(WINDOW + 2, round(length * _VALIDATION_SHARE))
        learnt += _spread(clip, 0, end, max(2, round(count * share)))
        validation += _spread(clip, end, length, max(2, round(count / _PIECES_FOR_ONE * share)))
    notes: list[str] = []
    sizes: dict[Path, tuple[int, ...]] = {}
    rng = np.random.default_rng(seed)
    footage = Footage(
        tuple(_read(learnt, rng, notes, sizes)),
        tuple(_read(validation, rng, notes, sizes)),
        tuple(notes),
    )
    _check(footage, [str(path) for path in paths])
    return footage


def read_lessons(
    pieces: Sequence[Piece], derain: Callable[[Sequence[Image]], Sequence[Image]]
) -> Iterator[tuple[View, tuple[Image, ...]]]:
    """Each piece as a view, and its frames as ``derain`` predicts them."""
    for piece in pieces:
        derained = tuple(derain(piece.frames))
        yield view(piece.frames, derained), derained


def read_frames(paths: Sequence[Path], count: int) -> list[Image]:
    """Some ``count`` single frames and images of files and folders, (H, W, 3) uint8 RGB; SourceError for none."""
    tables = {}
    for number, path in enumerate(paths):
        if not path.exists():
            raise SourceError(f"{path}: there is no such file or folder")
        suffixes = (
            {path.suffix.lower()} if path.is_file() else {f.suffix.lower() for f in path.rglob("*")}
        )
        for reader, known in (("clips", CLIPS), ("clean", IMAGES)):
            if suffixes & known:
                tables[f"{reader}{number}"] = {"path": str(path.resolve()), "reader": reader}
        if not suffixes & (CLIPS | IMAGES):
            raise SourceError(f"{path}: holds no images and no clips")
    found: list[Image] = []
    for samples in load_sources(tables, Path(), ImageCache()).values():
        for number in np.unique(
            np.linspace(0, len(samples) - 1, max(1, count // len(tables))).astype(int)
        ):
            background = samples[int(number)].background
            assert background is not None
            found.append(background)
    return found


def clip_length(clip: Path) -> int:
    """How many frames a clip has, as its container says where it does, else counted."""
    if clip.is_dir():
        return len(sequence_files(clip))
    with closing(
        open_source(str(clip), run=RunOptions(), encode=EncodeOptions(interlaced="deinterlace"))
    ) as source:
        info = source.info
        if info.frames:
            return info.frames
        if info.duration_s and info.frame_rate:
            return int(info.duration_s * info.frame_rate)
        return sum(isinstance(item, Frame) for item in source)


def _clips(path: Path) -> list[Path]:
    if not path.exists():
        raise SourceError(f"{path}: there is no such file or folder")
    if path.is_file() and path.suffix.lower() in IMAGES:
        raise SourceError(
            f"{path}: is one image; adapting needs clips, whose rain moves from frame to frame"
        )
    found = [path] if path.is_file() else find_clips(path, tests=True)
    if not found:
        raise SourceError(
            f"{path}: holds no clips ({', '.join(sorted(CLIPS))}, or folders of their images)"
        )
    return found


def _spread(clip: Path, start: int, end: int, count: int) -> list[ClipFile]:
    """Up to ``count`` windows between two frames, evenly spread."""
    last = end - WINDOW
    starts = np.unique(np.linspace(start, max(start, last), count).astype(int))
    return [ClipFile(clip, int(one), WINDOW) for one in starts]


def _read(
    windows: Sequence[ClipFile],
    rng: np.random.Generator,
    notes: list[str],
    sizes: dict[Path, tuple[int, ...]],
) -> Iterator[Piece]:
    for window in windows:
        name = f"{window.path.name}, frame {window.start + WINDOW // 2}"
        try:
            frames = read_window(window)
        except SourceError as error:
            reason = str(error)
            if "differ in size" in reason:
                raise
            notes.append(f"left out: {reason}")
            _log.warning("left out: %s", reason)
            continue
        if sizes.setdefault(window.path, frames[0].shape) != frames[0].shape:
            raise SourceError(f"{window.path}: its frames differ in size")
        rows, columns = (
            _part(rng, *side) for side in zip(frames[0].shape[:2], _LARGEST, strict=True)
        )
        yield Piece(name, tuple(np.ascontiguousarray(frame[rows, columns]) for frame in frames))


def _part(rng: np.random.Generator, length: int, longest: int) -> slice:
    start = int(rng.integers(max(1, length - longest + 1)))
    return slice(start, start + longest)


def _check(footage: Footage, names: Sequence[str]) -> None:
    named = ", ".join(names)
    pieces = footage.learnt + footage.validation
    if len(footage.learnt) < _FEWEST or not footage.validation:
        reason = f" ({footage.notes[0]})" if footage.notes else ""
        raise SourceError(
            f"{named}: too little can be read{reason}; give another copy, or more footage"
        )
    for piece in pieces:
        if min(piece.frames[0].shape[:2]) < 64:
            height, width = piece.frames[0].shape[:2]
            raise SourceError(
                f"{piece.name}: images of {width}x{height} are too small; adapting needs 64 pixels a side"
            )
    if max(_movement(piece) for piece in pieces) < _STILL:
        raise SourceError(
            f"{named}: is a still image, frame after frame; adapting needs rain that moves"
        )


def _movement(piece: Piece) -> float:
    first, second = (piece.frames[i].astype(np.int16) for i in (WINDOW // 2, WINDOW // 2 + 1))
    return float(np.abs(first - second).mean())
