"""Drops that fall close to the lens: broad soft bands, each in one frame of a clip (ours).

A drop within a metre of a camera that focuses far away is blurred to tens of pixels, wider than the streaks of all
other renderers. It brightens its place for one frame. So do clouds of a time-lapse, reflections on water and
headlights in fog, which are no rain: they are drawn too, onto the dry frames.
"""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np

from vderain.training.rain.streaks import Image, Layer

_MOST_BANDS = 3  # in a frame
_WIDTHS_PX = (0.7, 1.9)  # decades
_LENGTHS = (3.0, 60.0)  # in half widths
_OPACITIES = (-1.2, -0.3)  # decades
_WET_SHARES = (0.1, 0.5)  # of a clip's frames that have a drop
_LIT_SHARES = (0.2, 0.8)  # of a clip's frames that have a soft light
_STEEP_SHARE = 0.8  # of drops: they fall, the others are blown


def with_close_drops(rng: np.random.Generator, frames: Sequence[Image]) -> list[Image]:
    """Consecutive frames (H, W, 3) uint8 RGB, some with drops; the middle one at least half of the time."""
    slant_deg = rng.normal(0.0, 12.0) if rng.random() < _STEEP_SHARE else rng.uniform(-45.0, 45.0)
    wet = rng.random(len(frames)) < rng.uniform(*_WET_SHARES)
    wet[len(frames) // 2] |= rng.random() < 0.5
    light = (rng.uniform(150.0, 255.0) * rng.uniform(0.95, 1.05, 3)).astype(np.float32)
    return [
        _lit(frame, _bands(rng, frame.shape[:2], slant_deg), light) if has_drop else frame
        for frame, has_drop in zip(frames, wet, strict=True)
    ]


def with_soft_lights(rng: np.random.Generator, frames: Sequence[Image]) -> list[Image]:
    """Consecutive frames (H, W, 3) uint8 RGB, some with level soft bands, which are no rain."""
    light = rng.uniform(40.0, 255.0, 3).astype(np.float32)
    if rng.random() < 0.6:
        light[:] = light.mean()
    slant_deg = 90.0 + rng.normal(0.0, 15.0)
    lit = rng.random(len(frames)) < rng.uniform(*_LIT_SHARES)
    return [
        _lit(frame, _bands(rng, frame.shape[:2], slant_deg), light) if has_light else frame
        for frame, has_light in zip(frames, lit, strict=True)
    ]


def _lit(frame: Image, opacity: Layer, light: Layer) -> Image:
    """The frame behind ``light`` (3,), never darker than it was."""
    mixed = frame + (light - frame.astype(np.float32)) * opacity[..., None]
    return np.rint(np.maximum(mixed, frame)).clip(0, 255).astype(np.uint8)


def _bands(rng: np.random.Generator, shape: tuple[int, ...], slant_deg: float) -> Layer:
    """The opacity of one to three bands, (H, W) float32 in [0, 1]."""
    height, width = shape
    opacity = np.zeros((height, width), np.float32)
    rows, columns = np.indices((height, width), np.float32)
    for _ in range(int(rng.integers(1, _MOST_BANDS + 1))):
        angle = np.deg2rad(slant_deg + rng.normal(0.0, 4.0))
        x, y = columns - rng.random() * width, rows - rng.random() * height
        across = np.abs(x * np.cos(angle) - y * np.sin(angle))
        along = np.abs(x * np.sin(angle) + y * np.cos(angle))
        half_px = 10 ** rng.uniform(*_WIDTHS_PX) / 2
        length_px = half_px * rng.uniform(*_LENGTHS)
        soft_px = half_px * rng.uniform(0.3, 1.0)
        band = _falling(across, half_px, soft_px) * _falling(along, length_px, 2 * half_px)
        if rng.random() < 0.4:  # a drop that wobbles, or several behind each other
            waves = cv2.GaussianBlur(rng.random((height, 1), np.float32), (0, 0), half_px)
            waves = (waves - waves.min()) / max(float(np.ptp(waves)), 1e-6)
            band = band * (1 - np.float32(rng.uniform(0.2, 0.8)) * waves)
        opacity = np.maximum(opacity, band * np.float32(10 ** rng.uniform(*_OPACITIES)))
    return opacity


def _falling(distance: Layer, half: float, soft: float) -> Layer:
    """1 in the middle of a band, 0 beyond ``half``, smooth over ``soft`` before that."""
    share = np.clip((half - distance) / max(soft, 1e-3), 0, 1)
    return np.asarray(share * share * (3 - 2 * share), np.float32)
