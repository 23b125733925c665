"""Training patches: pairs of rainy and clean pictures, and clean pictures to render rain on."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt

from vderain.errors import SourceError
from vderain.training.colours import draw_chart, recoloured
from vderain.training.rain import Picture, add_rain, recompress

_PICTURES = {".png", ".jpg", ".jpeg", ".bmp", ".webp", ".tif", ".tiff"}
_CLIPS = {".mp4", ".mkv", ".mov", ".avi", ".webm"}
_CHARTS = 160
_FRAMES_PER_CLIP = 24  # spread over the clip: neighbours teach a per-frame network little

Batch = tuple[npt.NDArray[np.float32], npt.NDArray[np.float32]]  # (N, 3, P, P), RGB in [0, 1]


@dataclass(frozen=True, slots=True)
class Sample:
    """A rainy picture with its ground truth, both (H, W, 3) uint8; ``rainy`` is None where rain is rendered."""

    rainy: Picture | None
    background: Picture


def read_picture(path: Path) -> Picture:
    """Read a picture as (H, W, 3) uint8 RGB; SourceError where it is not one."""
    bgr = cv2.imread(str(path), cv2.IMREAD_COLOR)
    if bgr is None:
        raise SourceError(f"{path}: not a readable picture")
    return np.ascontiguousarray(bgr[..., ::-1], np.uint8)


def files(folder: Path, suffixes: set[str]) -> list[Path]:
    """Files with one of ``suffixes`` below ``folder``, sorted; SourceError where there are none."""
    found = sorted(path for path in folder.rglob("*") if path.suffix.lower() in suffixes)
    if not found:
        raise SourceError(f"{folder}: no file ending in {', '.join(sorted(suffixes))}")
    return found


def read_halves(folder: Path) -> Iterator[Sample]:
    """Pairs in one file each, left half clean, right half rainy (the layout of Rain800)."""
    for path in files(folder, _PICTURES):
        both = read_picture(path)
        half = both.shape[1] // 2
        yield Sample(both[:, half : 2 * half], both[:, :half])


def read_pairs(folder: Path) -> Iterator[Sample]:
    """Pairs in two folders, ``input`` and ``target``, same names."""
    for path in files(folder / "input", _PICTURES):
        yield Sample(read_picture(path), read_picture(folder / "target" / path.name))


def read_clean(folder: Path) -> Iterator[Sample]:
    """Clean pictures below a folder."""
    for path in files(folder, _PICTURES):
        yield Sample(None, read_picture(path))


def read_clips(folder: Path) -> Iterator[Sample]:
    """Frames spread over the clean clips of a folder."""
    for path in files(folder, _CLIPS):
        capture = cv2.VideoCapture(str(path))
        count = max(1, int(capture.get(cv2.CAP_PROP_FRAME_COUNT)))
        wanted = set(np.linspace(0, count - 1, _FRAMES_PER_CLIP).astype(int).tolist())
        for index in range(count):
            if not capture.grab():
                break
            if index in wanted:
                yield Sample(None, np.ascontiguousarray(capture.retrieve()[1][..., ::-1], np.uint8))
        capture.release()


def make_charts(folder: Path) -> Iterator[Sample]:
    """Pictures of flat and saturated colours, as screens, signs and overlays show; ``folder`` is not read.

    Photographs hold few of them, and what a network never saw it may take for rain.
    """
    for seed in range(_CHARTS):
        yield Sample(None, draw_chart(np.random.default_rng(seed)))


READERS = {
    "halves": read_halves,
    "pairs": read_pairs,
    "clean": read_clean,
    "clips": read_clips,
    "charts": make_charts,
}


class PatchSampler:
    """Endless batches of augmented patches, seeded.

    Args:
        sources: samples by name, held decoded in memory.
        shares: how often each is drawn, by the same names.
        patch: side of a patch in pixels.
        dry_share: how many of the rendered samples stay dry, so that the network learns to do no harm.

    """

    def __init__(
        self,
        sources: Mapping[str, list[Sample]],
        shares: Mapping[str, float],
        *,
        patch: int,
        batch: int,
        dry_share: float,
        seed: int,
    ) -> None:
        self._names = list(sources)
        self._sources = sources
        total = sum(shares[name] for name in self._names)
        self._probabilities = [shares[name] / total for name in self._names]
        self._patch, self._batch, self._dry_share = patch, batch, dry_share
        self._rng = np.random.default_rng(seed)

    def __iter__(self) -> Iterator[Batch]:
        while True:
            pairs = [self._draw() for _ in range(self._batch)]
            rainy, background = (
                np.stack(side).transpose(0, 3, 1, 2) for side in zip(*pairs, strict=True)
            )
            yield _unit_range(rainy), _unit_range(background)

    def _draw(self) -> tuple[Picture, Picture]:
        rng, patch = self._rng, self._patch
        samples = self._sources[self._names[rng.choice(len(self._names), p=self._probabilities)]]
        sample = samples[rng.integers(len(samples))]
        picture = sample.background
        if sample.rainy is None:
            picture = _shrunk(rng, picture, patch)
        height, width = picture.shape[:2]
        top = int(rng.integers(max(1, height - patch + 1)))
        left = int(rng.integers(max(1, width - patch + 1)))
        window = np.s_[top : top + patch, left : left + patch]
        background = _filled(picture[window], patch)
        if sample.rainy is None:
            background = recoloured(rng, background)
        if sample.rainy is not None:
            rainy = _filled(sample.rainy[window], patch)
        elif rng.random() < self._dry_share:
            # Compressed or not, a dry picture must stay as it is: to repair its blocks would be harm.
            rainy = background = _perhaps_recompressed(rng, background)
        else:
            rainy = _perhaps_recompressed(rng, add_rain(rng, background))
        return _flipped(rng, rainy, background)


def _perhaps_recompressed(rng: np.random.Generator, picture: Picture) -> Picture:
    return recompress(rng, picture) if rng.random() < 0.5 else picture


def _unit_range(pictures: npt.NDArray[np.uint8]) -> npt.NDArray[np.float32]:
    return pictures.astype(np.float32) / np.float32(255)


def _shrunk(rng: np.random.Generator, picture: Picture, patch: int) -> Picture:
    """Random smaller versions: sharper detail per pixel, and more of the scene in a patch."""
    lowest = (patch + 1) / min(picture.shape[:2])
    scale = rng.uniform(max(0.4, lowest), 1.0) if lowest < 1 and rng.random() < 0.5 else 1.0
    if scale == 1.0:
        return picture
    resized = cv2.resize(picture, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA)
    return np.asarray(resized, np.uint8)


def _filled(picture: Picture, patch: int) -> Picture:
    """Mirror a picture that is smaller than a patch up to its size."""
    below, right = patch - picture.shape[0], patch - picture.shape[1]
    if below <= 0 and right <= 0:
        return picture
    return np.pad(picture, ((0, max(0, below)), (0, max(0, right)), (0, 0)), mode="symmetric")


def _flipped(rng: np.random.Generator, *pictures: Picture) -> tuple[Picture, Picture]:
    """Mirror left-right half of the time; never turn: rain falls."""
    if rng.random() < 0.5:
        pictures = tuple(picture[:, ::-1] for picture in pictures)
    rainy, background = pictures
    return rainy, background
