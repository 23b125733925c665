"""Makes vderain/weights/selfcheck.npz, the images on which built engines are compared with the reference.

Usage: python scripts/make_selfcheck.py solidWhiteRight.mp4

The video is test_videos/solidWhiteRight.mp4 of https://github.com/udacity/CarND-LaneLines-P1,
Copyright (c) 2016-2018 Udacity, Inc., MIT license. Three of its frames are scaled to 320x180:
``dry`` as it is, ``rainy`` with rendered rain, ``night`` darkened, with a few lit streaks.
"""

from __future__ import annotations

import sys
from pathlib import Path

import cv2
import numpy as np

from vderain.training.rain.render import Image, add_rain

SIZE = (320, 180)
TARGET = Path(__file__).parents[1] / "vderain" / "weights" / "selfcheck.npz"


def read_frame(video: str, index: int) -> Image:
    """Frame ``index`` of a video as RGB, scaled to ``SIZE``."""
    capture = cv2.VideoCapture(video)
    capture.set(cv2.CAP_PROP_POS_FRAMES, index)
    found, frame = capture.read()
    capture.release()
    if not found:
        raise SystemExit(f"{video}: no frame {index}")
    small = cv2.resize(frame, SIZE, interpolation=cv2.INTER_AREA)
    return np.ascontiguousarray(small[..., ::-1], np.uint8)


def darken(image: Image, rng: np.random.Generator) -> Image:
    """Night: a steep curve, and streaks lit by lamps."""
    dark = np.rint(60.0 * (image / 255.0) ** 2.2).astype(np.uint8)
    for _ in range(12):
        x, y = (int(rng.integers(limit)) for limit in SIZE)
        end = (x + int(rng.integers(-4, 5)), y + int(rng.integers(8, 24)))
        level = int(rng.integers(150, 256))
        cv2.line(dark, (x, y), end, (level, level, level * 9 // 10), 1, cv2.LINE_AA)
    return dark


def main() -> None:
    """Write the images; the same video and renderer give the same file."""
    video = sys.argv[1]
    images = {
        "rainy": add_rain(np.random.default_rng(5), [read_frame(video, 20)])[0],
        "dry": read_frame(video, 100),
        "night": darken(read_frame(video, 180), np.random.default_rng(7)),
    }
    np.savez_compressed(TARGET, allow_pickle=False, **images)


if __name__ == "__main__":
    main()
