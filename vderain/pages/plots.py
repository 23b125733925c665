"""Plots as SVG: lines over a common axis, points in a plane; the colours are those of the style sheet."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from markupsafe import Markup

from vderain.pages.render import render

COLOURS = 8  # --c0 to --c7 of the style sheet
Point = tuple[float, float]


@dataclass(frozen=True, slots=True)
class Axes:
    """Data to places in an SVG of ``width`` x ``height``, with margins for the labels."""

    width: int
    height: int
    x_span: tuple[float, float]
    y_span: tuple[float, float]
    left: int = 54
    right: int = 12
    top: int = 10
    bottom: int = 36

    def x(self, value: float) -> float:
        """Pixels from the left."""
        low, high = self.x_span
        return self.left + (value - low) / (high - low) * (self.width - self.left - self.right)

    def y(self, value: float) -> float:
        """Pixels from the top."""
        low, high = self.y_span
        share = (value - low) / (high - low)
        return self.height - self.bottom - share * (self.height - self.bottom - self.top)

    def path(self, points: Sequence[Point]) -> str:
        """Points of a polyline."""
        return " ".join(f"{self.x(x):.1f},{self.y(y):.1f}" for x, y in points)

    @property
    def x_ticks(self) -> list[float]:
        """Some round values along the x axis."""
        return _ticks(*self.x_span)

    @property
    def y_ticks(self) -> list[float]:
        """Some round values along the y axis."""
        return _ticks(*self.y_span)


def line_plot(
    lines: Sequence[Sequence[Point]],
    labels: tuple[str, str],
    colours: Sequence[str],
    *,
    size: tuple[int, int] = (560, 220),
    least_room: float = 0.5,
) -> Markup:
    """Lines of (x, y), ascending in x, two points at least; ``least_room`` is left above and below."""
    every = [point for line in lines for point in line]
    x_span = (min(x for x, _ in every), max(x for x, _ in every))
    axes = Axes(*size, x_span, span([y for _, y in every], least_room))
    drawn = [(axes.path(line), colour) for line, colour in zip(lines, colours, strict=True)]
    return render("plot.svg", axes=axes, labels=labels, lines=drawn, dots=[], even=None)


def scatter_plot(
    groups: Mapping[str, Sequence[tuple[float, float, str]]],
    labels: tuple[str, str],
    *,
    size: tuple[int, int] = (560, 420),
) -> Markup:
    """A point for each (x, y, name), a colour for each group, and a line where both are equal."""
    every = [point for own in groups.values() for point in own]
    axes = Axes(*size, span([x for x, _, _ in every]), span([y for _, y, _ in every]))
    low, high = (f(g(axes.x_span), g(axes.y_span)) for f, g in ((max, min), (min, max)))
    dots = [(x, y, name, colour(n)) for n, own in enumerate(groups.values()) for x, y, name in own]
    even = (low, high) if low < high else None
    return render("plot.svg", axes=axes, labels=labels, lines=[], dots=dots, even=even)


def along(
    title: str,
    places: Sequence[float],
    lines: Mapping[str, Sequence[float]],
    labels: tuple[str, str],
    colours: Mapping[str, str] | None = None,
) -> Markup:
    """Lines over ascending ``places``, two at least, under a title and over their names."""
    colours = colours or {name: colour(number) for number, name in enumerate(lines)}
    points = [list(zip(places, line, strict=True)) for line in lines.values()]
    drawn = line_plot(points, labels, [colours[name] for name in lines])
    return titled(title, drawn, colours)


def titled(title: str, plot: Markup, colours: Mapping[str, str]) -> Markup:
    """A plot under a title and over its legend."""
    return render("titled_plot.html", title=title, plot=plot, colours=colours)


def colour(number: int) -> str:
    """One of the style sheet's."""
    return f"var(--c{number % COLOURS})"


def span(values: Sequence[float], least_room: float = 0.5) -> tuple[float, float]:
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
