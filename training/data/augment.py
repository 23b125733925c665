"""Colours that photographs lack: recoloured patches, and charts of flat and saturated colours (ours)."""

from __future__ import annotations

import cv2
import numpy as np

from vderain.training.rain.render import Image

_CHART_SIZE = (288, 384)
_UNCHANGED = 0.6  # share of patches that keep their colours


def recoloured(rng: np.random.Generator, image: Image) -> Image:
    """Sometimes swap the channels, scale each, and stretch the saturation; (H, W, 3) uint8."""
    if rng.random() < _UNCHANGED:
        return image
    swapped = image[..., rng.permutation(3)].astype(np.float32)
    swapped *= rng.uniform(0.5, 1.3, 3).astype(np.float32)
    grey = swapped.mean(2, keepdims=True)
    stretched = grey + (swapped - grey) * np.float32(rng.uniform(0.0, 3.0))
    return np.asarray(stretched.round().clip(0, 255), np.uint8)


def draw_chart(rng: np.random.Generator) -> Image:
    """Rectangles, bars, discs, gradients and letters in any colour, full primaries among them."""
    height, width = _CHART_SIZE
    image = np.empty((height, width, 3), np.uint8)
    image[:] = _colour(rng)
    if rng.random() < 0.4:
        ramp = np.linspace(0, 1, width, dtype=np.float32)[None, :, None]
        ends = np.array([_colour(rng), _colour(rng)], np.float32)
        image[:] = np.rint(ends[0] * (1 - ramp) + ends[1] * ramp)
    for _ in range(int(rng.integers(0, 30))):
        x, y = int(rng.integers(width)), int(rng.integers(height))
        size = int(rng.integers(4, 140))
        kind = rng.integers(4)
        if kind < 2:
            corner = (x + size, y + int(rng.integers(4, 140)))
            cv2.rectangle(image, (x, y), corner, _colour(rng), -1)
        elif kind == 2:
            cv2.circle(image, (x, y), size // 2, _colour(rng), -1, cv2.LINE_AA)
        else:
            word = "".join(chr(code) for code in rng.integers(48, 91, 6))
            scale = float(rng.uniform(0.4, 2.0))
            cv2.putText(image, word, (x - 40, y), 0, scale, _colour(rng), 2, cv2.LINE_AA)
    return image


def _colour(rng: np.random.Generator) -> tuple[int, int, int]:
    """Half of the time a corner of the colour cube, else anything."""
    values = rng.integers(0, 2, 3) * 255 if rng.random() < 0.5 else rng.integers(0, 256, 3)
    red, green, blue = (int(value) for value in values)
    return red, green, blue
