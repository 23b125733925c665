"""Tables of figures as plain values, for the templates to draw."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Cell:
    """What stands in a cell; ``value`` is what a click on the head sorts by, where that is another thing."""

    text: str
    value: float | None = None
    style: str = ""


@dataclass(frozen=True, slots=True)
class Row:
    """Cells in the order of the heads; a group's row stands out."""

    cells: Sequence[Cell]
    is_group: bool = False


@dataclass(frozen=True, slots=True)
class Table:
    """Rows under heads; those named in ``words`` are columns of text, all others of figures."""

    title: str
    heads: Sequence[str]
    rows: Sequence[Row]
    words: Sequence[str] = ()


def figure_cell(value: float | None, digits: int) -> Cell:
    """A figure, "-" for one that is not known."""
    if value is None:
        return Cell("-", style="note")
    return Cell(f"{round(value, digits) + 0.0:.{digits}f}", value)  # no minus before a zero
