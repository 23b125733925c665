"""Turns the scores of all frames of a clip into spans to derain; needs no torch.

Missed rain stays in the footage, whereas deraining a dry part only costs time. So doubtful frames count as wet,
and thresholds are set for recall (`benchmarks/rain_detector`).
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from vderain.batch.rain.meter import RainMeter
from vderain.clips import upright_clip
from vderain.errors import OptionError
from vderain.frames import Clip, Frame
from vderain.interfaces import Engine

Scores = npt.NDArray[np.float32]  # (N,)
Flags = npt.NDArray[np.bool_]  # (N,)

WET_FROM = 1.0  # a span of rain begins at this score
_RELEASE = 0.8  # times the threshold: a span ends below this score
_SMOOTHED_S = 1.0
_MARGIN_S = 1.0  # added on both sides of rain
_SHORTEST_DRY_S = 4.0  # shorter dry parts between rain are derained too
_SURELY_WET = 2.3  # from this score on the network is not asked
_ASKED_EVERY_S = 2.0
_OPINION_REACH_S = 3.0  # an opinion counts for frames at most this far away
DRY_CHANGE = 0.3  # largest mean change of a dry frame's luma by the network, in 8-bit code values
_HELD = 16  # frames, since scores come later than their frames


@dataclass(frozen=True, slots=True)
class Opinion:
    """The network's opinion of one frame: how much rain it removes, on the scale of scores."""

    pts: int
    score: float


