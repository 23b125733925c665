"""The clips' part of the page: tables, plots along the frames, crops at full size."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from vderain.metrics import CEILING_DB
from vderain.pages import Cell, Row, Table, figure_cell
from vderain.pages.plots import along
from vderain.training.evaluation.clips.report import COLUMNS, TITLES, curve, rows
from vderain.training.evaluation.clips.run import ClipSetScores


@dataclass(frozen=True, slots=True)
class ShownCrop:
    """A crop on the page: files relative to it, by what they show, all of ``size`` (height, width)."""

    label: str
    size: tuple[int, int]
    files: Mapping[str, str]


def score_row(label: str, method: str, count: int | None, cells: Sequence[Cell]) -> Row:
    """A row of a set's scores; one without a count is that of a group."""
    first = [Cell(label), Cell(method, style="text"), Cell("" if count is None else str(count))]
    return Row([*first, *cells], is_group=count is None)


def clip_tables(sets: Sequence[ClipSetScores]) -> list[Table]:
    """A table for each kind of set."""
    tables = []
    for kind, columns in COLUMNS.items():
        lines = [
            score_row(one.label, one.method, one.frames, [
                figure_cell(value * column.scale if math.isfinite(value) else None, column.digits)
                for column in columns
                for value in (one.figures[column.key],)
            ])
            for each in sets if each.kind == kind for one in rows(each)
        ]  # fmt: skip
        heads = ["set", "method", "n", *(column.head for column in columns)]
        tables.append(Table(TITLES[kind].capitalize(), heads, lines, ("set", "method")))
    return tables


def clip_plots(sets: Sequence[ClipSetScores]) -> list[str]:
    """A plot along the frames of each clip."""
    drawn: list[str] = []
    for one in sets:
        for clip in one.clips:
            label, lines = curve(clip)
            if len(clip.places) < 2 or not lines:
                continue
            limited = {
                name: [min(value, CEILING_DB) for value in line] for name, line in lines.items()
            }
            drawn.append(along(f"{one.name}: {clip.name}", clip.places, limited, ("frame", label)))
    return drawn
