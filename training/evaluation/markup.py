"""Tables of the page of an evaluation."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from html import escape


def table(title: str, heads: Sequence[str], rows: Sequence[str]) -> str:
    """A table under a title, or "" without rows; a click on a head sorts it."""
    if not rows:
        return ""
    cells = "".join(
        f'<th class="text">{head}</th>' if head in ("set", "method") else f"<th>{head}</th>"
        for head in heads
    )
    return (
        f"<h2>{title}</h2>"
        f'<div class="wide"><table><thead><tr>{cells}</tr></thead><tbody>{"".join(rows)}</tbody></table></div>'
    )


def row(label: str, method: str, count: int | None, cells: Iterable[str]) -> str:
    """A row; one without a count is that of a group."""
    style = ' class="group"' if count is None else ""
    return (
        f'<tr{style}><td>{escape(label)}</td><td class="text">{escape(method)}</td>'
        f"<td>{'' if count is None else count}</td>{''.join(cells)}</tr>"
    )


def cell(value: float | None, digits: int) -> str:
    """A figure, "-" for one that is not known."""
    if value is None:
        return '<td class="note">-</td>'
    shown = round(value, digits) + 0.0  # no minus before a zero
    return f'<td data-value="{value:.6f}">{shown:.{digits}f}</td>'
