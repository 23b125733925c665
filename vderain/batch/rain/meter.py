"""How much it rains in a frame, from the frame and its neighbours in time; torch-free and cheap."""

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
_MOST_PX = 130_000  # of them: what the time allows
_BAND_PX = 24
_THIN = np.ones((1, 9), np.uint8)  # what is narrower than this from side to side may be a streak
_NOTHING = np.log(
    0.02 + 0.056
)  # 0.056 code values: less than in any measured frame with visible streaks
# Logistic regression on one half of the clips of benchmarks/rain_detector: thin brightness and darkness in one frame
# only, thin brightness and darkness at all, brightness less darkness where it is large (all five as
# logarithms), their contrast there, and how much each is of one direction.
_WEIGHTS = np.array([0.042, 0.289, 0.334, 0.46, 0.789, 5.414, 5.33, -2.149])
_BIAS = 0.613
_MOST_REPEATS = 5  # of a frame, shown again: more, and nothing moves there


@dataclass(slots=True)
class _Seen:
    """A frame whose score is waited for."""

    luma: Luma
    format: PlaneFormat
    score: float | None = None
    repeats: int = 0  # frames after it that show the same


class RainMeter:
    """Scores frames; holds two of them at most.

    A score needs the frame before and the one after. The first and the last frame of a scene take their
    neighbour's, as do frames that are shown again; scenes of fewer than three frames have NaN.
    """

    def measure(self, frames: Iterable[Frame]) -> Iterator[float]:
        """A score for each frame, in order, up to a few frames later; 1 is where rain is taken to begin.

        0 and more; NaN where it is unknown.
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
                yield from _told(seen.popleft(), score)
        yield from _ended(seen)


def _same(last: _Seen, fresh: _Seen) -> bool:
    return last.repeats < _MOST_REPEATS and np.array_equal(last.luma, fresh.luma)


def _told(seen: _Seen, otherwise: float) -> Iterator[float]:
    score = otherwise if seen.score is None else seen.score
    yield from (score,) * (1 + seen.repeats)


def _ended(seen: deque[_Seen]) -> Iterator[float]:
    """The scores of the last two frames of a scene."""
    known = next((one.score for one in seen if one.score is not None), UNKNOWN)
    while seen:
        yield from _told(seen.popleft(), known)


def luma_bands(frame: Frame) -> Luma:
    """What the score looks at: luma (of RGB: green), 8 bit, upright, some of its rows.

    At most 720 lines, since streaks are a few pixels wide there, and of many only bands: rain is everywhere.
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
    """The score of the middle one of three images of one size; 0 to 10."""
    seen = evidence(before, current, after)
    if seen[0] <= _NOTHING:
        return 0.0
    return float(np.exp(np.clip((seen @ _WEIGHTS + _BIAS) / 2, -9.0, np.log(_MOST))))


def evidence(before: Luma, current: Luma, after: Luma) -> npt.NDArray[np.float64]:
    """What the score is made of, (8,): see ``_WEIGHTS``.

    Rain brightens; noise, compression and things that move darken as much. So thin brightness that is in
    one frame only is held against thin darkness that is, all over the image, and in its upper quarter of
    places, where the background lets rain be seen.
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
    levels = [cv2.mean(one)[0] for one in (bright, dark, *thin)]
    logs = np.log(np.maximum([*levels, much], 0) + 0.02)
    return np.array([*logs, share, _one_way(bright), _one_way(dark)])


def _as_float(*images: Any) -> list[npt.NDArray[np.float32]]:
    return [np.asarray(one, np.float32) for one in images]


def _one_way(image: Any) -> float:
    """How much the edges of an image agree in their direction, 0 to 1."""
    dx, dy = cv2.spatialGradient(cv2.blur(image, (3, 3)))
    dx, dy = (one.ravel() for one in _as_float(dx, dy))
    xx, yy, xy = float(dx @ dx), float(dy @ dy), float(dx @ dy)
    return float(np.hypot(xx - yy, 2 * xy) / (xx + yy + 1e-3))
