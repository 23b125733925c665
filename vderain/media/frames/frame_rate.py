"""The frame rate of a video: the announced one where it can be believed, else measured by the times of frames.

``VideoSource`` decides by this; the output is written with the rate of its source.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Sequence
from fractions import Fraction
from itertools import pairwise
from statistics import median
from typing import Any

MEASURED_FRAMES = 120  # at the beginning, whose distances give the rate
_REORDER = 16  # of these frames, the latest may lack earlier ones
_FASTEST = 120  # frames per second; a higher announced rate is measured
# A camera's rate is not measured, so a wider range is believed than of a file.
_SLOWEST_CAMERA, _FASTEST_CAMERA = Fraction(1, 10), 240  # frames per second
_USUAL_RATES = tuple(
    sorted(
        {
            *map(Fraction, (1, 2, 5, 8, 10, 12, 15, 20, 24, 25, 30, 48, 50, 60, 100, 120, 240)),
            *(Fraction(rate * 1000, 1001) for rate in (24, 30, 48, 60, 120)),
        }
    )
)
_PAUSE = 3  # usual distances; a longer one is not that of two consecutive frames
_NEAR_USUAL = Fraction(1, 40)


def believable_rate(stream: Any) -> Fraction | None:
    """The frame rate that a container announces; None without one, or where that is its time base."""
    rate = stream.average_rate or stream.guessed_rate
    return Fraction(rate) if rate and rate <= _FASTEST else None


def believable_camera_rate(stream: Any) -> Fraction | None:
    """The frame rate that a camera announces; None without one, or where it cannot be true."""
    rate = stream.average_rate or stream.guessed_rate
    return Fraction(rate) if rate and _SLOWEST_CAMERA < rate <= _FASTEST_CAMERA else None


def rate_of(times: Sequence[int], time_base: Fraction) -> Fraction | None:
    """Frames per second by the usual distance of frames, rounded to a usual rate where that is near."""
    steps = [b - a for a, b in pairwise(sorted(times)) if b > a]
    if not steps:
        return None
    most = _PAUSE * median(steps)
    regular = [step for step in steps if step <= most]
    rate = len(regular) / (sum(regular) * time_base)
    place = bisect_left(_USUAL_RATES, rate)
    near = min(_USUAL_RATES[max(0, place - 1) : place + 1], key=lambda usual: abs(usual - rate))
    return near if abs(near - rate) <= rate * _NEAR_USUAL else rate.limit_denominator(1001)


def rate_of_first(times: Sequence[int], time_base: Fraction) -> Fraction | None:
    """``rate_of`` the first frames; ``times`` are in the order of decoding."""
    first = sorted(times[:MEASURED_FRAMES])
    return rate_of(first[:-_REORDER] if len(first) == MEASURED_FRAMES else first, time_base)
