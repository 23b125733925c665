"""A camera that does not move: neighbours are used as they are, except where things move by themselves.

Rain must not be taken for motion, of the camera or of things. The camera's motion is tested over all frames of a
clip together: rain may feign a motion between two frames, but the next frame undoes it. The noise of the scene
distinguishes things from rain: where most of the scene is still to the last code value, whatever changes is a thing.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np

from vderain.alignment.camera import Values, first_step
from vderain.alignment.thumbnails import Grey, Thumbnail

# Pixels of thumbnails; one of them is 4 pixels of a frame of 720 lines.
_STILL_PX = 0.05  # motion up to which a camera without noise stands still
_NOISY_PX = 0.3  # added to that, times the ratio of noise to contrast
_MOST_STILL_PX = 0.17  # the largest such motion, however noisy the scene
_MOST_TURNING_PX = 0.1  # of shift gained across half the width; rain does not feign it
_CONTRAST_PX = 15  # side of the neighbourhood; contrast is the difference to its mean
_QUIET_SHARE = 0.75  # of an image's differences, the smallest: noise and rain rather than things

# Differences in 8-bit code values. A pair is a threshold without noise, and what each code value of noise adds.
_ROUNDING = 0.2  # of samples
_BRIGHTER = (3.0, 3.0)  # a neighbour is brighter
_FADES = (3.0, 2.0)  # the current brightness ends with this frame
_DARKER = (4.0, 60.0)  # a neighbour is darker, and the current brightness lasts
_SPIKE = (4.0, 300.0)  # a neighbour is darker, and the current brightness lasts for one frame
_MAX_THRESHOLD = 45.0  # a larger change is a thing, or the widest of drops
_QUIET_NOISE = 0.1  # up to which the surroundings of what moves are hidden too


@dataclass(frozen=True, slots=True, eq=False)
class Shift:
    """The camera's motion between two frames, estimated in two ways.

    Attributes:
        sharp: (2,) the shift between the thumbnails, in their pixels: exact for small shifts.
        blurred: (6,) the affine motion between their blurred halves, in pixels of these.
        noise: ratio of the mean difference to the mean contrast.

    """

    sharp: Values
    blurred: Values
    noise: float


def shift_between(earlier: Thumbnail, later: Thumbnail) -> Shift:
    """How far the camera may have moved."""
    sharp = first_step(earlier.image, later.image, every_px=2, affine=False)
    blurred = first_step(earlier.fine, later.fine, every_px=2, affine=True)
    around = cv2.blur(earlier.fine, (_CONTRAST_PX, _CONTRAST_PX))
    contrast = float(cv2.mean(cv2.absdiff(earlier.fine, around))[0])
    noise = (blurred.residual + _ROUNDING) / max(contrast, _ROUNDING)
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
    brighter = _above(cv2.subtract(neighbour.fine, current.fine), _at(_BRIGHTER, noise))
    darker = np.asarray(cv2.subtract(current.coarse, neighbour.coarse), np.uint8)
    spike = _at(_SPIKE, noise)
    found = cv2.bitwise_or(brighter, _above(darker, spike))
    if nearest:
        brightest = nearest[0].fine if len(nearest) == 1 else cv2.max(*(n.fine for n in nearest))
        fades = _above(cv2.subtract(current.fine, brightest), _at(_FADES, noise))
        lasting = cv2.bitwise_and(_above(darker, _at(_DARKER, noise)), cv2.bitwise_not(fades))
        found = cv2.bitwise_or(found, lasting)
    if noise < _QUIET_NOISE:
        found = cv2.dilate(found, np.ones((3, 3), np.uint8))
    return np.asarray(found, np.uint8).reshape(current.fine.shape)


def _quiet_mean(difference: object) -> float:
    """The mean of the smallest three quarters of an image's differences."""
    counts = np.bincount(np.asarray(difference, np.uint8).ravel(), minlength=256)
    left = np.minimum(np.cumsum(counts), _QUIET_SHARE * counts.sum())
    return float(np.diff(left, prepend=0) @ np.arange(256)) / max(float(left[-1]), 1.0)


def _at(threshold: tuple[float, float], noise: float) -> float:
    return min(threshold[0] + threshold[1] * noise, _MAX_THRESHOLD)


def _above(difference: object, threshold: float) -> Grey:
    _, found = cv2.threshold(
        np.asarray(difference, np.uint8), min(threshold, 254), 255, cv2.THRESH_BINARY
    )
    return np.asarray(found, np.uint8)
