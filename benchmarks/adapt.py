"""Adapt the shipped weights to a kind of rain that they never saw, and score them on a validation split.

    python benchmarks/adapt.py CLEAN.mp4 FOLDER [vderain adapt's own options]

Rain is drawn onto a clean clip with other means than the renderer's: nearly level, broad, soft, grey-blue
curtains of drops that are drawn again in every frame. The clean clip serves for the scores only. An adaptation sees
none of the frames that are scored: those of the last fifth.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path

import av
import cv2
import numpy as np

from vderain.metrics import mean_psnr, psnr
from vderain.training.data.footage import clip_length
from vderain.training.data.images import ClipFile, read_window
from vderain.training.evaluation.predict import derain_frames
from vderain.training.rain.streaks import Image
from vderain.weights import find_weights, load_network

SLANT_DEG = 74.0  # from the vertical; the renderer's reach 60
COLOUR = np.array((188.0, 200.0, 222.0), np.float32)
HELD_SHARE = 0.2


def draw_layer(rng: np.random.Generator, height: int, width: int) -> np.ndarray:
    """Opacity (H, W) float32 of one frame's rain."""
    opacity = np.zeros((height, width), np.float32)
    for sigma, count, longest in ((1.2, 150, 70), (2.2, 70, 120), (3.6, 20, 180)):
        layer = np.zeros((height, width), np.float32)
        for _ in range(round(count * height * width / 331_776)):  # for 768 x 432
            angle = np.deg2rad(SLANT_DEG + rng.normal(0, 2.5))
            reach = longest * rng.uniform(0.5, 1.0) * np.array((np.sin(angle), np.cos(angle)))
            start = rng.uniform((-longest, -longest), (width, height))
            ends = [tuple(int(v * 8) for v in point) for point in (start, start + reach)]
            strength = float(rng.uniform(0.4, 1.0))
            cv2.line(layer, *ends, strength, max(1, round(2 * sigma)), cv2.LINE_AA, 3)
        layer = cv2.GaussianBlur(layer, (0, 0), sigma)
        opacity = 1 - (1 - opacity) * (1 - 0.55 * np.minimum(layer, 1))
    return opacity


def make_clip(clean: Path, rainy: Path, truth: Path, frames: int, seed: int) -> None:
    """Write the rainy clip, and the clean one cut to the same frames."""
    images = read_window(ClipFile(clean, 0, frames), at_most=True)
    rng = np.random.default_rng(seed)
    height, width = (side // 2 * 2 for side in images[0].shape[:2])
    with av.open(str(rainy), "w") as wet, av.open(str(truth), "w") as dry:
        sides = []
        for container, crf in ((wet, "16"), (dry, "6")):
            stream = container.add_stream(
                "libx264", rate=25, options={"crf": crf, "preset": "veryfast", "threads": "1"}
            )
            stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
            stream.time_base = Fraction(1, 25)
            sides.append((container, stream))
        for image in images:
            ground = image[:height, :width].astype(np.float32)
            opacity = draw_layer(rng, height, width)[..., None]
            rain = np.rint(ground + (COLOUR - ground) * opacity).clip(0, 255).astype(np.uint8)
            for (container, stream), shown in zip(
                sides, (rain, image[:height, :width]), strict=True
            ):
                frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(shown), "rgb24")
                container.mux(stream.encode(frame))
        for container, stream in sides:
            container.mux(stream.encode(None))


def scores(rainy: Path, truth: Path, weights: list[str | None], every: int) -> list[list[float]]:
    """PSNR of the validation frames: as they are, and for each weights; then of the dry ones, likewise."""
    length = clip_length(rainy)
    begin = length - round(length * HELD_SHARE)
    wet, dry = (read_window(ClipFile(clip, begin, length - begin)) for clip in (rainy, truth))

    def mean(results: Sequence[Image]) -> float:
        return mean_psnr(psnr(a, b) for a, b in zip(results[::every], dry[::every], strict=True))

    rows = [[mean(wet), float("inf")]]
    for one in weights:
        network = load_network(*find_weights("fast", one))
        rows.append([mean(derain_frames(network, frames)) for frames in (wet, dry)])
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("clean", type=Path)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--frames", type=int, default=400)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument(
        "--every", type=int, default=4, help="Score every so many validation frames."
    )
    args, options = parser.parse_known_args()
    args.folder.mkdir(parents=True, exist_ok=True)
    rainy, truth, weights = (
        args.folder / name for name in ("rainy.mp4", "clean.mp4", "adapted.safetensors")
    )
    if not rainy.exists():
        make_clip(args.clean, rainy, truth, args.frames, args.seed)
    command = [
        sys.executable,
        "-m",
        "vderain",
        "adapt",
        str(rainy),
        "-o",
        str(weights),
        "--overwrite",
        *options,
    ]
    subprocess.run(command, check=True)
    names = ("rainy", "shipped weights", "adapted weights")
    for name, (wet, dry) in zip(
        names, scores(rainy, truth, [None, str(weights)], args.every), strict=True
    ):
        print(f"{name:16} validation frames {wet:6.2f} dB, dry ones {dry:6.2f} dB")


if __name__ == "__main__":
    main()
