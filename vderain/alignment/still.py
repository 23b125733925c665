"""A camera that does not move: neighbours are used as they are, except where things move by themselves.

Rain must not pass for motion, of the camera or of things. The camera's motion is tested over all frames of a clip
together, since that which rain feigns between two frames is undone by the next. Things are told from rain by the
noise of the scene: where most of it is still to the last code value, whatever changes is a thing.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np

from vderain.alignment.camera import Values, first_step
from vderain.alignment.thumbnails import Grey, Thumbnail

# Of thumbnails' pixels: a thumbnail's is 4 pixels of 720 lines.
_STILL_PX = 0.05  # of motion that counts as none in a scene without noise
_NOISY_PX = 0.3  # more of it for each part of the noise in the contrast
_MOST_STILL_PX = 0.17
_MOST_TURNING_PX = 0.1  # gained across half the width: rain does not feign it
_CONTRAST_PX = 15  # the neighbourhood whose mean a contrast is taken to
_QUANTISED_LEVELS = 0.2
_QUIET_SHARE = 0.75  # of a picture, whose differences are noise and rain rather than things

_BRIGHTER_LEVELS = (3.0, 3.0)  # a neighbour is brighter by, and for each code value of noise
_STAYS_LEVELS = (3.0, 2.0)  # a brightness lasts into the next frame
_DARKER_LEVELS = (4.0, 60.0)  # a neighbour is darker, and the current brightness lasts
_SPIKE_LEVELS = (
    4.0,
    300.0,
)  # a neighbour is darker, and the current brightness is that of one frame
_MOST_LEVELS = 45.0  # of these thresholds: beyond it a change is a thing, or the widest of drops
_QUIET_LEVELS = 0.1  # of noise, up to which the surroundings of what moves are hidden too


@dataclass(frozen=True, slots=True, eq=False)
class Shift:
    """What two frames say of the camera's motion between them.

    Attributes:
        sharp: (2,) the shift by the thumbnails, in pixels of theirs: exact, for small shifts.
        blurred: (6,) the affine motion by blurred halves of them, in pixels of theirs.
        noise: mean difference over mean contrast.

    """

    sharp: Values
    blurred: Values
    noise: float


def shift_between(earlier: Thumbnail, later: Thumbnail) -> Shift:
    """How far the camera may have moved."""
    sharp = first_step(earlier.picture, later.picture, every_px=2, affine=False)
    blurred = first_step(earlier.fine, later.fine, every_px=2, affine=True)
    around = cv2.blur(earlier.fine, (_CONTRAST_PX, _CONTRAST_PX))
    contrast = float(cv2.mean(cv2.absdiff(earlier.fine, around))[0])
    noise = (blurred.residual + _QUANTISED_LEVELS) / max(contrast, _QUANTISED_LEVELS)
    return Shift(sharp.move, blurred.move, noise)


def is_still(shifts: Sequence[Shift]) -> bool:
    """Whether the camera stood still over consecutive frames."""
    if not shifts:
        return False
    sizes = [np.hypot(*s.sharp) + np.hypot(*s.blurred[:2]) for s in shifts]
    turning = np.linalg.norm(np.mean([s.blurred[2:] for s in shifts], 0))
    noise = float(np.mean([s.noise for s in shifts]))
    allowed = min(_STILL_PX + _NOISY_PX * noise, _MOST_STILL_PX)
    return bool(turning < _MOST_TURNING_PX and np.mean(sizes) + 0.25 * turning < allowed)


def moving(current: Thumbnail, neighbour: Thumbnail, nearest: Sequence[Thumbnail]) -> Grey:
    """255 where a neighbour of a still camera shows another thing than the current frame, on the halves' grid.

    ``nearest`` are the frames right before and after the current one, as far as they are known.
    """
    noise = _quiet_mean(cv2.absdiff(current.fine, neighbour.fine))
    brighter = _above(cv2.subtract(neighbour.fine, current.fine), _at(_BRIGHTER_LEVELS, noise))
    darker = np.asarray(cv2.subtract(current.coarse, neighbour.coarse), np.uint8)
    spike = _at(_SPIKE_LEVELS, noise)
    found = cv2.bitwise_or(brighter, _above(darker, spike))
    if nearest:
        brightest = nearest[0].fine if len(nearest) == 1 else cv2.max(*(n.fine for n in nearest))
        fades = _above(cv2.subtract(current.fine, brightest), _at(_STAYS_LEVELS, noise))
        lasting = cv2.bitwise_and(
            _above(darker, _at(_DARKER_LEVELS, noise)), cv2.bitwise_not(fades)
        )
        found = cv2.bitwise_or(found, lasting)
    if noise < _QUIET_LEVELS:
        found = cv2.dilate(found, np.ones((3, 3), np.uint8))
    return np.asarray(found, np.uint8).reshape(current.fine.shape)


def _quiet_mean(difference: object) -> float:
    """The mean of the smallest three quarters of a picture's differences."""
    counts = np.bincount(np.asarray(difference, np.uint8).ravel(), minlength=256)
    left = np.minimum(np.cumsum(counts), _QUIET_SHARE * counts.sum())
    return float(np.diff(left, prepend=0) @ np.arange(256)) / max(float(left[-1]), 1.0)


def _at(levels: tuple[float, float], noise: float) -> float:
    return min(levels[0] + levels[1] * noise, _MOST_LEVELS)


def _above(difference: object, levels: float) -> Grey:
    _, found = cv2.threshold(
        np.asarray(difference, np.uint8), min(levels, 254), 255, cv2.THRESH_BINARY
    )
    return np.asarray(found, np.uint8)