@dataclass(frozen=True, slots=True, eq=False)
class RainTimeline:
    """Rain over the length of a clip.

    Attributes:
        pts: of every frame, ascending, in ``time_base`` units.
        time_base: seconds per unit.
        scores: (N,) float32, more is more rain; rain begins at 1. NaN where no score can be computed, as for a
        clip of two frames.
        opinions: of the network, where it was asked; they override doubtful scores.

    """

    pts: tuple[int, ...]
    time_base: Fraction
    scores: Scores
    opinions: tuple[Opinion, ...] = ()

    def __post_init__(self) -> None:
        if len(self.pts) != len(self.scores):
            raise OptionError(f"{len(self.pts)} times for {len(self.scores)} scores of rain")

    @property
    def step(self) -> int:
        """The usual distance between frames, in ``time_base`` units; 1 at least."""
        return max(1, int(np.median(np.diff(self.pts)))) if len(self.pts) > 1 else 1

    @property
    def duration_s(self) -> float:
        """Seconds from the first frame to the end of the last."""
        if not self.pts:
            return 0.0
        return float((self.pts[-1] + self.step - self.pts[0]) * self.time_base)

    def smoothed(self, window_s: float = _SMOOTHED_S) -> Scores:
        """The median of the scores around each frame; NaN where all of them are NaN."""
        if not len(self.scores):
            return self.scores
        reach = min(self._frames_in(window_s) // 2, len(self.scores) - 1)
        padded = np.pad(self.scores, reach, constant_values=np.nan)
        windows = np.sort(np.lib.stride_tricks.sliding_window_view(padded, 2 * reach + 1), axis=1)
        known = (~np.isnan(windows)).sum(1)  # NaN sorts last
        rows = np.arange(len(windows))
        low, high = np.maximum(known - 1, 0) // 2, known // 2
        middle = (windows[rows, low] + windows[rows, np.minimum(high, 2 * reach)]) / 2
        return np.where(known > 0, middle, np.nan).astype(np.float32)

    def wet(self, threshold: float = WET_FROM) -> Flags:
        """For every frame, whether to derain it: (N,) bool.

        Rain begins at ``threshold`` and ends below 0.8 times that. It is widened by a second on both sides, dry
        parts of less than four seconds between rain count as rain, and so do frames without a score.
        """
        if not self.pts:
            return np.zeros(0, np.bool_)
        scores = self.smoothed()
        unknown = np.isnan(scores)
        wet = _with_hysteresis(np.where(unknown, np.inf, scores), threshold)
        wet &= ~self._dry_by_opinion(scores, threshold)
        times_s = np.asarray(self.pts, np.float64) * float(self.time_base)
        wet = _widened(wet, times_s, _MARGIN_S)
        return _without_short_dry(wet, times_s, _SHORTEST_DRY_S)

    def wet_spans(self, threshold: float = WET_FROM) -> list[tuple[int, int]]:
        """Spans to derain, (first pts, pts after the last), in order."""
        ends = (*self.pts[1:], self.pts[-1] + self.step) if self.pts else ()
        return [(self.pts[first], ends[last]) for first, last in _runs(self.wet(threshold))]

    def wet_share(self, threshold: float = WET_FROM) -> float:
        """The share of frames that are derained, 0 to 1."""
        return float(self.wet(threshold).mean()) if self.pts else 0.0

    def to_dict(self) -> dict[str, Any]:
        """Values for JSON; `from_dict` reads them."""
        return {
            "time_base": [self.time_base.numerator, self.time_base.denominator],
            "pts": list(self.pts),
            "scores": [None if np.isnan(s) else round(float(s), 4) for s in self.scores],
            "opinions": [[o.pts, round(o.score, 4)] for o in self.opinions],
        }

    @classmethod
    def from_dict(cls, entry: dict[str, Any]) -> RainTimeline:
        """Raises OptionError where this is not what `to_dict` made."""
        try:
            scores = [np.nan if s is None else float(s) for s in entry["scores"]]
            return cls(
                tuple(int(pts) for pts in entry["pts"]),
                Fraction(*map(int, entry["time_base"])),
                np.asarray(scores, np.float32),
                tuple(Opinion(int(pts), float(score)) for pts, score in entry["opinions"]),
            )
        except (KeyError, TypeError, ValueError, ZeroDivisionError) as error:
            raise OptionError(f"this is no timeline of rain: {error!r}") from error

    def _frames_in(self, span_s: float) -> int:
        return max(1, round(span_s / (self.step * float(self.time_base))))

    def _dry_by_opinion(self, scores: Scores, threshold: float) -> Flags:
        """Frames with a doubtful score for which every opinion near in time is dry."""
        dry = np.zeros(len(scores), np.bool_)
        if not self.opinions:
            return dry
        times_s = np.asarray(self.pts, np.float64) * float(self.time_base)
        asked_s = np.array([o.pts for o in self.opinions]) * float(self.time_base)
        is_wet = np.array([o.score >= 1 for o in self.opinions])
        doubtful = scores < _SURELY_WET * threshold / WET_FROM
        for index in np.flatnonzero(doubtful):
            near = np.abs(asked_s - times_s[index]) <= _OPINION_REACH_S
            dry[index] = near.any() and not is_wet[near].any()
        return dry


def rain_timeline(frames: Iterable[Frame], *, engine: Engine | None = None) -> RainTimeline:
    """Measure the rain of every frame of a clip; reads all frames and keeps two or three in memory.

    ``engine`` gives a second opinion on doubtful frames, at most one in two seconds; the caller closes it.
    Raises what the engine raises.
    """
    pts: list[int] = []
    scores: list[float] = []
    opinions: list[Opinion] = []
    base = Fraction(1)
    held: deque[Frame] = deque(maxlen=_HELD)

    def noted() -> Iterator[Frame]:
        nonlocal base
        for frame in frames:
            base = frame.time_base
            pts.append(frame.pts)
            held.append(frame)
            yield frame

    asked_s = -math.inf
    for score in RainMeter().measure(noted()):
        behind = len(pts) - len(scores)  # frames that were read since this one
        scores.append(score)
        if engine is None or behind > len(held) or not is_doubtful(score):
            continue
        frame = held[-behind]
        if frame.time_s - asked_s >= _ASKED_EVERY_S:
            asked_s = frame.time_s
            opinions.append(Opinion(frame.pts, second_opinion(frame, engine)))
    return RainTimeline(tuple(pts), base, np.asarray(scores, np.float32), tuple(opinions))


def is_doubtful(score: float) -> bool:
    """Whether the network is asked about a frame with this score."""
    return WET_FROM <= score < _SURELY_WET


def second_opinion(frame: Frame, engine: Engine) -> float:
    """How much the network changes a frame's luma (of RGB: green); rain begins at 1.

    Brighter and darker count alike, in any shape: on doubtful frames no other measure tried separates rain
    from moving edges better than this mean.
    """
    clip = upright_clip(frame, engine.window.seen_frames)
    return mean_change(frame, clip, engine) / DRY_CHANGE


def mean_change(frame: Frame, clip: Clip, engine: Engine) -> float:
    """Mean |change| of a frame's luma (of RGB: green) by the network that sees this clip, in 8-bit code values."""
    change = engine.change(clip).result()
    luma = change[1] if frame.format.layout == "rgb" else change[0]
    return float(np.abs(luma).mean()) / (1 << (frame.format.bit_depth - 8))


class Gop(Protocol):
    """Frames whose packets can be copied without others: those shown from one cut to the next."""

    @property
    def start_pts(self) -> int:
        """Time of the first frame shown, in the timeline's time base."""

    @property
    def end_pts(self) -> int:
        """First time of the next GOP."""


def dry_gops(
    timeline: RainTimeline, gops: Sequence[Gop], threshold: float = WET_FROM
) -> list[bool]:
    """For every GOP, whether all of its frames are dry; False without frames in the timeline."""
    wet = timeline.wet(threshold)
    pts = np.asarray(timeline.pts, np.int64)
    dry = []
    for gop in gops:
        first, end = np.searchsorted(pts, [gop.start_pts, gop.end_pts])
        dry.append(bool(end > first and not wet[first:end].any()))
    return dry


def _with_hysteresis(scores: npt.NDArray[Any], threshold: float) -> Flags:
    """True from the frame that reaches the threshold until scores fall below the release, in both directions."""
    above = scores >= threshold
    held = scores >= _RELEASE * threshold
    wet = np.zeros(len(scores), np.bool_)
    for first, last in _runs(held):
        wet[first : last + 1] = above[first : last + 1].any()
    return wet


def _widened(wet: Flags, times_s: npt.NDArray[np.float64], margin_s: float) -> Flags:
    result = wet.copy()
    for first, last in _runs(wet):
        start = np.searchsorted(times_s, times_s[first] - margin_s, side="left")
        end = np.searchsorted(times_s, times_s[last] + margin_s, side="right")
        result[start:end] = True
    return result


def _without_short_dry(wet: Flags, times_s: npt.NDArray[np.float64], shortest_s: float) -> Flags:
    """Dry parts between rain that are too short count as wet; those at the ends of a clip stay dry."""
    result = wet.copy()
    for first, last in _runs(~wet):
        inside = first > 0 and last < len(wet) - 1
        if inside and times_s[last + 1] - times_s[first] < shortest_s:
            result[first : last + 1] = True
    return result


def _runs(flags: Flags) -> list[tuple[int, int]]:
    """(first, last) of every stretch of True."""
    edges = np.flatnonzero(np.diff(np.concatenate(([False], flags, [False])).astype(np.int8)))
    return [(int(a), int(b) - 1) for a, b in zip(edges[::2], edges[1::2], strict=True)]
