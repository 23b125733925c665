"""How much it rains in a frame, from the frame and its neighbours in time; torch-free and cheap."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import cv2
import numpy as np

from vderain.frames import Frame, Plane, PlaneFormat

Luma = np.typing.NDArray[np.uint8]  # (h, w)

UNKNOWN = float("nan")
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

        0 and more; NaN where nothing can be told.
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
    """The luma (of RGB: the green), 8 bit, upright: what the score looks at."""
    plane: Plane = frame.planes[1] if frame.format.layout == "rgb" else frame.planes[0]
    if frame.format.bit_depth > 8:
        plane = (plane >> (frame.format.bit_depth - 8)).astype(np.uint8)
    if frame.rotation % 360:
        plane = np.rot90(plane, frame.rotation // 90)
    return np.array(plane, np.uint8)  # a copy: the decoder may use its planes again


def rain_score(before: Luma, current: Luma, after: Luma) -> float:
    """How much thin brightness is in one frame only."""
    rain = cv2.subtract(current, cv2.max(before, after))
    dark = cv2.subtract(cv2.min(before, after), current)
    return max(0.0, float(rain.mean()) - float(dark.mean()))
