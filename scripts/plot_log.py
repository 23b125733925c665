"""Draws the losses of training runs as small plots, a line for each run: an SVG for documents.

Usage: python scripts/plot_log.py RUN [RUN ...] -o curves.svg [--title TEXT ...]

RUN is a run's folder; its ``log.csv`` holds means over the steps since the row before.
"""

from __future__ import annotations

import argparse
import csv
from collections.abc import Sequence
from html import escape
from pathlib import Path

COLOURS = (
    "#0b6bcb",
    "#d9622b",
    "#17803d",
    "#9146c2",
    "#b8860b",
    "#0f8b8d",
)  # for light and dark pages
INK = "#808890"
WIDTH, HEIGHT, GAP, COLUMNS = 280, 120, 34, 3
APART = {"step", "seconds", "learning_rate", "waiting_share", "loss"}


def read_log(run: Path) -> dict[str, list[tuple[float, float]]]:
    """(step, value) of every loss by its name, without the steps that did not compute it."""
    with (run / "log.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    names = [name for name in rows[0] if name not in APART]
    return {
        name: [(float(row["step"]), float(row[name])) for row in rows if row[name]]
        for name in names
    }


def panel(name: str, lines: Sequence[Sequence[tuple[float, float]]]) -> str:
    """One loss: its name, the range of its values and steps, and a line for each run that has it."""
    points = [point for line in lines for point in line]
    (left, right), (low, high) = ((min(side), max(side)) for side in zip(*points, strict=True))

    def place(step: float, value: float) -> str:
        x = (step - left) / max(right - left, 1) * WIDTH
        y = HEIGHT - (value - low) / max(high - low, 1e-12) * HEIGHT
        return f"{x:.1f},{y:.1f}"

    drawn = "".join(
        f'<polyline fill="none" stroke="{COLOURS[number % len(COLOURS)]}" stroke-width="2" points="'
        + " ".join(place(*point) for point in line)
        + '"/>'
        for number, line in enumerate(lines)
    )
    frame = (
        f'<rect width="{WIDTH}" height="{HEIGHT}" fill="none" stroke="{INK}" stroke-opacity="0.4"/>'
    )
    return (
        f'{frame}<text y="-6" font-weight="600">{escape(name.replace("_", " "))}</text>'
        f'<text x="{WIDTH}" y="-6" text-anchor="end">{low:.4g} to {high:.4g}</text>'
        f'<text x="{WIDTH}" y="{HEIGHT + 13}" text-anchor="end">steps {left:.0f} to {right:.0f}</text>{drawn}'
    )


def main() -> None:
    """Draw what the command line names."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("runs", nargs="+", type=Path)
    parser.add_argument("-o", "--output", required=True, type=Path)
    parser.add_argument("--title", action="append", default=[], help="Of each run, in their order.")
    args = parser.parse_args()
    titles = args.title or [run.name for run in args.runs]
    logs = [read_log(run) for run in args.runs]
    names = list(dict.fromkeys(name for log in logs for name in log))
    parts = []
    for number, name in enumerate(names):
        x = number % COLUMNS * (WIDTH + GAP)
        y = number // COLUMNS * (HEIGHT + GAP + 10) + 44
        shown = panel(name, [log.get(name, []) for log in logs])
        parts.append(f'<g transform="translate({x} {y})">{shown}</g>')
    for number, title in enumerate(titles):
        parts.append(
            f'<text x="{number * 240}" y="14" fill="{COLOURS[number % len(COLOURS)]}">{escape(title)}</text>'
        )
    width = COLUMNS * (WIDTH + GAP) - GAP
    height = -(-len(names) // COLUMNS) * (HEIGHT + GAP + 10) + 44
    args.output.write_text(
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="-2 -2 {width + 4} {height}"'
        f' font-family="system-ui, sans-serif" font-size="12" fill="{INK}">{"".join(parts)}</svg>\n'
    )


if __name__ == "__main__":
    main()
