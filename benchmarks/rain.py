"""Samples per second that the rain renderer makes in one thread; prints, asserts nothing.

    python benchmarks/rain.py [--clean DIR]

Seconds are of CPU, so that other work on the machine disturbs little. Without a folder of clean pictures,
rain falls on smooth noise.
"""

from __future__ import annotations

import os
import platform
import time
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path

import click
import cv2
import numpy as np

from vderain.machine import cpu_fields, cpu_model
from vderain.training.rain.render import (
    RAIN_KINDS,
    RAIN_MODELS,
    Picture,
    add_rain,
    render_clip,
    render_kind,
)

SIDES_PX = (128, 256)
SAMPLES = 400
CLIP = 5  # frames


def crops(folder: Path | None, side_px: int) -> list[Picture]:
    """Square pictures to rain on."""
    rng = np.random.default_rng(0)
    if folder is None:
        noise = rng.integers(0, 256, (20, 8, 8, 3), np.uint8)
        return [cv2.resize(small, (side_px, side_px)) for small in noise]
    cut = []
    for path in sorted(folder.rglob("*.*")):
        picture = cv2.imread(str(path))
        if picture is not None and min(picture.shape[:2]) >= side_px:
            cut.append(np.ascontiguousarray(picture[:side_px, :side_px, ::-1]))
    return cut


def measure(
    render: Callable[[np.random.Generator, Picture], object], backgrounds: list[Picture]
) -> str:
    """Samples per second, and the time of the mean and of the slowest in a hundred."""
    times_s = []
    for seed in range(SAMPLES):
        rng = np.random.default_rng(seed)
        since = time.process_time()
        render(rng, backgrounds[seed % len(backgrounds)])
        times_s.append(time.process_time() - since)
    mean, slow = 1e3 * np.mean(times_s), 1e3 * np.percentile(times_s, 99)
    return f"{1e3 / mean:6.0f} samples/s, {mean:5.2f} ms each, 99 % within {slow:5.1f} ms"


@click.command()
@click.option("--clean", type=click.Path(exists=True, file_okay=False, path_type=Path))
def main(clean: Path | None) -> None:
    """Measure each model, each kind of rain, and clips."""
    cv2.setNumThreads(1)
    packages = ("vderain", "numpy", "opencv-python-headless")
    print(f"{cpu_model(cpu_fields())}, {os.cpu_count()} cores, Python {platform.python_version()}, "
          + ", ".join(f"{name} {version(name)}" for name in packages))  # fmt: skip
    for side_px in SIDES_PX:
        backgrounds = crops(clean, side_px)
        print(f"{side_px}x{side_px} px, {len(backgrounds)} backgrounds")
        for model in RAIN_MODELS:
            made = measure(lambda rng, b, m=model: add_rain(rng, [b], model=m), backgrounds)
            print(f"  model {model:8} {made}")
        for kind in RAIN_KINDS:
            layers = [np.random.default_rng(0).random((360, 640), np.float32)]
            made = measure(
                lambda rng, b, k=kind, m=layers: render_kind(rng, [b], k, mined=m), backgrounds
            )
            print(f"  kind {kind:9} {made}")
        made = measure(lambda rng, b: render_clip(rng, [b] * CLIP), backgrounds)
        print(f"  clip of {CLIP}      {made}", flush=True)


if __name__ == "__main__":
    main()
