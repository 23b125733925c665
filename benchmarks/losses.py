"""What each precision loses on the development sets, in dB of PSNR against float32 of the same engine.

    VDERAIN_DATA=<folder with dev/> python benchmarks/losses.py --engine openvino int8 bfloat16 [--card]

Prints a table, and with --card writes the figures onto the weights' card. The aims: at most 0.1 dB for bfloat16 and
float16, 0.3 dB for int8. A precision that this machine lacks, or whose engine fails its self-check, is named.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

import click

from vderain.network.card import Card
from vderain.weights import find_weights

SUITE = Path(__file__).parents[1] / "training" / "recipes" / "dev.toml"
AIMS_DB = {"bfloat16": 0.1, "float16": 0.1, "int8": 0.3}
_SCORES = ("psnr_after_db", "in_rain_db", "psnr_db")
KEY = "psnr_lost_db"  # among a card's scores


def scored(engine: str, precision: str, weights: str | None, every: int) -> dict[str, float] | str:
    """PSNR after deraining of each set, or why there is none."""
    with tempfile.TemporaryDirectory() as folder:
        found = Path(folder) / "scores.json"
        command = [
            sys.executable,
            "-m",
            "vderain",
            "evaluate",
            "--suite",
            str(SUITE),
            "--json",
            str(found),
        ]
        command += [
            "--engine",
            engine,
            "--precision",
            precision,
            "--every",
            str(every),
            "--set",
            "wait-engine=true",
        ]
        command += ["--weights", weights] if weights else []
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode:
            return (done.stderr.strip().splitlines() or ["it failed"])[-1]
        scores = json.loads(found.read_text())
    others = {spec["precision"] for spec in scores["engines"]} - {precision}
    if others:
        return f"{', '.join(sorted(others))} ran instead"
    return {name: _decibels(values) for name, values in scores["summary"].items()}


def _decibels(values: dict[str, float]) -> float:
    """The score of a set: against the ground truth, in the rain, or against dry input."""
    return next(values[name] for name in _SCORES if name in values)


def losses(
    engine: str, precisions: tuple[str, ...], weights: str | None, every: int
) -> dict[str, dict[str, float] | str]:
    """Precision -> dB lost of each set, or why it is not known."""
    exact = scored(engine, "float32", weights, every)
    if isinstance(exact, str):
        return dict.fromkeys(precisions, f"float32: {exact}")
    found: dict[str, dict[str, float] | str] = {}
    for precision in precisions:
        scores = scored(engine, precision, weights, every)
        if isinstance(scores, str):
            found[precision] = scores
        else:
            found[precision] = {name: round(exact[name] - scores[name], 4) for name in exact}
    return found


def table(engine: str, found: dict[str, dict[str, float] | str]) -> list[str]:
    """Rows of a table, with the largest loss against its aim."""
    lines = ["| engine, precision | dB lost, set by set | most | aim |", "|---|---|---|---|"]
    for precision, lost in found.items():
        if isinstance(lost, str):
            lines.append(f"| {engine} {precision} | not known: {lost} | | |")
            continue
        sets = ", ".join(f"{name} {value:.3f}" for name, value in lost.items())
        lines.append(
            f"| {engine} {precision} | {sets} | {max(lost.values()):.3f} | {AIMS_DB[precision]} |"
        )
    return lines


def onto_card(weights: str | None, engine: str, found: dict[str, dict[str, float] | str]) -> None:
    """Write what is known onto the weights' card, next to the losses of other engines."""
    path, _ = find_weights("fast", weights)
    card = Card.load(path)
    known = card.scores.setdefault(KEY, {})
    known.update({f"{engine} {p}": lost for p, lost in found.items() if not isinstance(lost, str)})
    card.save(path)


@click.command()
@click.argument("precisions", nargs=-1, required=True)
@click.option("--engine", default="openvino")
@click.option("--weights", type=click.Path(exists=True))
@click.option("--every", default=4, help="Of clips, score every so many frames.")
@click.option("--card", is_flag=True, help="Write the figures onto the card.")
def main(
    precisions: tuple[str, ...], engine: str, weights: str | None, every: int, card: bool
) -> None:
    """Measure and print."""
    if not os.environ.get("VDERAIN_DATA"):
        raise SystemExit("set VDERAIN_DATA to the folder that holds dev/")
    found = losses(engine, precisions, weights, every)
    print("\n".join(table(engine, found)))
    if card:
        onto_card(weights, engine, found)


if __name__ == "__main__":
    main()
