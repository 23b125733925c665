"""Scores of derained footage that has no ground truth (ours).

Each scores the middle frame of a short piece of consecutive frames, where the neighbouring frames show the
scene (``temporal.View.valid``); nothing is said of the rest of the image. Rain that is the same
in every frame, such as mist or drops on the lens, is seen by none of them.

residual: what a temporal median removes from the result, in code values: rain that is left, and noise. A blurred
    result has little of it too.
streaks: how much more gradient the result has across the rain's direction than along it, beyond what the
    temporal median of the rainy frames has; a fraction. It says nothing of rain that falls in any direction.
structure: how much of the rainy frame's gradient is kept where it shows no rain; 1 is all. A result that
    changes nothing has 1.
flicker: mean difference to the frame before, as the camera follows the scene, in code values; a blurred result
    has little of it.
agreement: PSNR in dB against the frame with the temporal median in place of its rain. As good as the
    median is: it is softer than the scene where the camera moves, and keeps rain where most frames show some.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields

import cv2
import numpy as np
import numpy.typing as npt

from vderain.training.rain.streaks import Image
from vderain.training.rain.temporal import View

_Grey = npt.NDArray[np.float32]
_FEWEST_PX = 500  # that must be valid
_FAINT = 4 / 255  # brightness that is no rain
_AROUND_PX = 9  # of rain, where nothing is said of structure


@dataclass(frozen=True, slots=True)
class RealScores:
    """See the module; ``residual``, ``streaks`` and ``flicker`` are better lower, the others higher."""

    residual: float
    streaks: float
    structure: float
    flicker: float
    agreement_db: float

    @classmethod
    def mean(cls, scores: Sequence[RealScores]) -> RealScores:
        """The mean of each."""
        return cls(
            *(float(np.mean([getattr(one, item.name) for one in scores])) for item in fields(cls))
        )


def score_result(seen: View, results: Sequence[Image]) -> RealScores | None:
    """The scores of the results for a view's frames, as many (H, W, 3) uint8 RGB; None where too little is valid."""
    valid = seen.valid
    if valid.sum() < _FEWEST_PX:
        return None
    centre = seen.alignment.centre
    stack = seen.alignment.stack(results)
    result = results[centre]
    middle = len(stack) // 2
    median = np.partition(stack, middle, axis=0)[middle]
    residual = np.maximum(_grey(result) - _grey(median), 0)[valid].mean()
    flicker = np.abs(_grey(result) - _grey(stack[centre - 1]))[valid].mean()
    error = (result.astype(np.float32) - seen.target())[valid]
    agreement = 10 * np.log10(255**2 / max(1e-4, float(np.square(error).mean())))
    return RealScores(
        float(residual), _streaks(seen, result), _structure(seen, result), float(flicker), agreement
    )


def rain_direction(seen: View) -> tuple[float, float]:
    """Along which unit vector (x, y) the rain of a view falls, from the structure tensor of its light."""
    light = seen.light().mean(2)
    dx, dy = _gradient(light)
    xx, yy, xy = (float((a * b).sum()) for a, b in ((dx, dx), (dy, dy), (dx, dy)))
    across = 0.5 * np.arctan2(2 * xy, xx - yy)  # gradients point across streaks
    return float(-np.sin(across)), float(np.cos(across))


def _streaks(seen: View, result: Image) -> float:
    x, y = rain_direction(seen)

    def excess(image: Image) -> float:
        dx, dy = _gradient(_grey(image))
        along, across = (np.abs(g)[seen.valid].mean() for g in (x * dx + y * dy, y * dx - x * dy))
        return float(across / max(1e-3, along))

    return abs(excess(result) / max(1e-3, excess(seen.median)) - 1)


def _structure(seen: View, result: Image) -> float:
    rain = (seen.light().max(2) > _FAINT).astype(np.uint8)
    near = np.asarray(cv2.dilate(rain, np.ones((_AROUND_PX, _AROUND_PX), np.uint8)))
    dry = seen.valid & (near == 0)
    if dry.sum() < _FEWEST_PX:
        dry = seen.valid
    own, theirs = (np.stack(_gradient(_grey(one)))[:, dry] for one in (seen.frame, result))
    lost = np.abs(own - theirs).sum() / max(1e-3, float(np.abs(own).sum()))
    return float(max(0.0, 1 - lost))


def _gradient(grey: _Grey) -> tuple[_Grey, _Grey]:
    dx, dy = (cv2.Sobel(grey, cv2.CV_32F, *order, scale=1 / 8) for order in ((1, 0), (0, 1)))
    return np.asarray(dx, np.float32), np.asarray(dy, np.float32)


def _grey(image: Image) -> _Grey:
    return np.asarray(cv2.cvtColor(image, cv2.COLOR_RGB2GRAY), np.float32)
