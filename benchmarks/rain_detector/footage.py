"""Clips for `measure.py`: dry ones made harder, and the same ones with rendered rain, encoded afterwards."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from fractions import Fraction
from pathlib import Path

import av
import cv2
import numpy as np

from vderain.training.data.footage import clip_length
from vderain.training.data.images import CLIPS, ClipFile, read_window
from vderain.training.rain.render import RAIN_KINDS, Image, render_kind

FRAMES = 14  # of a clip
PLACES = (0.2, 0.6)  # of a source, where a clip is cut
LARGEST_PX = 720  # lines; larger frames are scaled down first
KINDS = tuple(kind for kind in RAIN_KINDS if kind != "mined")
VARIANTS = ("plain", "coarse", "noise", "fast", "night", "720p")
FASTER = 3  # only every third frame


@dataclass(frozen=True)
class Sample:
    """One clip to judge.

    ``rain`` is what streaks add to each frame: the RMS of the added luma less its 15 px blur, in code values;
    0 for dry footage; None for real rain.
    """

    path: str
    source: str
    kind: str
    wet: bool
    half: int
    rain: tuple[float, ...] | None = None


def make_samples(data: Path, work: Path) -> list[Sample]:
    """Write the clips below ``work``, or read those that are there."""
    listing = work / "samples.json"
    if listing.is_file():
        return [Sample(**entry) for entry in json.loads(listing.read_text())]
    work.mkdir(parents=True, exist_ok=True)
    samples: list[Sample] = []
    clean = [path for split in ("train", "dev") for path in _clips(data / split / "clean_video")]
    for number, path in enumerate(clean):
        for cut, images in enumerate(_cuts(path)):
            half = number % 2
            samples += _dry(work, path.stem, cut, half, images)
            samples += _wet(work, path.stem, cut, half, images, seed=100 * number + cut)
        print(f"made the clips of {path.stem}", flush=True)
    listing.write_text(json.dumps([asdict(sample) for sample in samples]))
    return samples


def given_samples(data: Path) -> list[Sample]:
    """Rain that was rendered before, and real rain; all in the second half, on which nothing was fitted."""
    rendered = [
        Sample(str(path), path.stem, "rendered " + path.stem.rpartition("_")[2], True, 1)
        for path in _clips(data / "dev" / "rendered")
    ]
    real = _clips(data / "train" / "real_rain_video")
    return rendered + [Sample(str(path), path.stem, "real", True, 1) for path in real]


def _clips(folder: Path) -> list[Path]:
    return sorted(path for path in folder.iterdir() if path.suffix in CLIPS)


def _cuts(path: Path) -> list[list[Image]]:
    """Parts long enough that every third frame of them makes a clip."""
    length = clip_length(path)
    wanted = FRAMES * FASTER
    if length < 2 * wanted:
        return [_read(path, 0, min(length, wanted))]
    return [_read(path, min(int(place * length), length - wanted), wanted) for place in PLACES]


def _read(path: Path, first: int, count: int) -> list[Image]:
    images = read_window(ClipFile(path, first, count), at_most=True)
    height, width = images[0].shape[:2]
    scale = min(1.0, LARGEST_PX / height)
    size = (round(width * scale) // 2 * 2, round(height * scale) // 2 * 2)
    return [np.asarray(cv2.resize(p, size, interpolation=cv2.INTER_AREA)) for p in images]


def _dry(work: Path, source: str, cut: int, half: int, images: Sequence[Image]) -> list[Sample]:
    rng = np.random.default_rng(cut)
    samples = []
    for variant in VARIANTS:
        frames = list(images[:FRAMES])
        if variant == "fast":
            frames = list(images[::FASTER])
        if variant == "noise":
            frames = [_noisy(rng, frame, 5.0) for frame in frames]
        if variant == "night":
            frames = [_noisy(rng, frame * np.float32(0.25), 4.0) for frame in frames]
        if variant == "720p":
            frames = [cv2.resize(frame, (1280, 720)) for frame in frames]
        path = work / f"{source}_{cut}_dry_{variant}.mp4"
        encode(path, frames, 35 if variant == "coarse" else 23)
        samples.append(
            Sample(str(path), source, f"dry {variant}", False, half, (0.0,) * len(frames))
        )
    return samples


def _wet(
    work: Path, source: str, cut: int, half: int, images: Sequence[Image], seed: int
) -> list[Sample]:
    samples = []
    for number, kind in enumerate((*KINDS, "fast drops")):
        rng = np.random.default_rng(seed * 10 + number)
        clean = images[::FASTER] if kind.startswith("fast") else images[:FRAMES]
        rainy = render_kind(rng, clean, kind.rpartition(" ")[2])
        path = work / f"{source}_{cut}_{kind.replace(' ', '_')}.mp4"
        encode(path, rainy, 23)
        rain = tuple(_added(*pair) for pair in zip(rainy, clean, strict=True))
        samples.append(Sample(str(path), source, kind, True, half, rain))
    return samples


def _added(rainy: Image, clean: Image) -> float:
    luma = [cv2.cvtColor(p, cv2.COLOR_RGB2GRAY).astype(np.float32) for p in (rainy, clean)]
    layer = luma[0] - luma[1]
    layer -= cv2.GaussianBlur(layer, (0, 0), 15 / 3)
    return round(float(np.sqrt(np.square(layer).mean())), 2)


def _noisy(rng: np.random.Generator, frame: Image, sigma: float) -> Image:
    noise = rng.normal(0, sigma, frame.shape)
    return np.clip(np.rint(frame + noise), 0, 255).astype(np.uint8)


def encode(path: Path, frames: Sequence[Image], crf: int) -> None:
    """H.264 of (H, W, 3) uint8 RGB frames."""
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=25)
        stream.height, stream.width = frames[0].shape[:2]
        stream.pix_fmt = "yuv420p"
        stream.options = {"crf": str(crf), "preset": "veryfast"}
        stream.codec_context.time_base = Fraction(1, 25)
        for frame in frames:
            container.mux(stream.encode(av.VideoFrame.from_ndarray(np.ascontiguousarray(frame))))
        container.mux(stream.encode(None))
