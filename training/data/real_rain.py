"""Patches of real rain: of a static camera with its temporal median, and its light on dry video (ours)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt

from vderain.training.data.segments import Segment
from vderain.training.rain.plates import plate_light
from vderain.training.rain.static_scene import luma_of, rain_of
from vderain.training.rain.streaks import Image, Layer

_TRIES = 4
_LEAST_KNOWN = 0.3  # of a patch that is learnt from
_LEAST_CALM = 0.6  # of a place whose rain is used
_SMALLEST_SCALE = 0.4
_SCALES = (0.6, 1.5)  # of rain added elsewhere
_STRENGTHS = (1.0, 2.2)  # decades of code values that its brightest samples reach
_GAINS = (0.4, 6.0)
_BRIGHTEST = 0.998  # quantile


@dataclass(frozen=True, slots=True, eq=False)
class RealPatch:
    """Consecutive frames of a static camera, (P, P, 3) uint8 each; the target of the middle one, and its weight.

    ``weight`` (P, P) float32 is 1 where the target can be trusted, 0 where it cannot.
    """

    frames: list[Image]
    target: Image
    weight: Layer


@dataclass(frozen=True, slots=True, eq=False)
class Light:
    """What rain adds to each of consecutive frames, (H, W) float32, over a ``ground`` (H, W), in code values."""

    layers: list[Layer]
    ground: Layer = field(default_factory=lambda: np.zeros((1, 1), np.float32))

    def over(self, rng: np.random.Generator, frames: Sequence[Image]) -> list[Image]:
        """As many frames (H, W, 3) uint8 RGB under this rain: added, or screened, which bright places hide."""
        brightest = max(float(np.quantile(np.stack(self.layers), _BRIGHTEST)), 1.0)
        gain = np.clip(10 ** rng.uniform(*_STRENGTHS) / brightest, *_GAINS)
        tint = (gain * rng.uniform(0.95, 1.05, 3)).astype(np.float32)
        screened = rng.random() < 0.5
        rainy = []
        for frame, layer in zip(frames, self.layers, strict=True):
            light = layer[..., None] * tint
            if screened:  # as much as over its own ground, where this is as dark
                opacity = np.minimum(light / np.maximum(255 - self.ground, 64)[..., None], 1)
                light = opacity * (255 - frame.astype(np.float32))
            rainy.append(np.rint(frame + light).clip(0, 255).astype(np.uint8))
        return rainy


def real_patch(
    rng: np.random.Generator, segment: Segment, side: int, offsets: Sequence[int]
) -> RealPatch:
    """A square of a static camera's frames at ``offsets``, 0 in the middle, half of the time of a smaller version."""
    scene = segment.scene
    assert scene is not None
    smallest = min(scene.calm.shape)
    lowest = max(_SMALLEST_SCALE, side / smallest)
    window_px = side
    if lowest < 1 and rng.random() < 0.5:
        window_px = min(round(side / rng.uniform(lowest, 1.0)), smallest)
    window = _calmest(rng, scene.calm, window_px)
    frames = _frames(rng, segment, offsets, window)
    seen = rain_of(scene.part(*window), frames[len(frames) // 2])
    known = seen.known.astype(np.float32)
    parts: list[npt.NDArray[Any]] = [*frames, seen.target, known]
    made = [_squared(one, side) for one in parts]
    return RealPatch(made[:-2], made[-2], made[-1])


def falling_light(
    rng: np.random.Generator, segment: Segment, side: int, offsets: Sequence[int]
) -> Light:
    """The rain of a segment at ``offsets``, a square of it, enlarged, made smaller, or mirrored."""
    height, width = segment.frames.shape[1:3]
    window_px = min(round(side / rng.uniform(*_SCALES)), height, width)
    calm = np.ones((height, width), bool) if segment.scene is None else segment.scene.calm
    window = _calmest(rng, calm, window_px, least=_LEAST_CALM)
    frames = _frames(rng, segment, offsets, window)
    if segment.scene is None:
        assert segment.black is not None
        black = segment.black[window]
        layers, ground = [plate_light(frame, black) for frame in frames], np.zeros_like(black)
    else:
        part = segment.scene.part(*window)
        layers, ground = [rain_of(part, frame).light for frame in frames], luma_of(part.median)
    step = -1 if rng.random() < 0.5 else 1
    made = [_squared(one[:, ::step], side) for one in (*layers, ground.astype(np.float32))]
    return Light(made[:-1], made[-1])


def _frames(
    rng: np.random.Generator, segment: Segment, offsets: Sequence[int], window: tuple[slice, slice]
) -> list[Image]:
    """A part of the frames at ``offsets`` from any one of a segment."""
    first, last = -min(offsets), len(segment.frames) - 1 - max(offsets)
    middle = int(rng.integers(first, last + 1))
    return [np.array(segment.frames[(middle + offset, *window)]) for offset in offsets]


def _calmest(
    rng: np.random.Generator, calm: npt.NDArray[np.bool_], side: int, least: float = _LEAST_KNOWN
) -> tuple[slice, slice]:
    """A window drawn anywhere: of a few the first that is calm enough, else the calmest."""
    best: tuple[float, tuple[slice, slice]] = (-1.0, (slice(0), slice(0)))
    for _ in range(_TRIES):
        top, left = (int(rng.integers(max(1, length - side + 1))) for length in calm.shape)
        window = slice(top, top + side), slice(left, left + side)
        share = float(calm[window].mean())
        best = max(best, (share, window), key=lambda each: each[0])
        if share >= least:
            break
    return best[1]


def _squared(image: npt.NDArray[Any], side: int) -> npt.NDArray[Any]:
    """Resized to (side, side); what is narrower than high, or higher than wide, is mirrored up to a square."""
    height, width = image.shape[:2]
    longest = max(height, width)
    if height != width:
        below = [(0, longest - height), (0, longest - width), (0, 0)][: image.ndim]
        image = np.pad(image, below, mode="symmetric")
    if longest == side:
        return np.ascontiguousarray(image)
    shrinks = longest > side
    method = cv2.INTER_AREA if shrinks else cv2.INTER_LINEAR
    resized = cv2.resize(np.ascontiguousarray(image), (side, side), interpolation=method)
    return np.asarray(resized, image.dtype)
