"""``vderain export``: from a training run to a weights file that every command takes."""

from __future__ import annotations

from pathlib import Path

import click


@click.command()
@click.argument("checkpoint", type=click.Path(path_type=Path))
@click.option(
    "-o", "--output", "weights", type=click.Path(dir_okay=False, path_type=Path),
    help="The weights file (.safetensors); its card (.json) and graphs (.openvino) are written next to it.",
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
@click.option(
    "--graphs", "graphs_only", is_flag=True,
    help="CHECKPOINT is a weights file: only write its graphs next to it, also where it has some.",
)  # fmt: skip
@click.option("--overwrite", is_flag=True, help="Replace existing weights.")
def export(
    checkpoint: Path,
    weights: Path | None,
    scores: Path | None,
    clean: Path | None,
    graphs_only: bool,
    overwrite: bool,
) -> None:
    """Write the averaged weights of CHECKPOINT, a run's folder or its file, with a card and graphs.

    The graphs let the weights run where torch is not installed; keep the three files together. CHECKPOINT may be
    a weights file: its card then gets what int8 needs (--calibrate), or --scores.

    \b
    vderain export runs/fast -o mine.safetensors
    vderain run rainy.mp4 dry.mp4 --weights mine.safetensors
    vderain export --graphs mycamera.safetensors
    """
    if graphs_only == (weights is not None):
        raise click.UsageError("use either -o or --graphs")
    if weights is None:
        _write_graphs(checkpoint)
        return
    from vderain.training.export import export_weights, read_scores
    from vderain.training.stages import export_recipe, is_recipe_run

    write = export_recipe if is_recipe_run(checkpoint) else export_weights
    card = write(checkpoint, weights, scores=read_scores(scores), overwrite=overwrite, clean=clean)
    click.echo(
        f"{weights}: tier {card.tier}, {card.training['steps']} steps, sha256 {card.sha256[:12]}",
        err=True,
    )
    _write_graphs(weights)


def _write_graphs(weights: Path) -> None:
    from vderain.engines.graphs.export import export_graphs

    path = export_graphs(weights)
    click.echo(f"{path}: {path.stat().st_size / 1e6:.1f} MB", err=True)
