"""The clips' part of the page: tables, plots along the frames, crops at full size."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape

from vderain.metrics import CEILING_DB
from vderain.training.evaluation.clips.report import COLUMNS, TITLES, curve, rows
from vderain.training.evaluation.clips.run import ClipSetScores
from vderain.training.evaluation.markup import cell, row, table
from vderain.training.evaluation.plots import along

STYLE = """
.crops { display: flex; flex-wrap: wrap; gap: 10px } .crops figure { margin: 0 }
.crops img { display: block; border-radius: 5px; image-rendering: pixelated }
.crops figcaption { color: var(--faint); font-size: 13px; line-height: 1.6 }
"""


@dataclass(frozen=True, slots=True)
class ShownCrop:
    """A crop on the page: files relative to it, by what they show, all of ``size`` (height, width)."""

    label: str
    size: tuple[int, int]
    files: Mapping[str, str]


def clip_sections(
    sets: Sequence[ClipSetScores], gallery: Mapping[str, Sequence[ShownCrop]]
) -> list[str]:
    """Tables and plots of all sets, then their crops by the set's name."""
    return [*_tables(sets), _plots(sets), _crops(gallery)]


def _tables(sets: Sequence[ClipSetScores]) -> list[str]:
    tables = []
    for kind, columns in COLUMNS.items():
        lines = [
            row(one.label, one.method, one.frames, [
                cell(value * column.scale if math.isfinite(value) else None, column.digits)
                for column in columns
                for value in (one.figures[column.key],)
            ])
            for each in sets if each.kind == kind for one in rows(each)
        ]  # fmt: skip
        heads = ["set", "method", "n", *(column.head for column in columns)]
        tables.append(table(TITLES[kind].capitalize(), heads, lines))
    return tables


def _plots(sets: Sequence[ClipSetScores]) -> str:
    drawn = []
    for one in sets:
        for clip in one.clips:
            label, lines = curve(clip)
            if len(clip.places) < 2 or not lines:
                continue
            limited = {
                name: [min(value, CEILING_DB) for value in line] for name, line in lines.items()
            }
            title = f"{one.name}: {clip.name}"
            drawn.append(
                f'<div class="plot">{along(title, clip.places, limited, ("frame", label))}</div>'
            )
    return (
        f'<h2>Clips, frame by frame</h2><div class="plots">{"".join(drawn)}</div>' if drawn else ""
    )


def _crops(gallery: Mapping[str, Sequence[ShownCrop]]) -> str:
    parts = []
    for name, shown in gallery.items():
        if shown:
            parts.append(f"<h3>{escape(name)}</h3>")
        parts += [_crop(one) for one in shown]
    return f"<h2>Clips, at full size</h2>{''.join(parts)}" if parts else ""


def _crop(shown: ShownCrop) -> str:
    height, width = shown.size
    figures = "".join(
        f'<figure><img loading="lazy" src="{escape(file)}" width="{width}" height="{height}" alt="">'
        f"<figcaption>{escape(name)}</figcaption></figure>"
        for name, file in shown.files.items()
    )
    return (
        f'<div class="shot"><header><b>{escape(shown.label)}</b></header>'
        f'<div class="crops">{figures}</div></div>'
    )
