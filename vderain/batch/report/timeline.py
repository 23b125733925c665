"""A plot of a clip's rain over time, as SVG, with the parts that were copied."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from vderain.batch.rain.detector import WET_FROM, RainTimeline
from vderain.pages import render
from vderain.pages.plots import Axes

_SIZE = (720, 170)
_MARGINS = {"left": 44, "right": 12, "top": 26, "bottom": 54}
_MOST_POINTS = 660  # of the curve: one for each pixel of the width
_MOST_SCORE = 3.0  # at the upper edge, in thresholds


def timeline_svg(
    timeline: RainTimeline,
    spans_copied: Sequence[tuple[int, int]],
    duration_s: float,
    *,
    threshold: float = WET_FROM,
    title: str = "",
) -> str:
    """One self-contained SVG, for light and dark pages.

    Args:
        timeline: the clip's rain.
        spans_copied: (first pts, pts after the last) of parts copied as packets, in the timeline's time base.
        duration_s: of the clip, for the axis; the timeline's where that is longer.
        threshold: the score from which rain is derained.
        title: of the image, the clip's name.

    """
    drawing = _Drawing(timeline, max(duration_s, timeline.duration_s, 1e-3), threshold)
    return render(
        "timeline.svg",
        axes=drawing.axes,
        label=f"{title}: " if title else "",
        share=timeline.wet_share(threshold),
        limit=drawing.axes.y(1.0),
        wet=[drawing.bar(span) for span in timeline.wet_spans(threshold)],
        copied=[drawing.bar(span) for span in spans_copied],
        curve=drawing.curve(),
        ticks=drawing.ticks(),
    )


class _Drawing:
    """Coordinates of times and scores; scores are in thresholds."""

    def __init__(self, timeline: RainTimeline, duration_s: float, threshold: float) -> None:
        self.axes = Axes(*_SIZE, (0.0, duration_s), (0.0, _MOST_SCORE), **_MARGINS)
        self._timeline, self._duration_s, self._threshold = timeline, duration_s, threshold
        self._first = timeline.pts[0] if timeline.pts else 0

    def seconds(self, pts: float) -> float:
        """Seconds since the beginning, within the clip."""
        seconds = (pts - self._first) * float(self._timeline.time_base)
        return min(max(seconds, 0.0), self._duration_s)

    def bar(self, span: tuple[int, int]) -> tuple[float, float]:
        """Left end and width of a span of times."""
        left, right = (self.axes.x(self.seconds(pts)) for pts in span)
        return left, right - left

    def curve(self) -> list[str]:
        """Lines through the smoothed scores; each pixel shows the highest of its frames. Gaps where unknown."""
        scores = self._timeline.smoothed()
        lines: list[list[tuple[float, float]]] = [[]]
        for part in np.array_split(np.arange(len(scores)), min(len(scores), _MOST_POINTS) or 1):
            known = part[~np.isnan(scores[part])]
            if not len(known):
                lines.append([])
                continue
            score = min(float(scores[known].max()) / self._threshold, _MOST_SCORE)
            lines[-1].append((self.seconds(self._timeline.pts[int(known[0])]), score))
        return [self.axes.path(line) for line in lines if line]

    def ticks(self) -> list[tuple[float, str]]:
        """About six times, as labels of the axis."""
        steps = (0.1, 0.5, 1, 2, 5, 10, 30, 60, 120, 300, 600, 1800, 3600)
        step = next((s for s in steps if self._duration_s / s <= 7), self._duration_s / 6)
        return [
            (self.axes.x(n * step), _clock(n * step))
            for n in range(int(self._duration_s / step) + 1)
        ]


def _clock(seconds: float) -> str:
    if seconds < 60:
        return f"{seconds:g} s"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"
