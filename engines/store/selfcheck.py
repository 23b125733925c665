"""The self-check: compares a built engine with the reference on images that ship with the weights.

It runs once, when an engine is built. Its result is kept with the binary and stays valid, since the key of the
binary includes weights, device, precision and versions.
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
from vderain.network.change.apply import sample_bounds
from vderain.network.samples import rgb_from_samples, samples_from_rgb

AGREEMENT_DB = 50.0  # PSNR of the change with the reference's, for each image
INT8_AGREEMENT_DB = 46.0  # the same for int8, which trades accuracy for speed
DRY_DB = 46.0  # PSNR of the derained dry image with its input: half a per cent of the range
DRY_TOLERANCE_DB = 1.0  # below the reference's: the weights, not the engine, may change dry images

# Above this cost of three images (about 10 s on two cores) only the rainy one is compared.
ALL_IMAGES_FLOP = 2e12

_LARGEST_DB = 200.0  # stands for infinity, which JSON cannot hold

Image = npt.NDArray[np.uint8]  # (H, W, 3), RGB


@dataclass(frozen=True, slots=True)
class CheckResult:
    """What the self-check measured; NaN in an output gives NaN here, which passes no bar."""

    agreement_db: dict[str, float]  # PSNR of the change with the reference's, by image
    dry_db: float | None = None  # PSNR of the derained dry image with its input, where compared
    reference_dry_db: float | None = None  # the same of the reference
    bar_db: float = AGREEMENT_DB  # the least agreement that passes

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
            figures.append(f"dry image changed to {self.dry_db:.1f} dB")
        return ", ".join(figures)


def check_engine(
    engine: Engine,
    reference: Engine,
    fmt: PlaneFormat,
    *,
    flop: float,
    bar_db: float = AGREEMENT_DB,
) -> CheckResult:
    """Compare an engine with the reference at the engine's format.

    ``flop``, the cost of one frame, decides how many images are compared.
    """
    images = check_images()
    if flop * len(images) > ALL_IMAGES_FLOP:
        images = {"rainy": images["rainy"]}
    agreement: dict[str, float] = {}
    dry: tuple[float | None, float | None] = (None, None)
    for name, image in images.items():
        changes = _changes([engine, reference], fitted(image, fmt.height, fmt.width), fmt)
        agreement[name] = _decibels(*changes, peak=fmt.peak)
        if name == "dry":
            moved, kept = (_decibels(change, np.zeros(1), peak=fmt.peak) for change in changes)
            dry = (moved, kept)
        del changes  # before the next are computed: at 4K they are large
    return CheckResult(agreement, dry[0], dry[1], bar_db)


def check_images() -> dict[str, Image]:
    """The images of the self-check by name, (H, W, 3) uint8 RGB: ``rainy``, ``dry``, ``night``."""
    file = resources.files("vderain.weights") / "selfcheck.npz"
    with file.open("rb") as stream, np.load(stream, allow_pickle=False) as arrays:
        return {name: arrays[name] for name in ("rainy", "dry", "night")}


def fitted(image: Image, height: int, width: int) -> Image:
    """The middle of an image, mirrored as often as the size needs."""
    rows, columns = (
        _mirrored_positions(have, want)
        for have, want in zip(image.shape[:2], (height, width), strict=True)
    )
    return image[rows[:, None], columns]


def planes_from_rgb(image: Image, fmt: PlaneFormat) -> tuple[Plane, ...]:
    """The planes of an RGB image (H, W, 3) uint8 of the format's size, rounded; chroma is averaged."""
    offsets = rgb_from_samples(fmt)[1]
    matrix = samples_from_rgb(fmt).T.astype(np.float32)
    samples = (image / np.float32(255)) @ matrix + offsets.astype(np.float32)
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
    """``want`` positions in ``range(have)``, centred, reflected at both ends."""
    positions = (np.arange(want) + (have - want) // 2) % (2 * have)
    return np.minimum(positions, 2 * have - 1 - positions)


def _changes(engines: list[Engine], image: Image, fmt: PlaneFormat) -> list[Plane]:
    """The change of each engine for an image; all frames of the clip are that image."""
    planes = planes_from_rgb(image, fmt)
    clip = still_clip(planes, fmt, engines[0].window.seen_frames)
    return [_bounded(planes, engine.change(clip).result(), fmt) for engine in engines]


def _bounded(planes: Sequence[Plane], change: Sequence[Plane], fmt: PlaneFormat) -> Plane:
    """The bounded change before rounding, all planes in one row, float32."""
    parts = []
    for plane, delta, (low, high) in zip(planes, change, sample_bounds(fmt), strict=True):
        source = plane.astype(np.float32)
        moved = (source + delta).clip(np.minimum(source, low), np.maximum(source, high))
        parts.append((moved - source).ravel())
    return np.concatenate(parts)


def _decibels(values: Plane, truth: Plane, *, peak: int) -> float:
    return float(np.minimum(psnr(values, truth, peak=peak), _LARGEST_DB))
