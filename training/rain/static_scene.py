"""The view of a static camera without rain, and the rain in one of its frames (ours).

The temporal median over a few seconds is nearly dry. Rain makes a place brighter than it, in thin pieces; what
is thick or darker is something that moves, and nothing is said of it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np
import numpy.typing as npt

from vderain.training.rain.streaks import Image, Layer

Mask = npt.NDArray[np.bool_]  # (H, W)
Luma = npt.NDArray[np.uint8]  # (H, W)

_CALM = 4.0  # code values of median absolute deviation below which a place is calm
# Code values below the median in one of twenty frames, from which a place sways: rain darkens none.
_SWAY = 8.0
_LEAST_NOISE = 1.6  # code values
# Deviations of the noise between which a difference becomes rain: of 3x3 pixels together, and of one alone.
_FAINT, _CLEAR = 1.2, 2.5
_FAINT_ALONE, _CLEAR_ALONE = 2.5, 4.0
_THICK_PX = 13  # what holds such a disc is no streak
_AROUND_PX = 15  # of what moves, where nothing is said


@dataclass(frozen=True, slots=True, eq=False)
class StaticScene:
    """A static camera's view, or a part of it.

    Attributes:
        median: over time, (H, W, 3) uint8 RGB.
        calm: where the median shows the scene, (H, W).
        noise: standard deviation of what differs from frame to frame without rain, (H, W) float32 code values.

    """

    median: Image
    calm: Mask
    noise: Layer

    def part(self, rows: slice, columns: slice) -> StaticScene:
        """A window of it."""
        window = rows, columns
        return StaticScene(self.median[window], self.calm[window], self.noise[window])


@dataclass(frozen=True, slots=True, eq=False)
class SeenRain:
    """What is rain in a frame of a static camera.

    Attributes:
        target: the frame with the median in place of its rain, its noise kept, (H, W, 3) uint8 RGB.
        known: where that can be said, (H, W).
        light: luma that clear rain adds, (H, W) float32 code values; 0 where that is not known.

    """

    target: Image
    known: Mask
    light: Layer


def static_scene(frames: Sequence[Image]) -> StaticScene:
    """The scene of consecutive frames (H, W, 3) uint8 RGB, some seconds of them."""
    bands = [
        _band([frame[first : first + 8] for frame in frames])
        for first in range(0, frames[0].shape[0], 8)
    ]
    median, deviation, below, lowest = (np.concatenate(each) for each in zip(*bands, strict=True))
    # Rain is above the median, so the samples below it show the noise.
    noise = np.asarray(cv2.blur(below * np.float32(1.4826), (5, 5)), np.float32)
    calm = (deviation < _CALM) & (lowest < _SWAY)
    return StaticScene(median, calm, np.maximum(noise, _LEAST_NOISE))


def _band(rows: Sequence[Image]) -> tuple[Image, Layer, Layer, Layer]:
    """Of some rows: the median; of luma the median absolute deviation, and how far below lie 25 % and 5 %."""
    count, middle = len(rows), len(rows) // 2
    stack = np.moveaxis(np.stack(rows), 0, -1)
    median = np.ascontiguousarray(np.partition(stack, middle, axis=-1)[..., middle])
    lumas = np.stack([luma_of(np.ascontiguousarray(row)) for row in rows], axis=-1)
    ordered = np.sort(lumas, axis=-1).astype(np.float32)
    own = ordered[..., middle]
    away = np.abs(ordered - own[..., None])
    deviation = np.partition(away, middle, axis=-1)[..., middle]
    return median, deviation, own - ordered[..., count // 4], own - ordered[..., count // 20]


def luma_of(image: Image) -> Luma:
    """Full-range BT.601 luma (H, W) uint8 of RGB (H, W, 3) uint8."""
    return np.asarray(cv2.cvtColor(image, cv2.COLOR_RGB2GRAY), np.uint8)


def rain_of(scene: StaticScene, frame: Image) -> SeenRain:
    """The rain of a frame (H, W, 3) uint8 RGB of the scene."""
    middle = luma_of(scene.median).astype(np.float32)
    above = luma_of(frame) - middle
    together = np.asarray(cv2.blur(above, (3, 3)), np.float32) / scene.noise
    share = _ramp(together, _FAINT, _CLEAR)
    unknown = _things(share > 0.5) | (_ramp(-together, _FAINT, _CLEAR) > 0.5)
    known = scene.calm & ~unknown
    share = np.maximum(share, _ramp(above / scene.noise, _FAINT_ALONE, _CLEAR_ALONE))
    share = np.asarray(cv2.dilate(share, np.ones((3, 3), np.uint8)), np.float32)
    own = frame.astype(np.float32)
    target = np.rint(own - share[..., None] * (own - scene.median)).clip(0, 255).astype(np.uint8)
    light = np.where(known, share * np.maximum(above, 0), 0).astype(np.float32)
    return SeenRain(target, known, _clear_pieces(light, above > _CLEAR_ALONE * scene.noise))


def _clear_pieces(light: Layer, clear: Mask) -> Layer:
    """The connected pieces that are clear somewhere: what is faint all over may be compression."""
    count, labels = cv2.connectedComponents((light > 0).astype(np.uint8))
    kept = np.zeros(count, bool)
    kept[np.asarray(labels)[clear]] = True
    kept[0] = False
    return np.where(kept[labels], light, 0).astype(np.float32)


def _ramp(deviations: Layer, low: float, high: float) -> Layer:
    return np.asarray(np.clip((deviations - low) / (high - low), 0, 1), np.float32)


def _things(bright: Mask) -> Mask:
    """What is too thick for a streak, and around it."""
    disc = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (_THICK_PX, _THICK_PX))
    opened = cv2.morphologyEx(bright.astype(np.uint8), cv2.MORPH_OPEN, disc)
    around = np.ones((_AROUND_PX, _AROUND_PX), np.uint8)
    return np.asarray(cv2.dilate(opened, around)) > 0
