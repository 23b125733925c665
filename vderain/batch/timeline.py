"""A picture of a clip's rain over time, as SVG: what was derained, and what was copied."""

from __future__ import annotations

from collections.abc import Sequence

from vderain.batch.gate import WET_FROM, RainTimeline


def timeline_svg(
    timeline: RainTimeline,
    spans_copied: Sequence[tuple[int, int]],
    duration_s: float,
    *,
    threshold: float = WET_FROM,
    title: str = "",
) -> str:
    """One self-contained SVG.

    Args:
        timeline: the clip's rain.
        spans_copied: (first pts, pts after the last) of what was copied as packets, in its time base.
        duration_s: of the clip, for the axis.
        threshold: the score from which it was taken to rain.
        title: of the picture, the clip's name.

    """
    return '<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 720 160" role="img"></svg>\n'
