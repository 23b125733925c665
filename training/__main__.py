"""``python -m vderain.training``: train, or go on with a run, and export its weights."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import click

from vderain.errors import VderainError
from vderain.training.export import export, read_scores
from vderain.training.trainer import TrainConfig, Trainer, with_steps

_FILE = click.Path(exists=True, dir_okay=False, path_type=Path)


@click.group()
def cli() -> None:
    """Make weights."""


@cli.command("train")
@click.argument("config", type=_FILE)
@click.argument("run_dir", type=click.Path(file_okay=False, path_type=Path))
@click.option("--steps", type=click.IntRange(1), help="Another length than the configuration's.")
def train_command(config: Path, run_dir: Path, steps: int | None) -> None:
    """Train as CONFIG says on the folders below $VDERAIN_DATA; the state is kept in RUN_DIR."""
    data = Path(os.environ.get("VDERAIN_DATA", "."))
    Trainer(with_steps(TrainConfig.load(config), steps), run_dir).train(data)


@cli.command("export")
@click.argument("config", type=_FILE)
@click.argument("run_dir", type=click.Path(exists=True, file_okay=False, path_type=Path))
@click.argument("weights", type=click.Path(dir_okay=False, path_type=Path))
@click.option("--scores", type=_FILE, help="JSON of benchmarks/scores.py, for the card.")
def export_command(config: Path, run_dir: Path, weights: Path, scores: Path | None) -> None:
    """Write the WEIGHTS file (.safetensors) of a run, and its card."""
    command = f"python -m vderain.training train training/configs/{config.name} RUN_DIR"
    card = export(
        TrainConfig.load(config),
        run_dir / "checkpoint.pt",
        weights,
        command=command,
        scores=read_scores(scores),
    )
    click.echo(
        f"{weights}: tier {card.tier}, {card.training['steps']} steps, sha256 {card.sha256[:12]}"
    )


def main() -> None:
    """Entry point: errors become one line."""
    try:
        cli.main(prog_name="python -m vderain.training")
    except VderainError as error:
        click.echo(f"vderain: {error}", err=True)
        sys.exit(error.exit_code)


if __name__ == "__main__":
    main()
