"""Samples to train on: folders become sequences of images, decoded when they are needed."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any, overload

from vderain.errors import OptionError, SourceError
from vderain.training.data.cache import ImageCache
from vderain.training.data.images import CLIPS, IMAGES, ClipFrame
from vderain.training.data.layouts.find import Found, find_samples
from vderain.training.data.layouts.readers import LAYOUTS, PairFile, Role
from vderain.training.data.layouts.source import Source
from vderain.training.data.segments import Kind, Segment, SegmentStore
from vderain.training.rain.render import Image

__all__ = [
    "READERS",
    "Image",
    "Sample",
    "Samples",
    "SkippedFiles",
    "Source",
    "clean_tables",
    "load_sources",
    "open_source_folder",
    "read_clean",
    "read_halves",
    "read_pairs",
]

_log = logging.getLogger(__name__)
# By section of a configuration: what has no place there, and where it has.
_MISPLACED: dict[str, tuple[Role, str]] = {
    "sources": ("rainy", "holds rain without ground truth; name it under [real]"),
    "real": (
        "clean",
        "holds no rain; use reader real for images of rain, rainy_clips for clips, or set"
        " rendered = true to render it",
    ),
    "unpaired": ("rainy", "holds no clean images; use reader clean or clips"),
}
SEGMENT_KINDS: dict[str, Kind] = {
    "static_rain": "scene",
    "mined_clips": "scene",
    "plates": "plate",
}
_CHECKED_AT_LEAST = 16  # samples of a source that are tried at the start, however full the cache is
_NAMED = 5  # skipped files that the report names one by one


@dataclass(frozen=True, slots=True, eq=False)
class Sample:
    """Images (H, W, 3) uint8 RGB, of one size where there are two.

    ``rainy`` is None where rain is rendered, ``background`` where real rain has no ground truth.
    ``upside_down`` says that the pair may be put upside down. ``frames`` are the background, in the middle,
    and what is before and after it in its clip, where that is needed. ``segment`` is real rain: with a
    scene that has the ground truth, or, where ``gives_rain``, to be added to other samples.
    """

    rainy: Image | None
    background: Image | None
    upside_down: bool = False
    frames: tuple[Image, ...] = ()
    segment: Segment | None = None
    gives_rain: bool = False


@dataclass(slots=True)
class SkippedFiles:
    """What was left out of a source, and why, by file."""

    name: str
    total: int
    reasons: dict[Path, str] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.reasons)

    def __str__(self) -> str:
        """``rain800: 3 of 320 files skipped: a.jpg: not an image; ...``."""
        named = [f"{path.name}: {why}" for path, why in list(self.reasons.items())[:_NAMED]]
        more = [f"and {len(self) - _NAMED} more"] if len(self) > _NAMED else []
        return (
            f"{self.name}: {len(self)} of {self.total} files skipped: {'; '.join([*named, *more])}"
        )


class Samples(Sequence[Sample]):
    """The samples of one source, decoded on demand through a cache.

    In place of a sample that cannot be used the next one comes, always the same; ``skipped`` names it.

    Attributes:
        role: "paired" (with ground truth), "clean" (rain is rendered on it), "rainy" (real, unpaired), "static"
            (real, of a static camera, whose median is the ground truth), or "rain" (to be added to clean samples).
        share: how often the source is drawn, relative to others.
        reach: how many frames before and after a clean clip's frame come with it.
        segments: where seconds of clips are kept; sources that share it decode a clip once.

    """

    def __init__(
        self,
        name: str,
        found: Found,
        source: Source,
        cache: ImageCache,
        *,
        reach: int = 0,
        segments: SegmentStore | None = None,
    ) -> None:
        self.name = name
        self.cache = cache
        self.reach = reach
        self.reader = found.reader
        self.role: Role = found.layout.role
        self.share = source.share
        self.skipped = SkippedFiles(name, len(found.samples) + len(found.unmatched))
        self.skipped.reasons.update(found.unmatched)
        self._files = found.samples
        self._segments = segments or SegmentStore()
        upside_down = found.layout.upside_down if source.upside_down is None else source.upside_down
        self._upside_down = upside_down and self.role == "paired"
        self._broken: dict[int, str] = {}

    def __len__(self) -> int:
        return len(self._files)

    @overload
    def __getitem__(self, index: int) -> Sample: ...

    @overload
    def __getitem__(self, index: slice) -> list[Sample]: ...

    def __getitem__(self, index: int | slice) -> Sample | list[Sample]:
        """A sample, or the next one that can be used; SourceError where none can."""
        if isinstance(index, slice):
            return [self[i] for i in range(*index.indices(len(self)))]
        if not -len(self) <= index < len(self):
            raise IndexError(index)
        for step in range(len(self)):
            number = (index + step) % len(self)
            if number in self._broken:
                continue
            try:
                return self._read(self._files[number])
            except SourceError as error:
                self._skip(number, str(error))
        raise self._nothing()

    def __iter__(self) -> Iterator[Sample]:
        """Each sample that can be used, once, in order; SourceError where none can."""
        for number, files in enumerate(self._files):
            try:
                sample = self._read(files)
            except SourceError as error:
                self._skip(number, str(error))
                continue
            yield sample
        if len(self._broken) == len(self):
            raise self._nothing()

    def load(self) -> SkippedFiles:
        """Decode samples until the cache is full, so that bad files are known before training begins.

        Beyond that, files are read when they are drawn. Raises SourceError where none can be used.
        """
        for checked, _ in enumerate(self, 1):
            if self.cache.overflowed and checked >= _CHECKED_AT_LEAST:
                break
        if self.skipped:
            _log.warning("%s", self.skipped)
        return self.skipped

    def _read(self, files: PairFile) -> Sample:
        if self.reader in SEGMENT_KINDS:
            assert isinstance(files.rainy, ClipFrame)
            of_clip = self._segments.segments(files.path, SEGMENT_KINDS[self.reader])
            chosen = of_clip[files.rainy.index % len(of_clip)]
            return Sample(None, None, segment=chosen, gives_rain=self.role == "rain")
        if self.reach and files.rainy is None and isinstance(files.background, ClipFrame):
            place = replace(files.background, reach=self.reach)
            offsets = range(-self.reach, self.reach + 1)
            frames = tuple(self.cache.image(replace(place, offset=k)) for k in offsets)
            return Sample(None, frames[self.reach], self._upside_down, frames)
        rainy, background = (
            None if reference is None else self.cache.image(reference)
            for reference in (files.rainy, files.background)
        )
        if rainy is not None and background is not None and rainy.shape != background.shape:
            assert files.background is not None
            sizes = [f"{image.shape[1]}x{image.shape[0]}" for image in (rainy, background)]
            raise SourceError(
                f"{files.path} is {sizes[0]} but {files.background.path} is {sizes[1]}; a pair has one size"
            )
        return Sample(rainy, background, self._upside_down)

    def _nothing(self) -> SourceError:
        path, reason = next(iter(self.skipped.reasons.items()))
        return SourceError(
            f"{self.name}: none of {self.skipped.total} files can be used; {path}: {reason}"
        )

    def _skip(self, number: int, reason: str) -> None:
        path = self._files[number].path
        self._broken[number] = reason
        self.skipped.reasons[path] = reason.removeprefix(f"{path}: ").removeprefix(f"{path} ")


def open_source_folder(
    name: str,
    source: Source,
    data: Path,
    cache: ImageCache | None = None,
    *,
    reach: int = 0,
    segments: SegmentStore | None = None,
) -> Samples:
    """The samples of a source below ``data``, nothing decoded yet; ``reach`` and ``segments`` as of Samples.

    Raises SourceError where there is no folder, or nothing in it that the reader can read.
    """
    backgrounds = data / source.backgrounds if source.backgrounds else None
    found = find_samples(data / source.path, source, backgrounds)
    if source.reader == "auto":
        _log.info(
            "%s: %s is read as %s, %d samples",
            name,
            data / source.path,
            found.reader,
            len(found.samples),
        )
    return Samples(name, found, source, cache or ImageCache(), reach=reach, segments=segments)


def load_sources(
    tables: Mapping[str, Mapping[str, Any]],
    data: Path,
    cache: ImageCache,
    section: str = "sources",
    *,
    reach: int = 0,
) -> dict[str, Samples]:
    """The sources of a configuration's section by name, checked and decoded as far as the cache holds.

    ``tables`` has a table of Source's settings for each, ``reach`` is that of Samples. Raises OptionError
    for a setting that does not exist and for a source in the wrong section, SourceError for a folder in
    which nothing can be used.
    """
    sources = {name: Source.from_table(name, table) for name, table in tables.items()}
    for name, source in sources.items():
        if not (data / source.path).exists():
            raise SourceError(
                f"{data / source.path}: no such folder (source {name}); paths begin at the data folder,"
                " else at $VDERAIN_DATA, else here"
            )
    segments = SegmentStore()  # one, so that sources of one folder decode it once
    opened = {
        name: open_source_folder(name, source, data, cache, reach=reach, segments=segments)
        for name, source in sources.items()
    }
    misplaced, advice = _MISPLACED[section]
    for name, samples in opened.items():
        if samples.role == misplaced and not (section == "real" and sources[name].rendered):
            raise OptionError(f"{section}.{name} (read as {samples.reader}): {advice}")
        if samples.role in ("static", "rain") and section != "sources":
            raise OptionError(
                f"{section}.{name}: reader {samples.reader} is for [sources]; use real or rainy_clips"
            )
    for samples in opened.values():
        samples.load()
    return opened


def clean_tables(folders: Sequence[Path]) -> dict[str, dict[str, Any]]:
    """A configuration's sources that render rain onto the clean clips and images of some folders.

    Raises SourceError for a folder without either, OptionError for one that holds pairs.
    """
    tables: dict[str, dict[str, Any]] = {}
    for folder in folders:
        found = find_samples(folder, Source())
        if found.layout.role == "paired":
            raise OptionError(
                f"{folder}: holds pairs ({found.reader}), not only clean footage; name it in a "
                "configuration's [sources] instead"
            )
        suffixes = {path.suffix.lower() for path in folder.rglob("*")}
        for reader, known in (("clips", CLIPS), ("clean", IMAGES)):
            if not suffixes & known:
                continue
            table = {"reader": reader, "path": str(folder.resolve()), "share": 1.0}
            tables[f"{reader}{len(tables) + 1}"] = table
    # What photographs lack: flat and saturated colours, which a network would take for rain.
    tables["charts"] = {"reader": "charts", "path": "", "share": 0.05 * len(tables)}
    return tables


def _read(reader: str, folder: Path, **settings: Any) -> Samples:
    source = replace(Source(reader=reader), **settings)
    return open_source_folder(folder.name or reader, source, folder, ImageCache())


def read_halves(folder: Path, clean_side: str = "left") -> Samples:
    """Pairs in one file each, the clean one on ``clean_side``."""
    return _read("halves", folder, clean_side=clean_side)


def read_pairs(folder: Path) -> Samples:
    """Pairs in two folders, such as ``input`` and ``target``, same names."""
    return _read("pairs", folder)


def read_clean(folder: Path) -> Samples:
    """Clean images below a folder."""
    return _read("clean", folder)


READERS = {name: partial(_read, name) for name in ("auto", *LAYOUTS)}
"""By name: a folder becomes its Samples."""
