"""The layouts of published data sets, and of folders of one's own: a folder becomes references to its samples.

Layouts are as the data sets' archives and their authors' loaders name the files; nothing is read here but
names. Folders named test or val below the named one are left out: they are for scores, not for training.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, Literal

import cv2
import numpy as np

from vderain.errors import OptionError, SourceError
from vderain.training.data.folders import files_below, find_clips, folders_for_tests
from vderain.training.data.images import (
    CLIPS,
    IMAGES,
    SEGMENTS,
    Chart,
    ClipFrame,
    Half,
    ImageFile,
    Reference,
    half_of,
    read_image,
)
from vderain.training.data.layouts import naming
from vderain.training.data.layouts.naming import Key, Side

_CHARTS = 160
# And neither train nor norain.
_SAYS_RAIN = re.compile(r"(?<![a-z])rain(y|ing)?(?![a-z])", re.IGNORECASE)
_HALVES: tuple[Half, Half] = ("left", "right")
# Correlation of the halves of an image that shows a pair; two different scenes have none.
_ALIKE = 0.75

Role = Literal["paired", "clean", "rainy", "static", "rain"]


@dataclass(frozen=True, slots=True)
class Source:
    """A folder to train on, as a table of the configuration.

    Attributes:
        path: below the data folder.
        reader: one of LAYOUTS, or auto.
        share: how often its samples are drawn, relative to the other sources.
        frames: taken of each clip, spread over it: neighbours teach a per-frame network little.
        clean_side: of files that show a pair side by side; Rain800's are clean on the left.
        backgrounds: folder of the clean images, where they are elsewhere (RainCityscapes).
        upside_down: whether pairs may be put upside down, for rain at any angle; None as suits the layout.
        part: "1/2" takes the first of every two files, "2/2" the second, clips as a whole: so one folder gives
            the rainy side of some scenes and the clean side of others.
        rendered: render rain on clean images, for the rainy side of unpaired training.
        without: names of files to leave out, say of scenes that the other side of unpaired training shows.

    """

    path: str = ""
    reader: str = "auto"
    share: float = 1.0
    frames: int = 24
    clean_side: str = "left"
    backgrounds: str = ""
    upside_down: bool | None = None
    part: str = "1/1"
    rendered: bool = False
    without: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if self.reader != "auto" and self.reader not in LAYOUTS:
            raise OptionError(f"reader {self.reader}: choose auto or one of {', '.join(LAYOUTS)}")
        if self.clean_side not in ("left", "right"):
            raise OptionError(f"clean_side {self.clean_side}: choose left or right")
        if not 0 < self.share < math.inf or self.frames < 1:
            raise OptionError("share must be above 0 and finite, and frames at least 1")
        number, count = self.parts
        if not 1 <= number <= count:
            raise OptionError(f'part {self.part}: write "2/3" for the second of every three files')

    @property
    def parts(self) -> tuple[int, int]:
        """Which of how many parts; (0, 0) for what is no part."""
        match = re.fullmatch(r"(\d{1,4})/(\d{1,4})", self.part)
        return (int(match[1]), int(match[2])) if match else (0, 0)

    @classmethod
    def from_table(cls, name: str, table: Mapping[str, Any]) -> Source:
        """From a TOML table; OptionError, naming the source, for settings that do not exist or fit."""
        defaults = {item.name: item.default for item in fields(cls)}
        if unknown := sorted(set(table) - set(defaults)):
            raise OptionError(
                f"source {name}: unknown settings {', '.join(unknown)}; known are {', '.join(defaults)}"
            )
        table = {k: tuple(v) if isinstance(v, list) else v for k, v in table.items()}
        for key, value in table.items():
            kind = bool if defaults[key] is None else type(defaults[key])
            if type(value) is not kind and not (kind is float and type(value) is int):
                told = "list" if kind is tuple else kind.__name__
                raise OptionError(f"source {name}: {key} must be of type {told}, got {value!r}")
        try:
            source = cls(**table)
        except OptionError as error:
            raise OptionError(f"source {name}: {error}") from None
        if not source.path and source.reader != "charts":
            raise OptionError(
                f'source {name}: path is missing; name a folder, "." is the data folder itself'
            )
        return source


@dataclass(frozen=True, slots=True)
class PairFile:
    """Where a sample's images are: no rainy one where rain is rendered, no background for real rain."""

    rainy: Reference | None
    background: Reference | None

    @property
    def path(self) -> Path:
        """What messages call the sample."""
        reference = self.rainy or self.background
        assert reference is not None
        return reference.path


Outcome = PairFile | tuple[Path, str]  # a sample, or a rainy file and why it is none


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


@dataclass(frozen=True, slots=True)
class Layout:
    """A layout on disk: ``find`` yields samples, or paths with the reason why they are none.

    ``upside_down`` says that rain falls at any angle there.
    """

    find: Callable[[Sequence[Path], Source], Iterator[Outcome]]
    role: Role
    holds: str
    upside_down: bool = False


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
        for half in _HALVES
    ]
    if min(np.std(half) for half in small) < 1:
        return False
    return bool(np.corrcoef(small)[0, 1] > _ALIKE)


def _paired(
    classify: Callable[[Path], tuple[Side, Key] | None],
) -> Callable[[Sequence[Path], Source], Iterator[Outcome]]:
    """A finder of pairs by name: ``classify`` returns side and key of a file from its path inside the folder."""

    def find(folders: Sequence[Path], source: Source) -> Iterator[Outcome]:
        del source
        rainy: list[tuple[Path, Key]] = []
        backgrounds: dict[Key, Path] = {}
        for folder in folders:
            for path, inside in files_below(folder, IMAGES):
                side, key = classify(inside) or (None, ())
                if side == "rainy":
                    rainy.append((path, key))
                elif side == "background":
                    backgrounds[key] = path
        for path, key in rainy:
            if key in backgrounds:
                yield PairFile(ImageFile(path), ImageFile(backgrounds[key]))
            else:
                yield path, "no clean image belongs to it"

    return find


