"""The layouts that can be read: how each names its files, and which of them are a sample."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, Protocol

from vderain.training.data.folders import files_below, find_clips
from vderain.training.data.images import (
    CLIPS,
    IMAGES,
    SEGMENTS,
    Chart,
    ClipFrame,
    Half,
    ImageFile,
    Reference,
)
from vderain.training.data.layouts import naming
from vderain.training.data.layouts.naming import Key, Side

HALVES: tuple[Half, Half] = ("left", "right")
_CHARTS = 160

Role = Literal["paired", "clean", "rainy", "static", "rain"]


class Settings(Protocol):
    """The settings of a source that readers use."""

    @property
    def frames(self) -> int:
        """Taken of each clip."""

    @property
    def clean_side(self) -> str:
        """Left or right, of files that show a pair side by side."""


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
class Layout:
    """A layout on disk: ``find`` yields samples, or paths with the reason why they are none.

    ``upside_down`` says that rain falls at any angle there.
    """

    find: Callable[[Sequence[Path], Settings], Iterator[Outcome]]
    role: Role
    holds: str
    upside_down: bool = False


def _paired(
    classify: Callable[[Path], tuple[Side, Key] | None],
) -> Callable[[Sequence[Path], Settings], Iterator[Outcome]]:
    """A finder of pairs by name: ``classify`` returns side and key of a file from its path inside the folder."""

    def find(folders: Sequence[Path], source: Settings) -> Iterator[Outcome]:
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


def _spa(folders: Sequence[Path], source: Settings) -> Iterator[Outcome]:
    """Pairs from a list, one "rainy clean" in a line (``real_world.txt``); else by folder and name."""
    listed = False
    for path, _ in files_below(folders[0], frozenset({".txt"})):
        for line in path.read_text(errors="replace").splitlines():
            names = [Path(name.lstrip("./")) for name in line.split()]
            if len(names) != 2 or any(name.suffix.lower() not in IMAGES for name in names):
                continue
            listed = True
            rainy, background = (_unpacked(path, name) for name in names)
            missing = next((file for file in (rainy, background) if not file.exists()), None)
            if missing is None:
                yield PairFile(ImageFile(rainy), ImageFile(background))
            else:
                yield rainy, f"{path.name} names {missing}, which does not exist"
    if not listed:
        yield from _paired(naming.spa)(folders, source)


def _unpacked(listing: Path, name: Path) -> Path:
    """A listed file, wherever the archive was unpacked next to its list."""
    places = [folder / name for folder in (listing.parent, listing.parent.parent)]
    return next((path for path in places if path.exists()), places[0])


def _halves(folders: Sequence[Path], source: Settings) -> Iterator[Outcome]:
    clean, rainy = HALVES if source.clean_side == "left" else HALVES[::-1]
    for path, _ in files_below(folders[0], IMAGES):
        yield PairFile(ImageFile(path, rainy), ImageFile(path, clean))


def _clean(folders: Sequence[Path], source: Settings) -> Iterator[Outcome]:
    del source
    for path, _ in files_below(folders[0], IMAGES):
        yield PairFile(None, ImageFile(path))


def _real(folders: Sequence[Path], source: Settings) -> Iterator[Outcome]:
    del source
    for path, _ in files_below(folders[0], IMAGES):
        yield PairFile(ImageFile(path), None)


def _clips(folders: Sequence[Path], source: Settings) -> Iterator[Outcome]:
    for path in find_clips(folders[0]):
        for index in range(source.frames):
            yield PairFile(None, ClipFrame(path, index, source.frames))


def _rainy_clips(folders: Sequence[Path], source: Settings) -> Iterator[Outcome]:
    for path in find_clips(folders[0]):
        for index in range(source.frames):
            yield PairFile(ClipFrame(path, index, source.frames), None)


def _segments(folders: Sequence[Path], source: Settings) -> Iterator[Outcome]:
    del source
    for path in find_clips(folders[0]):
        for index in range(SEGMENTS):
            yield PairFile(ClipFrame(path, index, SEGMENTS), None)


def _charts(folders: Sequence[Path], source: Settings) -> Iterator[Outcome]:
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
