"""Running a recipe: one stage after the other, each in a folder of its own, resumed where it stopped."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from vderain.errors import OptionError, SinkError, WeightsError
from vderain.network.card import Card
from vderain.network.semi_drdnet import MedianFusion, SemiDRDNet
from vderain.training.checkpoint import checkpoint_path
from vderain.training.config.stages import Stage
from vderain.training.distributed import World, wait_for_all
from vderain.training.export import (
    check_output,
    export_weights,
    recipe_scales,
    write_weights,
)
from vderain.training.train import Trainer, TrainProgress
from vderain.weights import find_weights, load_network

_NAMES = "stages.json"
_WEIGHTS = "weights.safetensors"


class RecipeRun:
    """The stages of a recipe below one folder; give the same recipe again to go on.

    Attributes:
        trainer: of the stage at hand; None before the first one and during an average.

    """

    def __init__(
        self,
        stages: Sequence[Stage],
        run_dir: Path,
        world: World | None = None,
        *,
        command: str = "",
    ) -> None:
        """``command`` repeats the run, for the card."""
        self.stages = list(stages)
        self.run_dir = run_dir
        self.command = command
        self.world = world or World()
        self.trainer: Trainer | None = None

    def train(
        self, data: Path, on_step: Callable[[Stage, TrainProgress], None] | None = None
    ) -> None:
        """Run all stages on the folders below ``data``.

        Raises what ``Trainer.train`` raises, and OptionError for a finished stage of another length.
        """
        self._remember()
        weights: Path | None = None
        for stage in self.stages:
            written = weights_of(self.run_dir, self.stages, stage.name)
            if stage.config is None:
                self.trainer = None
                if self.world.rank == 0 and not written.exists():
                    written.parent.mkdir(parents=True, exist_ok=True)
                    _write_average(self.run_dir, self.stages, stage)
            else:
                self._train(stage, weights, written, data, on_step)
            wait_for_all(self.world)
            weights = written

    def _train(
        self,
        stage: Stage,
        weights: Path | None,
        written: Path,
        data: Path,
        on_step: Callable[[Stage, TrainProgress], None] | None,
    ) -> None:
        config = stage.config
        assert config is not None
        if written.exists() and (done := Card.load(written).training["steps"]) != config.steps:
            # Later stages began with these weights.
            raise OptionError(
                f"{self.run_dir}: stage {stage.name} is finished with {done} steps, and {config.steps} are asked"
                f" for; set {stage.name}.steps={done}, or choose another run folder"
            )
        if weights is not None and config.initial is None:
            config = replace(config, initial=str(weights))
        self.trainer = Trainer(config, written.parent, self.world, kept=self.run_dir)
        self.trainer.train(data, None if on_step is None else lambda done: on_step(stage, done))
        if self.world.rank == 0 and not written.exists():
            export_weights(written.parent, written, for_int8=False)

    def _remember(self) -> None:
        """Keep the names of the stages, for the export; OptionError where the folder holds others."""
        names = [stage.name for stage in self.stages]
        path = self.run_dir / _NAMES
        if path.exists() and stage_names(self.run_dir) != names:
            raise OptionError(
                f"{self.run_dir}: holds a run of other stages ({', '.join(stage_names(self.run_dir))}); "
                "choose another run folder"
            )
        if self.world.rank == 0:
            try:
                self.run_dir.mkdir(parents=True, exist_ok=True)
                record = {"stages": names, "command": self.command}
                path.write_text(json.dumps(record), encoding="utf-8")
            except OSError as error:
                raise SinkError(f"{path}: cannot be written ({error})") from error


def is_recipe_run(run_dir: Path) -> bool:
    """Whether a folder holds the run of a recipe with several stages."""
    return (run_dir / _NAMES).is_file()


def stage_names(run_dir: Path) -> list[str]:
    """The stages of the run in a folder; WeightsError where they cannot be read."""
    return [str(name) for name in _record(run_dir)["stages"]]


def _record(run_dir: Path) -> dict[str, Any]:
    try:
        record = json.loads((run_dir / _NAMES).read_text(encoding="utf-8"))
        return {"stages": list(record["stages"]), "command": str(record["command"])}
    except (OSError, ValueError, TypeError, KeyError, RecursionError) as error:
        raise WeightsError(f"{run_dir / _NAMES}: not a record of stages ({error})") from None


def weights_of(run_dir: Path, stages: Sequence[Stage] | Sequence[str], name: str) -> Path:
    """The file of the weights of a finished stage."""
    names = [stage if isinstance(stage, str) else stage.name for stage in stages]
    return run_dir / f"{names.index(name) + 1}-{name}" / _WEIGHTS


def _write_average(run_dir: Path, stages: Sequence[Stage], stage: Stage) -> None:
    """The mean of the weights of earlier stages, with the card of the last one of them."""
    mean: dict[str, Any] = {}
    for name, share in stage.average:
        path, card = find_weights(name, str(weights_of(run_dir, stages, name)))
        network = load_network(path, card)
        for key, values in network.state_dict().items():
            mean[key] = mean.get(key, torch.zeros_like(values)) + share * values
    network.load_state_dict(mean)
    formula = " + ".join(f"{share:g} {name}" for name, share in stage.average)
    training = {"average": formula, "steps": 0, "hours": 0.0}
    if stage.trust:
        # load_stages has made sure of the kind of network.
        assert isinstance(network, SemiDRDNet) and isinstance(network.fusion, MedianFusion)
        network.fusion.trust_more(stage.trust)
        training["trust"] = stage.trust
    card = replace(card, training=training)
    write_weights(network, weights_of(run_dir, stages, stage.name), card)


def export_recipe(
    run_dir: Path,
    weights: Path,
    *,
    scores: dict[str, Any] | None = None,
    overwrite: bool = False,
    clean: Path | None = None,
) -> Card:
    """Write the weights of the last stage of a finished run, with a card that lists all stages.

    The other arguments, and what is raised, as of ``export_weights``; WeightsError where a stage is not finished.
    """
    check_output(weights, overwrite=overwrite)
    names, trained = stage_names(run_dir), []
    for name in names:
        path = weights_of(run_dir, names, name)
        if not path.exists():
            raise WeightsError(
                f"{run_dir}: stage {name} is not finished; give vderain train the same command again"
            )
        trained.append({"name": name, **Card.load(path).training})
    path, card = find_weights(names[-1], str(path))
    training = {
        "command": _record(run_dir)["command"],
        "stages": trained,
        "steps": sum(int(stage["steps"]) for stage in trained),
        "hours": round(sum(float(stage["hours"]) for stage in trained), 2),
        "changes": [],
    }
    network = load_network(path, card)
    int8 = recipe_scales(network, _last_checkpoint(run_dir, names), clean)
    card = replace(card, training=training, scores=dict(scores or {}), int8=int8)
    return write_weights(network, weights, card)


def _last_checkpoint(run_dir: Path, names: Sequence[str]) -> Path:
    """Of the last stage that trained: an average has none."""
    folders = [weights_of(run_dir, names, name).parent for name in reversed(names)]
    return next(folder for folder in folders if checkpoint_path(folder).exists())
