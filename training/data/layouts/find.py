"""Finds the samples of a folder: by its reader, or by the first layout that its names fit."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np

from vderain.errors import SourceError
from vderain.training.data.folders import files_below, folders_for_tests
from vderain.training.data.images import CLIPS, IMAGES, half_of, read_image
from vderain.training.data.layouts import naming
from vderain.training.data.layouts.readers import HALVES, LAYOUTS, Layout, PairFile
from vderain.training.data.layouts.source import Source

_RECOGNISED = ("raincityscapes", "nturain", "rain1400", "rain100", "spa", "pairs")
# And neither train nor norain.
_SAYS_RAIN = re.compile(r"(?<![a-z])rain(y|ing)?(?![a-z])", re.IGNORECASE)
# Correlation of the halves of an image that shows a pair; two different scenes have none.
_ALIKE = 0.75


@dataclass(frozen=True, slots=True)
class Found:
    """What a folder holds; ``unmatched`` gives the reason for each rainy file left out."""

    reader: str
    samples: tuple[PairFile, ...]
    unmatched: Mapping[Path, str]

    @property
    def layout(self) -> Layout:
        """How it was read."""
        return LAYOUTS[self.reader]


def find_samples(folder: Path, source: Source, backgrounds: Path | None = None) -> Found:
    """The samples of a folder, or of one file, read as ``source.reader`` says, or as its names suggest.

    ``backgrounds`` is the folder of ``source.backgrounds``. Raises SourceError, saying what was looked
    for, where there is nothing.
    """
    if source.reader == "charts":
        return _find("charts", [], source)
    folders = [folder] if backgrounds is None else [folder, backgrounds]
    for path in folders:
        if not path.exists():
            raise SourceError(f"{path}: no such folder")
    if source.reader == "auto":
        return _recognise(folders, source)
    found = _find(source.reader, folders, source)
    if not found.samples:
        raise _nothing(found, folder, source)
    return found


def _find(reader: str, folders: Sequence[Path], source: Source) -> Found:
    samples, unmatched = [], {}
    for path in (path for folder in folders for path in folders_for_tests(folder)):
        unmatched[path] = "left out, since its name says that it is for tests"
    for found in LAYOUTS[reader].find(folders, source):
        if isinstance(found, PairFile):
            samples.append(found)
        else:
            unmatched[found[0]] = found[1]
    return Found(reader, _part(samples, source), unmatched)


def _part(samples: Sequence[PairFile], source: Source) -> tuple[PairFile, ...]:
    """The samples of the files that ``source.part`` takes, less those of ``without``.

    All frames of a clip go together. What is left out still counts for the parts, so that naming more files
    moves none to the other side.
    """
    number, count = source.parts
    order = {path: index for index, path in enumerate(dict.fromkeys(s.path for s in samples))}
    held = {path.name for path in order}
    if missing := [name for name in source.without if name not in held]:
        raise SourceError(f"without: {source.path} holds no {missing[0]}; name files that it holds")
    return tuple(
        sample
        for sample in samples
        if order[sample.path] % count == number - 1 and sample.path.name not in source.without
    )


def _nothing(found: Found, folder: Path, source: Source) -> SourceError:
    reason = next((f"; {path.name}: {why}" for path, why in found.unmatched.items()), "")
    where = f"{folder}, part {source.part}" if source.part != "1/1" else f"{folder}"
    return SourceError(
        f"{where}: nothing found by reader {found.reader}, which looks for {found.layout.holds}{reason}"
    )


def _recognise(folders: Sequence[Path], source: Source) -> Found:
    """The first layout that fits; SourceError for rainy images without backgrounds, which are not clean."""
    alone: Found | None = None
    for reader in _RECOGNISED:
        found = _find(reader, folders, source)
        if found.samples:
            return found
        says_rain = (
            _SAYS_RAIN.search(str(path.relative_to(folders[0]))) for path in found.unmatched
        )
        if found.unmatched and (any(says_rain) or _holds_backgrounds(folders[0])):
            alone = alone or found
    files = [path for path, _ in files_below(folders[0], CLIPS | IMAGES)]
    clips = any(path.suffix.lower() in CLIPS for path in files)
    if files and not clips and _show_pairs(files):
        return _find("halves", folders, source)
    if alone is not None:
        path, reason = next(iter(alone.unmatched.items()))
        raise SourceError(
            f"{folders[0]}: seems to hold pairs, but not one fits ({path.name}: {reason}); give both"
            " of a pair one name, in input/ and in target/, or name a reader"
        )
    if not files:
        raise SourceError(
            f"{folders[0]}: no images or clips; known are {', '.join(sorted(IMAGES | CLIPS))}"
        )
    if _SAYS_RAIN.search(folders[0].name):
        raise SourceError(
            f"{folders[0]}: holds no pairs, and its name speaks of rain; say which it is:"
            " reader real or rainy_clips (rain without ground truth), clean or clips (no rain at all)"
        )
    return _find("clips" if clips else "clean", folders, source)


def _holds_backgrounds(folder: Path) -> bool:
    """Whether a folder is named as one of ground truth: then the images next to it are not clean."""
    sides = (naming.by_folder(inside) for _, inside in files_below(folder, IMAGES))
    return any(side is not None and side[0] == "background" for side in sides)


def _show_pairs(paths: Sequence[Path]) -> bool:
    """Whether most images consist of two that are alike, side by side."""
    alike = [_halves_alike(path) for path in paths[:: max(1, len(paths) // 9)]]
    return sum(alike) > len(alike) / 2


def _halves_alike(path: Path) -> bool:
    try:
        image = read_image(path)
    except SourceError:
        return False
    if image.shape[1] < 2 * 16:
        return False
    small = [
        cv2.resize(half_of(image, half), (16, 16), interpolation=cv2.INTER_AREA).mean(2).ravel()
        for half in HALVES
    ]
    if min(np.std(half) for half in small) < 1:
        return False
    return bool(np.corrcoef(small)[0, 1] > _ALIKE)
