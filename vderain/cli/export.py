"""``vderain export``: from a training run to a weights file that every command takes."""

from __future__ import annotations

from pathlib import Path

import click


@click.command()
@click.argument("checkpoint", type=click.Path(path_type=Path))
@click.option(
    "-o", "--output", "weights", required=True, type=click.Path(dir_okay=False, path_type=Path),
    help="The weights file (.safetensors); its card (.json) is written next to it.",
)  # fmt: skip
@click.option(
    "--scores", type=click.Path(dir_okay=False, path_type=Path),
    help="JSON of vderain evaluate, for the card.",
)  # fmt: skip
@click.option(
    "--calibrate", "clean", type=click.Path(exists=True, file_okay=False, path_type=Path),
    help="Measure what int8 needs on rain rendered onto this folder's clean images and clips"
    " [default: the run's own sources].",
)  # fmt: skip
@click.option("--overwrite", is_flag=True, help="Replace existing weights.")
def export(
    checkpoint: Path, weights: Path, scores: Path | None, clean: Path | None, overwrite: bool
) -> None:
    """Write the averaged weights of CHECKPOINT, a run's folder or its file, with a card.

    CHECKPOINT may be a weights file: its card then gets what int8 needs (--calibrate), or --scores.

    \b
    vderain export runs/fast -o mine.safetensors
    vderain evaluate --weights mine.safetensors --pairs my_pairs
    """
    from vderain.training.export import export_weights, read_scores
    from vderain.training.stages import export_recipe, is_recipe_run

    write = export_recipe if is_recipe_run(checkpoint) else export_weights
    card = write(checkpoint, weights, scores=read_scores(scores), overwrite=overwrite, clean=clean)
    click.echo(
        f"{weights}: tier {card.tier}, {card.training['steps']} steps, sha256 {card.sha256[:12]}",
        err=True,
    )
