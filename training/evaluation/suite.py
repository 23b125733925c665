"""What ``vderain evaluate`` scores: sets of pairs, clips and dry images, and other methods' results."""

from __future__ import annotations

import tomllib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal, get_args

from vderain.errors import OptionError, SourceError
from vderain.training.config.settings import shipped_recipe
from vderain.training.data.folders import folders_for_tests
from vderain.training.data.images import (
    CLIPS,
    IMAGES,
    ClipFrame,
    Reference,
    natural,
    read_reference,
)
from vderain.training.data.layouts.find import find_samples
from vderain.training.data.layouts.readers import LAYOUTS
from vderain.training.data.layouts.source import Source
from vderain.training.rain.render import Image

Kind = Literal["pairs", "video", "clean"]  # scored image by image
ClipKind = Literal["static_rain", "dry_motion"]  # scored clip by clip
LAYOUT_NAMES = tuple(name for name, layout in LAYOUTS.items() if layout.role == "paired")
INPUT = "input"  # how tables call the rainy image itself
OURS = "vderain"
RESERVED = {INPUT, OURS, "truth", "rainy"}
_KINDS = (*get_args(Kind), *get_args(ClipKind))
_NAMED = 3  # files that a message names before it says how many more there are


@dataclass(frozen=True, slots=True)
class TestSet:
    """One row of the table.

    Attributes:
        name: of the row; sets named "group/..." also get a row with the group's mean.
        kind: pairs of images, one clip with its ground truth, or dry images and clips.
        rainy: folder of pairs; file or folder of frames; file or folder of dry images or clips.
        truth: the clip's ground truth, None for the other kinds.
        layout: how a folder holds its pairs: auto, or one of ``LAYOUT_NAMES``.

    """

    __test__ = False  # its name would tempt pytest

    name: str
    kind: Kind
    rainy: Path
    truth: Path | None = None
    layout: str = "auto"

    def __post_init__(self) -> None:
        if not self.name.strip():
            raise OptionError(f"{self.rainy}: a set needs a name")
        if self.layout != "auto" and self.layout not in LAYOUT_NAMES:
            raise OptionError(
                f"layout {self.layout}: choose auto or one of {', '.join(LAYOUT_NAMES)}"
            )

    @property
    def group(self) -> str | None:
        """What stands before the first slash of the name."""
        group, slash, _ = self.name.partition("/")
        return group if slash else None


@dataclass(frozen=True, slots=True)
class ClipSet:
    """Clips without ground truth that are scored as a whole.

    Attributes:
        name: of the set.
        kind: real rain before a static camera, or dry clips in which things move.
        path: a clip, or a folder of clips.

    """

    name: str
    kind: ClipKind
    path: Path

    def __post_init__(self) -> None:
        if not self.name.strip():
            raise OptionError(f"{self.path}: a set needs a name")


AnySet = TestSet | ClipSet


@dataclass(frozen=True, slots=True)
class Pair:
    """A rainy image and its ground truth; ``name`` is how results of other methods call it."""

    name: str
    rainy: Reference
    truth: Reference

    def load(self) -> tuple[Image, Image]:
        """(rainy, truth), (H, W, 3) uint8 RGB. Raises SourceError for unreadable and unequal ones."""
        rainy, truth = _read(self.rainy), _read(self.truth)
        refuse_sizes(rainy, truth, str(self.rainy.path), str(self.truth.path))
        return rainy, truth


def _read(reference: Reference) -> Image:
    assert not isinstance(reference, ClipFrame)  # layouts of pairs hold none
    return read_reference(reference)