def _spa(folders: Sequence[Path], source: Source) -> Iterator[Outcome]:
    """Pairs from a list, one "rainy clean" in a line (``real_world.txt``); else by folder and name."""
    listed = False
    for path, _ in files_below(folders[0], frozenset({".txt"})):
        for line in path.read_text(errors="replace").splitlines():
            names = [Path(name.lstrip("./")) for name in line.split()]
            if len(names) != 2 or any(name.suffix.lower() not in IMAGES for name in names):
                continue
            listed = True
            rainy, background = (_beside(path, name) for name in names)
            missing = next((file for file in (rainy, background) if not file.exists()), None)
            if missing is None:
                yield PairFile(ImageFile(rainy), ImageFile(background))
            else:
                yield rainy, f"{path.name} names {missing}, which does not exist"
    if not listed:
        yield from _paired(naming.spa)(folders, source)


def _beside(listing: Path, name: Path) -> Path:
    """A listed file, wherever the archive was unpacked next to its list."""
    places = [folder / name for folder in (listing.parent, listing.parent.parent)]
    return next((path for path in places if path.exists()), places[0])


def _halves(folders: Sequence[Path], source: Source) -> Iterator[Outcome]:
    clean, rainy = _HALVES if source.clean_side == "left" else _HALVES[::-1]
    for path, _ in files_below(folders[0], IMAGES):
        yield PairFile(ImageFile(path, rainy), ImageFile(path, clean))


def _clean(folders: Sequence[Path], source: Source) -> Iterator[Outcome]:
    del source
    for path, _ in files_below(folders[0], IMAGES):
        yield PairFile(None, ImageFile(path))


def _real(folders: Sequence[Path], source: Source) -> Iterator[Outcome]:
    del source
    for path, _ in files_below(folders[0], IMAGES):
        yield PairFile(ImageFile(path), None)


def _clips(folders: Sequence[Path], source: Source) -> Iterator[Outcome]:
    for path in find_clips(folders[0]):
        for index in range(source.frames):
            yield PairFile(None, ClipFrame(path, index, source.frames))


def _rainy_clips(folders: Sequence[Path], source: Source) -> Iterator[Outcome]:
    for path in find_clips(folders[0]):
        for index in range(source.frames):
            yield PairFile(ClipFrame(path, index, source.frames), None)


def _segments(folders: Sequence[Path], source: Source) -> Iterator[Outcome]:
    del source
    for path in find_clips(folders[0]):
        for index in range(SEGMENTS):
            yield PairFile(ClipFrame(path, index, SEGMENTS), None)


def _charts(folders: Sequence[Path], source: Source) -> Iterator[Outcome]:
    """Photographs hold few flat and saturated colours, and what a network never saw it may take for rain."""
    del folders, source
    for seed in range(_CHARTS):
        yield PairFile(None, Chart(seed))


LAYOUTS: dict[str, Layout] = {
    "halves": Layout(
        _halves, "paired", "images that show a pair side by side (Rain800)", upside_down=True
    ),
    "pairs": Layout(
        _paired(naming.by_folder),
        "paired",
        "images of equal names in input/ and target/ (or rain and norain, rainy and clean, data and gt)",
        upside_down=True,
    ),
    "rain100": Layout(
        _paired(naming.rain100),
        "paired",
        "rain-001.png with norain-001.png, or norain-1.png in rain/ and norain/ (Rain100, Rain200)",
        upside_down=True,
    ),
    "rain1400": Layout(
        _paired(naming.rain1400),
        "paired",
        "rainy_image/1_1.jpg to 1_14.jpg with ground_truth/1.jpg",
        upside_down=True,
    ),
    "spa": Layout(_spa, "paired", "a list of pairs (real_world.txt), or rain/000 with gt/000gt"),
    "raincityscapes": Layout(
        _paired(naming.rain_cityscapes),
        "paired",
        "..._leftImg8bit_rain_alpha_....png with Cityscapes' ..._leftImg8bit.png, there or in"
        " the folder that the source names as backgrounds",
    ),
    "nturain": Layout(_paired(naming.nturain), "paired", "frames in a1_Rain/ and a1_GT/"),
    "clean": Layout(_clean, "clean", f"images ({', '.join(sorted(IMAGES))})"),
    "clips": Layout(
        _clips, "clean", f"clips ({', '.join(sorted(CLIPS))}), or folders of their images"
    ),
    "charts": Layout(_charts, "clean", "nothing"),
    "static_rain": Layout(
        _segments,
        "static",
        f"clips of real rain before a static camera ({', '.join(sorted(CLIPS))}), or their images",
    ),
    "mined_clips": Layout(
        _segments,
        "rain",
        f"clips of real rain before a static camera ({', '.join(sorted(CLIPS))}), or their images",
    ),
    "plates": Layout(
        _segments, "rain", f"clips of rain on black ({', '.join(sorted(CLIPS))}), or their images"
    ),
    "real": Layout(_real, "rainy", f"images of real rain ({', '.join(sorted(IMAGES))})"),
    "rainy_clips": Layout(
        _rainy_clips, "rainy", f"clips of real rain ({', '.join(sorted(CLIPS))}), or their images"
    ),
}
_RECOGNISED = ("raincityscapes", "nturain", "rain1400", "rain100", "spa", "pairs")
