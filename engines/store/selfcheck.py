"""Whether a built engine answers as the reference does, on pictures shipped beside the weights.

Runs once, when an engine is built. Its result is kept with the binary and trusted from then on, because
the key that finds the binary binds weights, CPU, precision and versions: same inputs, same answers.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from importlib import resources
from typing import Any

import numpy as np
import numpy.typing as npt

from vderain.clips import still_clip
from vderain.frames import Plane, PlaneFormat
from vderain.interfaces import Engine
from vderain.metrics import psnr
from vderain.network.change import sample_bounds
from vderain.network.samples import rgb_from_samples, samples_from_rgb

AGREEMENT_DB = 50.0  # of the change with the reference's, per picture
INT8_AGREEMENT_DB = 46.0  # the same of eight-bit arithmetic, which is there for its speed
DRY_DB = 46.0  # of the dry picture with itself after the engine: half a per cent of the range
DRY_TOLERANCE_DB = 1.0  # weights that move dry pictures are not the engine's fault

# Above this cost of three pictures (about 10 s on two cores) only the rainy one is checked.
ALL_PICTURES_FLOP = 2e12

_LARGEST_DB = 200.0  # stands for equal: JSON has no infinity

Picture = npt.NDArray[np.uint8]  # (H, W, 3), RGB


@dataclass(frozen=True, slots=True)
class CheckResult:
    """What the self-check measured; NaN answers give NaN figures, and those pass no bar."""

    agreement_db: dict[str, float]  # PSNR of the change with the reference's, by picture
    dry_db: float | None = None  # PSNR of the dry picture's output with its input, if checked
    reference_dry_db: float | None = None  # the same of the reference
    bar_db: float = AGREEMENT_DB  # what the agreement must reach

    @property
    def passed(self) -> bool:
        """Whether the engine may be used."""
        if not all(value >= self.bar_db for value in self.agreement_db.values()):
            return False
        if self.dry_db is None or self.reference_dry_db is None:
            return True
        return self.dry_db >= min(DRY_DB, self.reference_dry_db - DRY_TOLERANCE_DB)

    def to_dict(self) -> dict[str, Any]:
        """Plain values for the sidecar."""
        return asdict(self)

    def __str__(self) -> str:
        figures = [f"{name} {value:.1f} dB" for name, value in self.agreement_db.items()]
        if self.dry_db is not None:
            figures.append(f"dry picture moved to {self.dry_db:.1f} dB")
        return ", ".join(figures)


def check_engine(
    engine: Engine,
    reference: Engine,
    fmt: PlaneFormat,
    *,
    flop: float,
    bar_db: float = AGREEMENT_DB,
) -> CheckResult:
    """Compare an engine with the reference at the working format.

    ``flop``, what one frame costs, decides how many pictures are compared.
    """
    pictures = check_pictures()
    if flop * len(pictures) > ALL_PICTURES_FLOP:
        pictures = {"rainy": pictures["rainy"]}
    agreement: dict[str, float] = {}
    dry: tuple[float | None, float | None] = (None, None)
    for name, picture in pictures.items():
        answers = _answers([engine, reference], fitted(picture, fmt.height, fmt.width), fmt)
        agreement[name] = _decibels(*answers, peak=fmt.peak)
        if name == "dry":
            moved, kept = (_decibels(answer, np.zeros(1), peak=fmt.peak) for answer in answers)
            dry = (moved, kept)
        del answers  # before the next are computed: at 4K they are large
    return CheckResult(agreement, dry[0], dry[1], bar_db)


def check_pictures() -> dict[str, Picture]:
    """The shipped pictures by name, (H, W, 3) uint8 RGB: ``rainy``, ``dry``, ``night``."""
    file = resources.files("vderain.weights") / "selfcheck.npz"
    with file.open("rb") as stream, np.load(stream, allow_pickle=False) as arrays:
        return {name: arrays[name] for name in ("rainy", "dry", "night")}


def fitted(picture: Picture, height: int, width: int) -> Picture:
    """The middle of a picture, mirrored as often as the size needs."""
    rows, columns = (
        _mirrored_positions(have, want)
        for have, want in zip(picture.shape[:2], (height, width), strict=True)
    )
    return picture[rows[:, None], columns]


def planes_from_rgb(picture: Picture, fmt: PlaneFormat) -> tuple[Plane, ...]:
    """An RGB picture (H, W, 3) uint8 of the format's size as its planes, rounded; chroma is averaged."""
    offsets = rgb_from_samples(fmt)[1]
    matrix = samples_from_rgb(fmt).T.astype(np.float32)
    samples = (picture / np.float32(255)) @ matrix + offsets.astype(np.float32)
    planes = []
    for index, (height, width) in enumerate(fmt.plane_shapes):
        plane = np.ascontiguousarray(samples[..., index])
        if plane.shape != (height, width):
            sx, sy = fmt.subsampling
            below, right = height * sy - plane.shape[0], width * sx - plane.shape[1]
            plane = np.pad(plane, ((0, below), (0, right)), mode="edge")
            plane = plane.reshape(height, sy, width, sx).mean((1, 3))
        planes.append(np.rint(plane).clip(0, fmt.peak).astype(fmt.dtype))
    return tuple(planes)


def _mirrored_positions(have: int, want: int) -> npt.NDArray[np.intp]:
    """``want`` positions among ``have``, centred, running to and fro."""
    positions = (np.arange(want) + (have - want) // 2) % (2 * have)
    return np.minimum(positions, 2 * have - 1 - positions)


def _answers(engines: list[Engine], picture: Picture, fmt: PlaneFormat) -> list[Plane]:
    """What each engine would change in a picture, all frames of the clip being the same."""
    planes = planes_from_rgb(picture, fmt)
    clip = still_clip(planes, fmt, engines[0].window.seen_frames)
    return [_bounded(planes, engine.change(clip).result(), fmt) for engine in engines]


def _bounded(planes: Sequence[Plane], change: Sequence[Plane], fmt: PlaneFormat) -> Plane:
    """The change that ``apply_change`` would make before rounding, all planes in one row, float32."""
    parts = []
    for plane, delta, (low, high) in zip(planes, change, sample_bounds(fmt), strict=True):
        source = plane.astype(np.float32)
        moved = (source + delta).clip(np.minimum(source, low), np.maximum(source, high))
        parts.append((moved - source).ravel())
    return np.concatenate(parts)


def _decibels(values: Plane, truth: Plane, *, peak: int) -> float:
    return float(np.minimum(psnr(values, truth, peak=peak), _LARGEST_DB))