@dataclass(frozen=True, slots=True)
class Results:
    """What another method, or an earlier run, made of the same input."""

    name: str
    folder: Path

    def __post_init__(self) -> None:
        if not self.name.strip() or self.name.lower() in RESERVED:
            raise OptionError(f"results={self.name!r}: choose another name for the results")
        if not self.folder.is_dir():
            raise SourceError(f"{self.folder}: no such folder of results")

    def images(self, test: TestSet, names: Iterable[str]) -> dict[str, Path] | None:
        """The result for each image, found by its name without extension.

        In a subfolder named as the set, else in the folder itself; None where there is none for the
        set. Raises SourceError where only some are missing: means over other images do not compare.
        """
        folder = self._folder_of(test)
        found = {
            path.relative_to(folder).with_suffix(""): path
            for path in sorted(folder.rglob("*"))
            if path.suffix.lower() in IMAGES
        }
        wanted = {name: found.get(Path(name).with_suffix("")) for name in names}
        missing = [name for name, path in wanted.items() if path is None]
        if len(missing) == len(wanted):
            return None
        if missing:
            raise SourceError(
                f"{folder}: {len(missing)} of {len(wanted)} results of {self.name} are missing:"
                f" {listed(missing)}"
            )
        return {name: path for name, path in wanted.items() if path is not None}

    def clip(self, name: str, path: Path) -> Path | None:
        """The result for a clip: a video or a folder of frames named as ``name``, its set, or as its file."""
        names = {name, name.rpartition("/")[2], path.stem}
        for folder in dict.fromkeys(((self.folder / name).parent, self.folder)):
            for entry in _entries(folder):
                if entry.is_dir() and entry.name in names:
                    return entry
                if entry.suffix.lower() in CLIPS and entry.stem in names:
                    return entry
        return None

    def _folder_of(self, test: TestSet) -> Path:
        own = self.folder / test.name
        return own if own.is_dir() else self.folder


def refuse_sizes(first: Image, second: Image, first_name: str, second_name: str) -> None:
    """Raise SourceError where two images differ in size."""
    if first.shape != second.shape:
        sizes = [f"{side.shape[1]}x{side.shape[0]}" for side in (first, second)]
        raise SourceError(
            f"{first_name} is {sizes[0]} and {second_name} is {sizes[1]}; only images of equal"
            " size can be compared"
        )


def find_pairs(test: TestSet) -> tuple[str, list[Pair]]:
    """How a folder was read, and its pairs in natural order.

    Raises SourceError where nothing pairs, or only some: a mean over fewer images would pass for one
    over all.
    """
    _refuse_folders_for_tests(test.rainy)
    found = find_samples(test.rainy, Source(reader=test.layout))
    if found.layout.role != "paired":
        raise SourceError(
            f"{test.rainy}: holds no pairs that are recognised (read as {found.reader}); name the"
            f" layout, one of {', '.join(LAYOUT_NAMES)}, or score dry images as clean ones"
        )
    if found.unmatched:
        reasons = [f"{path.name} ({why})" for path, why in found.unmatched.items()]
        count = len(found.samples) + len(reasons)
        raise SourceError(
            f"{test.rainy}: {len(reasons)} of {count} rainy images cannot be paired:"
            f" {listed(reasons)}"
        )
    files = [(one.rainy, one.background) for one in found.samples if one.rainy and one.background]
    names = [rainy.path.name for rainy, _ in files]
    if len(set(names)) < len(names):
        names = [rainy.path.relative_to(test.rainy).as_posix() for rainy, _ in files]
    return found.reader, [Pair(name, *pair) for name, pair in zip(names, files, strict=True)]


def _refuse_folders_for_tests(folder: Path) -> None:
    """Layouts leave folders named test or val out, for training's sake; here they are what is meant."""
    for_tests = [str(path.relative_to(folder)) for path in folders_for_tests(folder)]
    if for_tests:
        raise SourceError(
            f"{folder}: holds folders for tests ({listed(for_tests)}); name the one to score, or the"
            " other one, itself"
        )


def find_files(folder: Path, suffixes: frozenset[str]) -> list[Path]:
    """Files of a folder, or the file itself, that end in one of ``suffixes``; SourceError for none."""
    if folder.is_file():
        found = [folder] if folder.suffix.lower() in suffixes else []
    else:
        found = [path for path in _entries(folder) if path.suffix.lower() in suffixes]
    if not found:
        what = "holds no file" if folder.exists() else "does not exist; looked for files"
        raise SourceError(f"{folder}: {what} ending in {', '.join(sorted(suffixes))}")
    return found


def _entries(folder: Path) -> list[Path]:
    try:
        entries = [entry for entry in folder.iterdir() if not entry.name.startswith(".")]
        return sorted(entries, key=natural)
    except FileNotFoundError:
        return []
    except OSError as error:
        raise SourceError(f"{folder}: cannot be listed: {error.strerror}") from error


