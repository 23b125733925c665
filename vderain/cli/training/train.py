"""``vderain train``: make weights."""

from __future__ import annotations

import logging
import os
import shlex
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from tqdm import tqdm

if TYPE_CHECKING:
    from vderain.training.config.stages import Stage
    from vderain.training.distributed import World
    from vderain.training.train import TrainProgress

_FOLDER = click.Path(file_okay=False, path_type=Path)
_SHIPPED = {"semi_drdnet": "fast", "nlcl": "nlcl"}


@click.command()
@click.argument("config", required=False, type=click.Path(path_type=Path))
@click.option(
    "--method", type=click.Choice(["semi_drdnet", "nlcl"]),
    help="Instead of CONFIG, the one shipped for a method: fast for semi_drdnet, nlcl for nlcl.",
)  # fmt: skip
@click.option(
    "--run", "run_dir", type=_FOLDER, help="Folder of the run's state [default: runs/CONFIG]."
)
@click.option(
    "--data",
    type=_FOLDER,
    help="Folder of CONFIG's sources [default: $VDERAIN_DATA, or here].",
)
@click.option(
    "--clean", multiple=True, type=_FOLDER,
    help="Train on rain rendered onto the clean clips and images of this folder, instead of CONFIG's sources;"
    " for nlcl, examples of backgrounds.",
)  # fmt: skip
@click.option(
    "--rainy", multiple=True, type=_FOLDER,
    help="For nlcl: train on the rainy clips and images of this folder, instead of CONFIG's.",
)  # fmt: skip
@click.option(
    "--steps",
    type=click.IntRange(1),
    help="Number of steps, of all stages together, instead of CONFIG's.",
)
@click.option(
    "--set", "settings", multiple=True, metavar="NAME=VALUE", help="Change a setting of CONFIG."
)
@click.option("--device", help="Such as cpu or cuda:0 [default: a GPU where there is one].")
@click.option("--quiet", "-q", is_flag=True, help="No progress bar.")
def train(
    config: Path | None,
    method: str | None,
    run_dir: Path | None,
    data: Path | None,
    clean: tuple[Path, ...],
    rainy: tuple[Path, ...],
    steps: int | None,
    settings: tuple[str, ...],
    device: str | None,
    quiet: bool,
) -> None:
    """Train by CONFIG: a TOML file, or the name of a shipped recipe (fast, light, paper, nlcl, nlcl_cpu).

    A run that was stopped resumes from its last checkpoint when the same command is given again.
    Under torchrun, all processes share one run.

    \b
    vderain train fast --clean my_clips --run my_run     # no ground truth needed
    vderain export my_run -o mine.safetensors
    vderain run rainy.mp4 dry.mp4 --weights mine.safetensors
    vderain train --method nlcl --rainy my_rain --clean my_clips --run my_nlcl   # no pairs at all
    """
    from vderain.training.distributed import joined_world

    if config is None and method is None:
        raise click.UsageError("name a CONFIG, or a --method")
    config = config or Path(_SHIPPED[method or ""])
    stages = _loaded(config, method, clean, rainy, settings, steps)
    run_dir = run_dir or Path("runs") / config.stem
    data = data or Path(os.environ.get("VDERAIN_DATA", "."))
    with joined_world(device) as world:
        run = _Run(stages, run_dir, world, _command(config, clean, settings, steps))
        silent = quiet or world.rank > 0
        try:
            with _shown_log(silent=silent), _StepBar(hidden=silent) as bar:
                run.train(data, bar)
        except KeyboardInterrupt:
            if world.rank == 0:
                click.echo(run.kept(), err=True)
            raise
    if world.rank == 0 and not quiet:
        if not bar.moved:
            more = "more --steps, or " if len(stages) == 1 else ""
            click.echo(
                f"note: {run_dir} holds a run that had ended before: nothing was trained; "
                f"give it {more}--run another folder",
                err=True,
            )
        click.echo(
            f"{run_dir}: {run.steps} steps; vderain export {run_dir} -o WEIGHTS.safetensors",
            err=True,
        )


