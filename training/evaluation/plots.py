"""Plots as inline SVG: PSNR after against before, and PSNR along a clip."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from html import escape
from typing import TYPE_CHECKING

from vderain.metrics import CEILING_DB
from vderain.training.evaluation.suite import INPUT

if TYPE_CHECKING:
    from vderain.training.evaluation.scores import SetScores

_COLOURS = 8  # --c0 to --c7 of the page
_LEFT, _BOTTOM, _TOP, _RIGHT = 54, 36, 10, 12


class _Axes:
    """Data to places in an SVG of ``width`` x ``height``, with a grid and round ticks."""

    def __init__(
        self, size: tuple[int, int], x_span: tuple[float, float], y_span: tuple[float, float]
    ) -> None:
        self.width, self.height = size
        self._x, self._y = x_span, y_span

    def x(self, value: float) -> float:
        low, high = self._x
        return _LEFT + (value - low) / (high - low) * (self.width - _LEFT - _RIGHT)

    def y(self, value: float) -> float:
        low, high = self._y
        share = (value - low) / (high - low)
        return self.height - _BOTTOM - share * (self.height - _BOTTOM - _TOP)

    def frame(self, x_label: str, y_label: str) -> str:
        """Grid lines, ticks and labels."""
        bottom, right = self.height - _BOTTOM, self.width - _RIGHT
        parts = []
        for value in _ticks(*self._x):
            x = self.x(value)
            parts.append(
                f'<line class="grid" x1="{x:.1f}" x2="{x:.1f}" y1="{_TOP}" y2="{bottom}"/>'
            )
            parts.append(
                f'<text x="{x:.1f}" y="{bottom + 15}" text-anchor="middle">{value:g}</text>'
            )
        for value in _ticks(*self._y):
            y = self.y(value)
            parts.append(
                f'<line class="grid" x1="{_LEFT}" x2="{right}" y1="{y:.1f}" y2="{y:.1f}"/>'
            )
            parts.append(
                f'<text x="{_LEFT - 6}" y="{y + 4:.1f}" text-anchor="end">{value:g}</text>'
            )
        middle = (_LEFT + right) / 2
        parts.append(
            f'<text x="{middle}" y="{self.height - 4}" text-anchor="middle">{escape(x_label)}</text>'
        )
        level = (_TOP + bottom) / 2
        parts.append(
            f'<text transform="translate(12 {level}) rotate(-90)" text-anchor="middle">{escape(y_label)}</text>'
        )
        return "".join(parts)

    def svg(self, *parts: str) -> str:
        """The whole picture."""
        return f'<svg viewBox="0 0 {self.width} {self.height}" role="img">{"".join(parts)}</svg>'


def scatter(sets: Sequence[SetScores]) -> str:
    """PSNR after against before, a point for each picture, a colour for each group of sets; "" without pairs."""
    points: dict[str, list[tuple[float, float, str]]] = {}
    for one in sets:
        method = next((name for name in one.methods if name != INPUT), None)
        if one.kind == "clean" or method is None:
            continue
        points.setdefault(one.group or one.name, []).extend(
            (
                _db(item.scores[INPUT].psnr_db),
                _db(item.scores[method].psnr_db),
                f"{one.name}: {item.name}",
            )
            for item in one.items
        )
    if not points:
        return ""
    every = [point for own in points.values() for point in own]
    axes = _Axes((560, 420), _span([x for x, _, _ in every]), _span([y for _, y, _ in every]))
    low, high = max(axes._x[0], axes._y[0]), min(axes._x[1], axes._y[1])
    even = ""
    if low < high:
        even = (
            f'<line class="even" x1="{axes.x(low):.1f}" y1="{axes.y(low):.1f}"'
            f' x2="{axes.x(high):.1f}" y2="{axes.y(high):.1f}"/>'
        )
    dots = "".join(
        f'<circle cx="{axes.x(x):.1f}" cy="{axes.y(y):.1f}" r="3.5" fill="{_colour(number)}">'
        f"<title>{escape(name)}, {x:.2f} to {y:.2f} dB</title></circle>"
        for number, own in enumerate(points.values())
        for x, y, name in own
    )
    return (
        "<b>PSNR of every picture; those above the dashed line won</b>"
        + axes.svg(axes.frame("PSNR before, dB", "PSNR after, dB"), even, dots)
        + _legend({name: _colour(number) for number, name in enumerate(points)})
    )


def curves(one: SetScores) -> str:
    """PSNR along a clip, a line for each method; "" for other sets."""
    if one.kind != "video" or len(one.items) < 2:
        return ""
    lines = {name: [_db(item.scores[name].psnr_db) for item in one.items] for name in one.methods}
    places = [int(item.name.rpartition(" ")[2]) for item in one.items]
    colours = {
        name: "var(--c7)" if name == INPUT else _colour(number - 1)
        for number, name in enumerate(lines)
    }
    return along(one.name, places, lines, ("frame", "PSNR, dB"), colours)


def along(
    title: str,
    places: Sequence[float],
    lines: Mapping[str, Sequence[float]],
    labels: tuple[str, str],
    colours: Mapping[str, str] | None = None,
) -> str:
    """Lines over ascending ``places``, two at least, with the axes' ``labels``."""
    colours = colours or {name: _colour(number) for number, name in enumerate(lines)}
    points = [list(zip(places, line, strict=True)) for line in lines.values()]
    drawn = line_plot(points, labels, [colours[name] for name in lines])
    return f"<b>{escape(title)}</b>{drawn}{_legend(colours)}"


def line_plot(
    lines: Sequence[Sequence[tuple[float, float]]],
    labels: tuple[str, str],
    colours: Sequence[str],
    *,
    size: tuple[int, int] = (560, 220),
    least_room: float = 0.5,
) -> str:
    """An SVG of lines of (x, y), ascending in x, two points at least; ``least_room`` is left above and below."""
    every = [point for line in lines for point in line]
    x_span = (min(x for x, _ in every), max(x for x, _ in every))
    axes = _Axes(size, x_span, _span([y for _, y in every], least_room))
    drawn = "".join(
        f'<polyline stroke="{colour}" points="'
        + " ".join(f"{axes.x(x):.1f},{axes.y(y):.1f}" for x, y in line)
        + '"/>'
        for line, colour in zip(lines, colours, strict=True)
    )
    return axes.svg(axes.frame(*labels), drawn)


def _legend(colours: Mapping[str, str]) -> str:
    entries = (
        f'<span><i style="background:{colour}"></i>{escape(name)}</span>'
        for name, colour in colours.items()
    )
    return f'<div class="legend">{"".join(entries)}</div>'


def _colour(number: int) -> str:
    return f"var(--c{number % _COLOURS})"


def _db(value: float) -> float:
    return min(value, CEILING_DB)


def _span(values: Sequence[float], least_room: float = 0.5) -> tuple[float, float]:
    """The values' range with a little room."""
    low, high = min(values), max(values)
    room = max(least_room, (high - low) * 0.06)
    return low - room, high + room


def _ticks(low: float, high: float) -> list[float]:
    """Some five round numbers within a range."""
    rough = (high - low) / 5
    power = 10.0 ** math.floor(math.log10(rough))
    step = next(power * factor for factor in (1, 2, 5, 10) if power * factor >= rough)
    first = math.ceil(low / step)
    return [round(number * step, 6) for number in range(first, math.floor(high / step) + 1)]
