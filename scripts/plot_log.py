"""Draws the losses of training runs as small plots, a line for each run: an SVG for documents.

Usage: python scripts/plot_log.py RUN [RUN ...] -o curves.svg [--title TEXT ...]

RUN is a run's folder; its ``log.csv`` holds means over the steps since the row before.
"""

from __future__ import annotations

import argparse
import csv
from html import escape
from pathlib import Path

from vderain.pages.plots import line_plot

COLOURS = ("#0b6bcb", "#d9622b", "#17803d", "#9146c2", "#b8860b", "#0f8b8d")  # on white and black
STYLE = """text { fill: #808890; font: 12px system-ui, sans-serif } .grid { stroke: #808890; stroke-opacity: .3 }
polyline { fill: none; stroke-width: 2; stroke-linejoin: round }"""
SIZE, COLUMNS, LEGEND_PX = (340, 190), 3, 24
APART = {"step", "seconds", "learning_rate", "waiting_share", "loss"}


def read_log(run: Path) -> dict[str, list[tuple[float, float]]]:
    """(step, value) of every loss by its name, without the steps that did not compute it."""
    with (run / "log.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    return {
        name: [(float(row["step"]), float(row[name])) for row in rows if row[name]]
        for name in rows[0]
        if name not in APART
    }


def draw(logs: list[dict[str, list[tuple[float, float]]]], titles: list[str]) -> str:
    """The SVG: the runs' titles, and below them a plot for each loss that a run has."""
    width, height = SIZE
    parts = [
        f'<text x="{10 + number * 240}" y="14" style="fill:{colour}">{escape(title)}</text>'
        for number, (title, colour) in enumerate(zip(titles, COLOURS, strict=False))
    ]
    names = list(dict.fromkeys(name for log in logs for name in log))
    for number, name in enumerate(names):
        row, column = divmod(number, COLUMNS)
        chosen = {title: log[name] for title, log in zip(titles, logs, strict=True) if name in log}
        colours = [COLOURS[titles.index(title)] for title in chosen]
        labels = ("step", name.replace("_", " "))
        plot = line_plot(list(chosen.values()), labels, colours, size=SIZE, least_room=1e-4)
        parts.append(
            f'<svg x="{column * width}" y="{LEGEND_PX + row * height}" width="{width}" height="{height}">{plot}</svg>'
        )
    rows = -(-len(names) // COLUMNS)
    whole = f"0 0 {COLUMNS * width} {LEGEND_PX + rows * height}"
    return f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="{whole}"><style>{STYLE}</style>{"".join(parts)}</svg>\n'


def main() -> None:
    """Draw what the command line names."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("runs", nargs="+", type=Path)
    parser.add_argument("-o", "--output", required=True, type=Path)
    parser.add_argument("--title", action="append", help="Of each run, in their order.")
    args = parser.parse_args()
    titles = args.title or [run.name for run in args.runs]
    if len(titles) != len(args.runs) or len(titles) > len(COLOURS):
        parser.error(f"give a title for each run, and {len(COLOURS)} runs at the most")
    args.output.write_text(draw([read_log(run) for run in args.runs], titles))


if __name__ == "__main__":
    main()
