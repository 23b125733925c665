"""Peak memory of a run, with a cached engine: 10 s against 60 s, 1080p, and a hundred images of a hundred sizes.

python benchmarks/memory.py
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from pathlib import Path

import cv2
import numpy as np
from pipeline import make_clip


def peak_mib(source: Path, target: Path) -> float:
    """Peak resident memory of ``vderain run``."""
    command = [
        sys.executable,
        "-m",
        "vderain",
        "run",
        str(source),
        str(target),
        "-q",
        "--overwrite",
    ]
    process = subprocess.Popen(command)
    return os.wait4(process.pid, 0)[2].ru_maxrss / 1024


def main() -> None:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for label, size, seconds in (
            ("warm-up", (640, 360), 1),
            ("640x360, 10 s", (640, 360), 10),
            ("640x360, 60 s", (640, 360), 60),
            ("1920x1080, 4 s", (1920, 1080), 4),
        ):
            clip = folder / "clip.mp4"
            make_clip(clip, size, seconds)
            print(f"{label:24} {peak_mib(clip, folder / 'out.mp4'):7.0f} MiB", flush=True)
        images = folder / "images"
        images.mkdir()
        rng = np.random.default_rng(0)
        for index in range(100):
            height, width = int(rng.integers(200, 1000)), int(rng.integers(200, 1400))
            image = rng.integers(0, 256, (height // 8, width // 8, 3), np.uint8)
            cv2.imwrite(str(images / f"{index}.png"), cv2.resize(image, (width, height)))
        print(f"{'100 images, 100 sizes':24} {peak_mib(images, folder / 'dry'):7.0f} MiB")


if __name__ == "__main__":
    main()