def listed(names: Sequence[str]) -> str:
    """The first few names, and how many more there are."""
    more = len(names) - _NAMED
    return ", ".join(names[:_NAMED]) + (f" and {more} more" if more > 0 else "")


def load_suite(path: Path, data: Path | None) -> list[AnySet]:
    """The sets that a TOML file lists, or a shipped one by its name (``dev``).

    Relative paths begin at ``data``, else at the file's folder; a shipped one needs ``data``.

    Each ``[[set]]`` has a ``name`` and one of ``pairs = DIR`` (and perhaps ``layout``),
    ``video = [RAINY, CLEAN]``, ``clean = PATH``, ``static_rain = PATH`` and ``dry_motion = PATH``. Raises
    OptionError for anything else.
    """
    shipped = shipped_recipe(path)
    if shipped is not None and data is None:
        raise OptionError(
            f"{path}: set VDERAIN_DATA to the folder that holds the data of this suite"
        )
    try:
        values = tomllib.loads((shipped or path).read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise OptionError(f"{path}: not a suite that can be read ({error})") from None
    tables = values.pop("set", None)
    if values or not isinstance(tables, list) or not tables:
        raise OptionError(f"{path}: a suite lists its sets as [[set]], and holds nothing else")
    base = data or path.parent
    return unique(
        [_set_from_table(table, base, f"{path}, set {i + 1}") for i, table in enumerate(tables)]
    )


def _set_from_table(table: Any, base: Path, where: str) -> AnySet:
    if not isinstance(table, dict):
        raise OptionError(f"{where}: must be a table, [[set]]")
    kinds = [kind for kind in _KINDS if kind in table]
    unknown = set(table) - {"name", "layout", *kinds}
    if len(kinds) != 1 or unknown or not isinstance(table.get("name"), str):
        raise OptionError(
            f"{where}: needs a name and one of {', '.join(_KINDS)}"
            + (f"; unknown: {', '.join(sorted(unknown))}" if unknown else "")
        )
    paths = table[kinds[0]] if kinds[0] == "video" else [table[kinds[0]]]
    wanted = 2 if kinds[0] == "video" else 1
    if not isinstance(paths, list) or [type(item) for item in paths] != [str] * wanted:
        raise OptionError(
            f"{where}: {kinds[0]} must be {'[RAINY, CLEAN]' if wanted == 2 else 'a path'}"
        )
    rainy, *truth = (base / item for item in paths)
    if kinds[0] in get_args(ClipKind):
        return make_clip_set(kinds[0], rainy, name=table["name"])
    return make_set(kinds[0], rainy, *truth, name=table["name"], layout=table.get("layout", "auto"))


def make_set(
    kind: str, rainy: Path, truth: Path | None = None, *, name: str = "", layout: str = "auto"
) -> TestSet:
    """A set that is scored image by image, named as its file or folder where no name is given."""
    name = name or _name_of(rainy)
    if kind not in get_args(Kind):
        raise OptionError(f"{name}: {kind} is no kind of set; choose pairs, video or clean")
    return TestSet(name, kind, rainy, truth, layout)  # type: ignore[arg-type]  # kind was checked


def make_clip_set(kind: str, path: Path, *, name: str = "") -> ClipSet:
    """A set that is scored clip by clip, named likewise."""
    name = name or _name_of(path)
    if kind not in get_args(ClipKind):
        raise OptionError(f"{name}: {kind} is no kind of clips; choose static_rain or dry_motion")
    return ClipSet(name, kind, path)  # type: ignore[arg-type]  # kind was checked


def _name_of(path: Path) -> str:
    return path.stem if path.is_file() else path.resolve().name


def unique(sets: Sequence[AnySet]) -> list[AnySet]:
    """The sets, with a number after a name that an earlier one has."""
    taken: set[str] = set()
    named = []
    for test in sets:
        name, number = test.name, 1
        while name in taken:
            number += 1
            name = f"{test.name} {number}"
        taken.add(name)
        named.append(replace(test, name=name))
    return named
