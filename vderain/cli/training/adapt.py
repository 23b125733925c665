"""``vderain adapt``: weights for the rain of one's own camera."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click
from tqdm import tqdm

if TYPE_CHECKING:
    from vderain.training.adapt.run import ValidationScores
    from vderain.training.config.adapt import AdaptConfig
    from vderain.training.train import TrainProgress

_PATH = click.Path(path_type=Path)


@click.command()
@click.argument("footage", nargs=-1, required=True, type=_PATH)
@click.option(
    "-o", "--output", "weights", required=True, type=click.Path(dir_okay=False, path_type=Path),
    help="The weights file (.safetensors); its card (.json) is written next to it.",
)  # fmt: skip
@click.option(
    "--dry", multiple=True, type=_PATH,
    help="Footage or images of the same camera without rain; may be repeated.",
)  # fmt: skip
@click.option(
    "--replay", multiple=True, type=_PATH,
    help="Clean images or clips of anything: rain is rendered on them, against forgetting other rain.",
)  # fmt: skip
@click.option(
    "--tier", default="fast", show_default=True, help="Which of the shipped weights to adapt."
)
@click.option("--weights", "initial", help="Adapt a weights file of your own instead.")
@click.option(
    "--run", "run_dir", type=click.Path(file_okay=False, path_type=Path),
    help="Folder of the run's state and report [default: named as the output, ending in .adapt].",
)  # fmt: skip
@click.option("--minutes", type=click.FloatRange(0.01), help="Longest time to train [default: 15].")
@click.option("--steps", type=click.IntRange(1), help="Most steps to train [default: 900].")
@click.option("--set", "settings", multiple=True, metavar="NAME=VALUE", help="Change a setting.")
@click.option("--overwrite", is_flag=True, help="Replace existing weights.")
@click.option("--quiet", "-q", is_flag=True, help="Print the verdict only.")
def adapt(
    footage: tuple[Path, ...],
    weights: Path,
    dry: tuple[Path, ...],
    replay: tuple[Path, ...],
    tier: str,
    initial: str | None,
    run_dir: Path | None,
    minutes: float | None,
    steps: int | None,
    settings: tuple[str, ...],
    overwrite: bool,
    quiet: bool,
) -> None:
    """Adapt weights to the rain of FOOTAGE: videos, or folders of videos or of their frames.

    No ground truth is needed. The weights learn from neighbouring frames, and a validation split decides.
    Where the adapted weights are no better there, the original ones are written. A run that was stopped
    resumes when the same command is given again.

    \b
    vderain adapt dashcam/*.mp4 -o mycamera.safetensors
    vderain run rainy.mp4 dry.mp4 --weights mycamera.safetensors
    """
    from vderain.files import folder_for_work
    from vderain.training.adapt.page import write_page
    from vderain.training.adapt.run import Adaptation
    from vderain.training.config.adapt import adapt_config
    from vderain.training.export import check_output

    check_output(weights, overwrite=overwrite)
    paths = {"footage": footage, "dry": dry, "replay": replay}
    config = adapt_config(tier, initial, paths, settings, steps=steps, minutes=minutes)
    run_dir = run_dir or weights.with_suffix(".adapt")
    with folder_for_work(run_dir):
        adaptation = Adaptation(config, run_dir, lambda text: _print_note(text, quiet=quiet))
    with _Bar(config, hidden=quiet) as bar:

        def evaluation(found: ValidationScores) -> None:
            bar.note(
                f"step {found.step}: validation frames {found.agreement_db:.2f} dB, dry images {found.dry_db:.1f} dB,"
                f" other rain {found.other_db:.2f} dB"
            )
            run_dir.mkdir(parents=True, exist_ok=True)
            page = write_page(adaptation)
            if found.step == 0:
                bar.note(f"previews: {page}")

        try:
            adaptation.train(bar.update, evaluation)
        except KeyboardInterrupt:
            bar.note(f"{run_dir}: stopped; give the same command again to resume")
            raise
    verdict = adaptation.judge()
    adaptation.write(weights, verdict)
    page = write_page(adaptation, verdict)
    click.echo(f"{weights}: {verdict.reason}")
    click.echo(f"{page}: previews, curves and scores", err=True)


def _print_note(text: str, *, quiet: bool) -> None:
    if not quiet:
        click.echo(f"note: {text}", err=True)


class _Bar:
    """Steps, time left and loss."""

    def __init__(self, config: AdaptConfig, *, hidden: bool) -> None:
        self._hidden = hidden
        self._bar = tqdm(
            total=config.steps, unit=" steps", disable=True if hidden else None, dynamic_ncols=True
        )

    def __enter__(self) -> _Bar:
        return self

    def __exit__(self, *_: object) -> None:
        self._bar.close()

    def note(self, text: str) -> None:
        """Write a line above the bar."""
        if not self._hidden:
            tqdm.write(text, file=sys.stderr)

    def update(self, progress: TrainProgress) -> None:
        """Show how far the run is."""
        self._bar.set_postfix_str(f"loss {progress.loss:.4f}", refresh=False)
        self._bar.update(progress.step - self._bar.n)