class _Run:
    """A single run, or the stages of a recipe."""

    def __init__(self, stages: list[Stage], run_dir: Path, world: World, command: str) -> None:
        from vderain.training.stages import RecipeRun
        from vderain.training.train import Trainer

        self._recipe: RecipeRun | None = None
        self._trainer: Trainer | None = None
        self._run_dir = run_dir
        first = stages[0].config
        if len(stages) == 1 and not stages[0].name and first is not None:
            self._trainer = Trainer(first, run_dir, world)
        else:
            self._recipe = RecipeRun(stages, run_dir, world, command=command)

    def train(self, data: Path, bar: _StepBar) -> None:
        if self._recipe is None:
            assert self._trainer is not None
            self._trainer.train(data, bar.update)
            return
        self._recipe.train(data, lambda stage, progress: bar.update(progress, stage.name))

    @property
    def steps(self) -> int:
        """Of the run, or of all stages of the recipe that train."""
        if self._recipe is not None:
            return sum(stage.config.steps for stage in self._recipe.stages if stage.config)
        assert self._trainer is not None
        return self._trainer.step

    def kept(self) -> str:
        """What a person who stopped a run wants to know."""
        trainer = self._trainer or (self._recipe.trainer if self._recipe else None)
        if trainer is None or not trainer.saved_step:
            every = (
                f"; checkpoints come every {trainer.config.checkpoint_every} steps"
                if trainer
                else ""
            )
            return f"{self._run_dir}: nothing is kept yet{every}"
        return (
            f"{trainer.checkpoint}: stopped at step {trainer.step}, holds step {trainer.saved_step}; "
            "give the same command again to resume"
        )


def _command(
    config: Path, clean: tuple[Path, ...], settings: tuple[str, ...], steps: int | None
) -> str:
    """What repeats the run, without the folders of this machine."""
    words = ["vderain train", shlex.quote(config.name)]
    words += [f"--clean {shlex.quote(folder.name)}" for folder in clean]
    words += [] if steps is None else [f"--steps {steps}"]
    return " ".join([*words, *(f"--set {shlex.quote(text)}" for text in settings)])


def _loaded(
    config: Path,
    method: str | None,
    clean: tuple[Path, ...],
    rainy: tuple[Path, ...],
    settings: tuple[str, ...],
    steps: int | None,
) -> list[Stage]:
    """The stages of CONFIG with what the command line says."""
    from vderain.training.config.methods import method_of
    from vderain.training.config.nlcl import NlclTrainConfig
    from vderain.training.config.stages import load_recipe
    from vderain.training.data.sources import clean_tables
    from vderain.training.methods.nlcl.objective import footage_tables

    found = method_of(config, [text for text in settings if text.startswith("method=")])
    if method is not None and found != method:
        raise click.UsageError(
            f"{config} is of method {found}, not {method}; leave one of them out"
        )
    values: dict[str, Any] = {} if steps is None else {"steps": steps}
    if found == NlclTrainConfig.method:
        sections = {"unpaired": clean, "real": rainy}
        values |= {
            name: footage_tables(folders, rainy=name == "real")
            for name, folders in sections.items()
            if folders
        }
        if clean or rainy:
            values |= {"data": "", "terms": ""}
    elif rainy:
        raise click.UsageError(
            "--rainy is for --method nlcl; others name real rain in CONFIG's [real]"
        )
    elif clean:
        values["sources"] = clean_tables(clean)
        values |= {"real": {}, "unpaired": {}, "data": "", "terms": ""}
    return load_recipe(config, settings, **values)


class _Echo(logging.Handler):
    """Writes messages above the bar."""

    def emit(self, record: logging.LogRecord) -> None:
        tqdm.write(self.format(record), file=sys.stderr)


@contextmanager
def _shown_log(*, silent: bool) -> Iterator[None]:
    """Show what training logs of its data and its start; with --quiet, only what went wrong."""
    logger, handler = logging.getLogger("vderain.training"), _Echo()
    before = logger.level
    logger.setLevel(logging.WARNING if silent else logging.INFO)
    logger.addHandler(handler)
    try:
        yield
    finally:
        logger.removeHandler(handler)
        logger.setLevel(before)


class _StepBar:
    """Steps, rate, time left, loss, and the share of time that the network waits for data."""

    def __init__(self, *, hidden: bool) -> None:
        self._bar = tqdm(unit=" steps", disable=True if hidden else None, dynamic_ncols=True)
        self._loss: float | None = None
        self._stage = ""

    @property
    def moved(self) -> bool:
        """Whether a step was made."""
        return self._loss is not None

    def __enter__(self) -> _StepBar:
        return self

    def __exit__(self, *_: object) -> None:
        self._bar.close()

    def update(self, progress: TrainProgress, stage: str = "") -> None:
        """Show how far the run, or its stage, is; the loss is smoothed over some hundred steps."""
        if stage != self._stage:
            self._stage, self._loss, self._bar.total = stage, None, None
            self._bar.set_description_str(stage)
        if self._bar.total is None:
            self._bar.total = progress.steps
            self._bar.initial = self._bar.n = progress.step - 1
        old = progress.loss if self._loss is None else self._loss
        self._loss = 0.99 * old + 0.01 * progress.loss
        self._bar.set_postfix_str(
            f"loss {self._loss:.4f}, waits for data {progress.waiting_share:.0%}", refresh=False
        )
        self._bar.update(progress.step - self._bar.n)
