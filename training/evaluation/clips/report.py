"""The scores of clips as rows, as aligned text, and as plain values for JSON."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from vderain.training.evaluation.clips.dry_motion import DryMotionClip
from vderain.training.evaluation.clips.run import ClipSetScores, ScoredClip
from vderain.training.evaluation.clips.static_rain import MEDIAN, StaticRainClip
from vderain.training.evaluation.suite import INPUT, OURS, ClipKind

_ROUNDED = 5


@dataclass(frozen=True, slots=True)
class Column:
    """One figure of a row: how tables head and write it, and which of several clips' is the worst."""

    key: str
    head: str
    digits: int
    worst: Callable[[Sequence[float]], float] = max
    scale: float = 1.0

    def text(self, value: float) -> str:
        """As tables show it; "-" for what is not limited or not known."""
        shown = round(value * self.scale, self.digits) + 0.0  # no minus before a zero
        return f"{shown:.{self.digits}f}" if math.isfinite(value) else "-"


COLUMNS: Mapping[ClipKind, tuple[Column, ...]] = {
    "static_rain": (
        Column("in_rain_db", "dB in the rain", 2, min),
        Column("gain_db", f"above {MEDIAN}", 2, min),
        Column("streaks_left", "streaks left", 2),
        Column("darkened", "darkened", 3),
        Column("darkened_more", "above input", 3),
        Column("kept_db", "kept, dB", 1, min),
    ),
    "dry_motion": (
        Column("psnr_db", "PSNR Y", 1, min),
        Column("worst_frame_db", "worst frame", 1, min),
        Column("changed_share", "changed, %", 3, scale=100.0),
    ),
}
TITLES: Mapping[ClipKind, str] = {
    "static_rain": "static rain",
    "dry_motion": "dry motion: output to input",
}


@dataclass(frozen=True, slots=True)
class Row:
    """The figures of a method for a clip, or for all clips of a set, where ``frames`` is None."""

    label: str
    method: str
    frames: int | None
    figures: Mapping[str, float]


def rows(one: ClipSetScores) -> Iterator[Row]:
    """Each clip's rows, then the mean of all clips, and the worst figure of each column."""
    of_clips: dict[str, list[Mapping[str, float]]] = {}
    for clip in one.clips:
        for method in clip.scores:
            row = Row(clip.name, method, len(clip.places), _figures(clip, method))
            of_clips.setdefault(method, []).append(row.figures)
            yield row
    if len(one.clips) < 2:
        return
    for method in one.methods:
        yield Row(f"mean of {one.name}", method, None, _means(one.kind, of_clips[method]))
    for method in (name for name in one.methods if name != INPUT):
        yield Row(f"worst of {one.name}", method, None, _worst(one.kind, of_clips[method]))


def _figures(clip: ScoredClip, method: str) -> dict[str, float]:
    figures: dict[str, float] = asdict(clip.scores[method])
    if isinstance(clip, StaticRainClip):
        scores = clip.scores
        figures["gain_db"] = scores[method].in_rain_db - scores[MEDIAN].in_rain_db
        figures["darkened_more"] = scores[method].darkened - scores[INPUT].darkened
    return figures


def _means(kind: ClipKind, figures: Sequence[Mapping[str, float]]) -> dict[str, float]:
    keys = [column.key for column in COLUMNS[kind]]
    return {key: sum(one[key] for one in figures) / len(figures) for key in keys}


def _worst(kind: ClipKind, figures: Sequence[Mapping[str, float]]) -> dict[str, float]:
    return {
        column.key: column.worst([one[column.key] for one in figures]) for column in COLUMNS[kind]
    }


def clip_lines(sets: Sequence[ClipSetScores]) -> list[str]:
    """Tables as aligned text, one for each kind of sets."""
    lines: list[str] = []
    for kind, columns in COLUMNS.items():
        found = [row for one in sets if one.kind == kind for row in rows(one)]
        if not found:
            continue
        title = TITLES[kind]
        label = max(len(title), *(len(row.label) for row in found))
        method = max(7, *(len(row.method) for row in found))
        widths = [max(9, len(column.head)) + 2 for column in columns]
        heads = "".join(
            f"{column.head:>{width}}" for column, width in zip(columns, widths, strict=True)
        )
        lines.append(f"{title:{label}} {'method':{method}} {'n':>5}{heads}")
        for row in found:
            cells = "".join(
                f"{column.text(row.figures[column.key]):>{width}}"
                for column, width in zip(columns, widths, strict=True)
            )
            lines.append(f"{row.label:{label}} {row.method:{method}} {row.frames or '':>5}{cells}")
        lines.append("")
    return lines


def clips_to_plain(sets: Sequence[ClipSetScores]) -> list[dict[str, Any]]:
    """All scores for JSON, which knows no infinity: what is not limited is null."""
    return [
        {
            "name": one.name,
            "kind": one.kind,
            "clips": [_clip_to_plain(clip) for clip in one.clips],
            "all": [
                {"label": row.label, "method": row.method, **_plain(row.figures)}
                for row in rows(one)
                if row.frames is None
            ],
        }
        for one in sets
    ]


def _clip_to_plain(clip: ScoredClip) -> dict[str, Any]:
    values: dict[str, Any] = {"name": clip.name, "frames": list(clip.places)}
    if isinstance(clip, StaticRainClip):
        values["rain_share"] = round(clip.rain_share, _ROUNDED)
        values["calm_share"] = round(clip.calm_share, _ROUNDED)
    values["methods"] = {method: _plain(_figures(clip, method)) for method in clip.scores}
    values["by_frame"] = {
        method: [_plain(asdict(scores)) for scores in each]
        for method, each in clip.by_frame.items()
    }
    return values


def clip_summary(sets: Sequence[ClipSetScores]) -> dict[str, dict[str, float | None]]:
    """What a card of weights says of them: by label, the figures of ours."""
    return {
        row.label if row.frames is None else f"{one.name}/{row.label}": _plain(row.figures)
        for one in sets
        for row in rows(one)
        if row.method == OURS
    }


def _plain(figures: Mapping[str, float]) -> dict[str, float | None]:
    return {
        key: round(value, _ROUNDED) if math.isfinite(value) else None
        for key, value in figures.items()
    }


def curve(clip: ScoredClip) -> tuple[str, dict[str, list[float]]]:
    """What is drawn along a clip's frames: the axis' label, and a line for each method."""
    if isinstance(clip, DryMotionClip):
        return "PSNR Y, dB", {
            method: [one.psnr_db for one in each] for method, each in clip.by_frame.items()
        }
    return "dB in the rain", {
        method: [one.in_rain_db for one in each] for method, each in clip.by_frame.items()
    }
