"""What rain looks like in a scene: the light in the drops, lamps at night, and mist (ours).

A drop shows a wide-angle view of its surroundings, mostly the sky; Garg and Nayar, "Vision and rain"
(IJCV 2007). Drops too far away to be seen one by one act as mist: Narasimhan and Nayar (IJCV 2002).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt

from vderain.training.rain.streaks import Image, Layer

Colours = npt.NDArray[np.float32]  # (H, W, 3), in 8-bit code values; light may exceed 255

_GRID = 12  # the light of a scene varies slowly
_DARK_MEAN = 70.0  # mean of an image taken at night


@dataclass(frozen=True, slots=True)
class Mist:
    """``transmission`` (H, W, 1) in [0, 1] and the colour ``air`` (3,) in 8-bit code values."""

    transmission: Layer
    air: Layer

    def over(self, image: Colours) -> Colours:
        """The image seen through it."""
        return self.air + (image - self.air) * self.transmission


def is_dark(image: Image) -> bool:
    """Whether an image (H, W, 3) uint8 is of night."""
    return float(cv2.mean(image)[1]) < _DARK_MEAN


def drop_light(rng: np.random.Generator, image: Image) -> Colours:
    """Light in the drops over each pixel by day: the sky's, and that of the scene turned over."""
    small = _small(image)
    sky = _sky(small)
    sky = sky + (sky.mean() - sky) * np.float32(rng.uniform(0.3, 1.0))
    local = (small + small[::-1, ::-1]) / 2
    share = np.float32(rng.uniform(0.5, 1.0))
    light = sky * share + local * (1 - share)
    light = light * rng.uniform(1.0, 1.5) + rng.uniform(0.0, 60.0)
    return _enlarged(light, image)


def lamp_light(rng: np.random.Generator, image: Image) -> Colours:
    """Light in the drops at night: bright near lamps, those in the image and one outside it."""
    small = _small(image)
    brightness = small.mean(2, keepdims=True)
    muted = brightness + 0.35 * (small - brightness)  # a lit sign colours drops less than itself
    lamps = np.maximum(muted - brightness.mean() - 20, 0)
    glow = np.asarray(cv2.GaussianBlur(lamps, (0, 0), rng.uniform(1.0, 3.0)), np.float32)
    place = rng.uniform(-0.4, 1.4, 2) * _GRID
    rows, columns = np.mgrid[:_GRID, :_GRID].astype(np.float32) + np.float32(0.5)
    away = np.hypot(rows - place[0], columns - place[1]) / (_GRID * rng.uniform(0.2, 0.8))
    warmth = np.array([1.0, rng.uniform(0.75, 1.0), rng.uniform(0.5, 1.05)], np.float32)
    glow = glow / (glow.max() + 1) * rng.uniform(0.3, 1.0)
    glow += (warmth / (1 + away[..., None] ** 2)) * rng.uniform(0.0, 1.0)
    light = brightness.mean() + 10 + glow / (glow.max() + 1e-3) * rng.uniform(80.0, 300.0)
    return _enlarged(light, image)


def draw_mist(rng: np.random.Generator, image: Image, thickness: float) -> Mist:
    """Mist over a scene whose depth is guessed: ``thickness`` is the optical depth at its far end."""
    small = _small(image)
    sky = _sky(small)
    grey = np.float32(sky.mean())
    air = grey + (sky - grey) * np.float32(rng.uniform(0.0, 0.5))
    air = np.minimum(air * rng.uniform(0.7, 1.1) + rng.uniform(0.0, 40.0), 250)
    transmission = np.exp(-np.float32(thickness) * _depth(rng, small))
    return Mist(_enlarged(transmission, image)[..., None], air.astype(np.float32))


def _depth(rng: np.random.Generator, small: Colours) -> Layer:
    """A guess at depth in [0, 1] on the coarse grid: far above, far where no channel is dark, or anything."""
    rise = np.linspace(1, rng.uniform(0.0, 0.6), _GRID, dtype=np.float32)[:, None]
    if rng.random() < 0.4:
        depth = rise * np.ones((1, _GRID), np.float32)
    elif rng.random() < 0.5:
        darkest = small.min(2)
        depth = rise * (0.3 + 0.7 * darkest / (darkest.max() + 1))
    else:
        field = rng.random((4, 4), np.float32)
        depth = np.asarray(cv2.resize(field, (_GRID, _GRID), interpolation=cv2.INTER_CUBIC))
    return np.clip(np.asarray(cv2.blur(depth, (3, 3)), np.float32), 0, 1)


def uneven(rng: np.random.Generator, layer: Layer) -> Layer:
    """Streaks that gust: the layer (H, W) is weaker in some places, as real rain is."""
    field = rng.uniform(0.1, 1.0, (4, 4)).astype(np.float32)
    return layer * _enlarged(field, layer)


def partial(rng: np.random.Generator, image: Image) -> Layer:
    """Where rain is seen (H, W) in [0, 1]: 15 to 80 % of the image, in few pieces."""
    height, width = image.shape[:2]
    coarse = rng.random(tuple(rng.integers(2, 5, 2)), np.float32)
    field = cv2.resize(coarse, (width, height), interpolation=cv2.INTER_CUBIC)
    threshold = np.quantile(field, rng.uniform(0.2, 0.85))
    seen = (np.asarray(field, np.float32) - threshold) * np.float32(10 ** rng.uniform(0.6, 1.6))
    return np.asarray(np.clip(seen, 0, 1), np.float32)


def _sky(small: Colours) -> Layer:
    """Mean colour (3,) of the brightest quarter of the upper half."""
    upper = small[: _GRID // 2 + 1].reshape(-1, 3)
    order = np.argsort(upper.sum(1))
    return np.asarray(upper[order[-len(order) // 4 :]].mean(0), np.float32)


def _small(image: Image) -> Colours:
    size = (_GRID, _GRID)
    return np.asarray(cv2.resize(image, size, interpolation=cv2.INTER_AREA), np.float32)


def _enlarged(field: npt.NDArray[Any], like: npt.NDArray[Any]) -> npt.NDArray[np.float32]:
    size = (like.shape[1], like.shape[0])
    large = cv2.resize(np.asarray(field, np.float32), size, interpolation=cv2.INTER_LINEAR)
    return np.asarray(large, np.float32)
