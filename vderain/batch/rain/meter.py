"""Scores the rain of a frame from the frame and its neighbours in time; cheap, and needs no torch."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt

from vderain.frames import Frame, Plane, PlaneFormat

Luma = npt.NDArray[np.uint8]  # (h, w)

UNKNOWN = float("nan")
_MOST = 10.0
_LINES = 720
_MOST_PX = 130_000  # of luma; limits the time
_BAND_PX = 24
_THIN = np.ones((1, 9), np.uint8)  # narrower structures may be streaks
_NOTHING = np.log(
    0.02 + 0.056
)  # 0.056 code values: less than in any measured frame with visible streaks
# Logistic regression on one half of the clips of benchmarks/rain_detector. Features: thin brightness and thin
# darkness in one frame only, both in any frame, brightness minus darkness where it is large (all five as
# logarithms), the contrast there, and how much each is of one direction.
_WEIGHTS = np.array([0.042, 0.289, 0.334, 0.46, 0.789, 5.414, 5.33, -2.149])
_BIAS = 0.613
_MOST_REPEATS = 5  # of a frame; with more, the scene does not move


@dataclass(slots=True)
class _Seen:
    """A frame that waits for its score."""

    luma: Luma
    format: PlaneFormat
    score: float | None = None
    repeats: int = 0  # frames after it with the same image


class RainMeter:
    """Scores frames; keeps at most two of them.

    A score needs the frame before and the one after. The first and the last frame of a scene, and repeated
    frames, get their neighbour's score; scenes of fewer than three frames have NaN.
    """

    def measure(self, frames: Iterable[Frame]) -> Iterator[float]:
        """A score for each frame, in order, up to a few frames later; rain begins at 1.

        Scores are 0 and more; NaN where none can be computed.
        """
        seen: deque[_Seen] = deque()
        for frame in frames:
            fresh = _Seen(luma_bands(frame), frame.format)
            if seen and (frame.discontinuity or frame.name or fresh.format != seen[-1].format):
                yield from _ended(seen)
            elif seen and _same(seen[-1], fresh):
                seen[-1].repeats += 1
                continue
            seen.append(fresh)
            if len(seen) == 3:
                score = rain_score(seen[0].luma, seen[1].luma, seen[2].luma)
                seen[1].score = score
                yield from _scored(seen.popleft(), score)
        yield from _ended(seen)


def _same(last: _Seen, fresh: _Seen) -> bool:
    return last.repeats < _MOST_REPEATS and np.array_equal(last.luma, fresh.luma)


def _scored(seen: _Seen, otherwise: float) -> Iterator[float]:
    score = otherwise if seen.score is None else seen.score
    yield from (score,) * (1 + seen.repeats)


def _ended(seen: deque[_Seen]) -> Iterator[float]:
    """The scores of the last two frames of a scene."""
    known = next((one.score for one in seen if one.score is not None), UNKNOWN)
    while seen:
        yield from _scored(seen.popleft(), known)


def luma_bands(frame: Frame) -> Luma:
    """The luma that is scored (of RGB: green): 8 bit, upright, some of its rows.

    It has at most 720 lines, where streaks are a few pixels wide; of larger images only bands are used.
    """
    plane: Plane = frame.planes[1] if frame.format.layout == "rgb" else frame.planes[0]
    if frame.rotation % 360:
        plane = np.rot90(plane, frame.rotation // 90)
    scale = _LINES / min(plane.shape)
    if scale < 1:
        size = (round(plane.shape[1] * scale), round(plane.shape[0] * scale))
        plane = np.asarray(cv2.resize(plane, size, interpolation=cv2.INTER_AREA))
    apart = max(1, round(plane.size / _MOST_PX))
    bands = [plane[top : top + _BAND_PX] for top in range(0, plane.shape[0], apart * _BAND_PX)]
    image = np.concatenate(bands)  # a copy: the decoder may use its planes again
    if frame.format.bit_depth > 8:
        image >>= frame.format.bit_depth - 8
    return image.astype(np.uint8, copy=False)


def rain_score(before: Luma, current: Luma, after: Luma) -> float:
    """The score of the middle one of three images of one size, 0 to 10."""
    seen = evidence(before, current, after)
    if seen[0] <= _NOTHING:
        return 0.0
    return float(np.exp(np.clip((seen @ _WEIGHTS + _BIAS) / 2, -9.0, np.log(_MOST))))


def evidence(before: Luma, current: Luma, after: Luma) -> npt.NDArray[np.float64]:
    """The features of the score, (8,): see ``_WEIGHTS``.

    Rain brightens, whereas noise, compression and moving things darken as often. So thin brightness that is in
    one frame only is compared with thin darkness in one frame only, over the whole image and in those
    quarters of it where the background shows rain best.
    """
    opened, closed = (
        cv2.morphologyEx(current, how, _THIN) for how in (cv2.MORPH_OPEN, cv2.MORPH_CLOSE)
    )
    thin = [cv2.subtract(current, opened), cv2.subtract(closed, current)]
    bright = cv2.min(cv2.subtract(current, cv2.max(before, after)), thin[0])
    dark = cv2.min(cv2.subtract(cv2.min(before, after), current), thin[1])
    places = [
        cv2.resize(one, (12, 6), interpolation=cv2.INTER_AREA) for one in _as_float(bright, dark)
    ]
    more = places[0] - places[1]
    much = float(np.percentile(more, 75))
    share = float(np.percentile(more / (places[0] + places[1] + 0.05), 75))
    means = [cv2.mean(one)[0] for one in (bright, dark, *thin)]
    logs = np.log(np.maximum([*means, much], 0) + 0.02)
    return np.array([*logs, share, _one_way(bright), _one_way(dark)])


def _as_float(*images: Any) -> list[npt.NDArray[np.float32]]:
    return [np.asarray(one, np.float32) for one in images]


def _one_way(image: Any) -> float:
    """How much the edges of an image share one direction, 0 to 1."""
    dx, dy = cv2.spatialGradient(cv2.blur(image, (3, 3)))
    dx, dy = (one.ravel() for one in _as_float(dx, dy))
    xx, yy, xy = float(dx @ dx), float(dy @ dy), float(dx @ dy)
    return float(np.hypot(xx - yy, 2 * xy) / (xx + yy + 1e-3))
