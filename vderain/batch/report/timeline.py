"""A picture of a clip's rain over time, as SVG: where it rained, and what was copied untouched."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape

import numpy as np

from vderain.batch.rain.detector import WET_FROM, RainTimeline

_WIDTH, _HEIGHT = 720, 170
_LEFT, _RIGHT, _TOP, _BOTTOM = 44, 708, 26, 116
_COPIED_Y = 140
_MOST_POINTS = 660  # of the curve: one for each pixel across
_MOST_SCORE = 3.0  # at the upper edge, in thresholds
_STYLE = """
text{font:11px sans-serif;fill:#333}
.back{fill:#fff}.axis{stroke:#888}.rain{fill:none;stroke:#1565c0;stroke-width:1.5}
.limit{stroke:#c62828;stroke-dasharray:4 3}.wet{fill:#90caf9;fill-opacity:.5}.copied{fill:#2e7d32}.done{fill:#90a4ae}
@media (prefers-color-scheme:dark){text{fill:#ddd}.back{fill:#16181c}.rain{stroke:#64b5f6}
.limit{stroke:#ef9a9a}.wet{fill:#1e4f80}.copied{fill:#81c784}.done{fill:#546e7a}}
"""


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
        spans_copied: (first pts, pts after the last) of what was copied as packets, in its time base.
        duration_s: of the clip, for the axis; the timeline's where that is longer.
        threshold: the score from which it was taken to rain.
        title: of the picture, the clip's name.

    """
    drawing = _Drawing(timeline, max(duration_s, timeline.duration_s, 1e-3))
    limit = drawing.y(threshold, threshold)
    wet = [drawing.bar(span, _TOP, _BOTTOM, "wet") for span in timeline.wet_spans(threshold)]
    copied = [drawing.bar(span, _COPIED_Y - 8, _COPIED_Y, "copied") for span in spans_copied]
    share = timeline.wet_share(threshold)
    label = f"{title}: " if title else ""
    return "".join((
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {_HEIGHT}" role="img">',
        f"<title>{escape(label)}rain over time</title><style>{_STYLE}</style>",
        f'<rect class="back" width="{_WIDTH}" height="{_HEIGHT}"/>',
        f'<text x="{_LEFT}" y="16">{escape(label)}{share:.0%} of the frames judged wet (shaded)</text>',
        *wet,
        f'<line class="axis" x1="{_LEFT}" x2="{_RIGHT}" y1="{_BOTTOM}" y2="{_BOTTOM}"/>',
        f'<line class="limit" x1="{_LEFT}" x2="{_RIGHT}" y1="{limit:.1f}" y2="{limit:.1f}"/>',
        f'<text x="{_LEFT - 6}" y="{limit + 4:.1f}" text-anchor="end">limit</text>',
        f'<text x="{_LEFT - 6}" y="{_TOP + 10}" text-anchor="end">rain</text>',
        *drawing.curve(threshold),
        *drawing.ticks(),
        f'<text x="{_LEFT - 6}" y="{_COPIED_Y}" text-anchor="end">copy</text>',
        f'<rect class="done" x="{_LEFT}" y="{_COPIED_Y - 8}" width="{_RIGHT - _LEFT}" height="8"/>',
        *copied,
        f'<text x="{_LEFT}" y="{_HEIGHT - 8}">lower bar: green was copied as packets, grey was encoded anew</text>',
        "</svg>\n",
    ))  # fmt: skip


class _Drawing:
    """Places in the picture."""

    def __init__(self, timeline: RainTimeline, duration_s: float) -> None:
        self._timeline = timeline
        self._duration_s = duration_s
        self._first = timeline.pts[0] if timeline.pts else 0

    def x(self, pts: float) -> float:
        seconds = (pts - self._first) * float(self._timeline.time_base)
        return self._at(min(max(seconds, 0.0), self._duration_s))

    def _at(self, seconds: float) -> float:
        return _LEFT + seconds / self._duration_s * (_RIGHT - _LEFT)

    def y(self, score: float, threshold: float) -> float:
        share = min(score / threshold / _MOST_SCORE, 1.0)
        return _BOTTOM - share * (_BOTTOM - _TOP)

    def bar(self, span: tuple[int, int], top: float, bottom: float, kind: str) -> str:
        left, right = (self.x(pts) for pts in span)
        return f'<rect class="{kind}" x="{left:.1f}" y="{top}" width="{right - left:.1f}" height="{bottom - top}"/>'

    def curve(self, threshold: float) -> list[str]:
        """Lines through the smoothed scores; of many frames the most in each pixel. Gaps where unknown."""
        scores = self._timeline.smoothed()
        lines: list[list[str]] = [[]]
        for part in np.array_split(np.arange(len(scores)), min(len(scores), _MOST_POINTS) or 1):
            known = part[~np.isnan(scores[part])]
            if not len(known):
                lines.append([])
                continue
            place = self.x(self._timeline.pts[int(known[0])])
            lines[-1].append(f"{place:.1f},{self.y(float(scores[known].max()), threshold):.1f}")
        return [f'<polyline class="rain" points="{" ".join(line)}"/>' for line in lines if line]

    def ticks(self) -> list[str]:
        """Some six times below the axis."""
        steps = (0.1, 0.5, 1, 2, 5, 10, 30, 60, 120, 300, 600, 1800, 3600)
        step = next((s for s in steps if self._duration_s / s <= 7), self._duration_s / 6)
        return [
            f'<text x="{self._at(n * step):.1f}" y="{_BOTTOM + 12}" text-anchor="middle">{_clock(n * step)}</text>'
            for n in range(int(self._duration_s / step) + 1)
        ]


def _clock(seconds: float) -> str:
    if seconds < 60:
        return f"{seconds:g} s"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"
