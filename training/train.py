"""The loop around an objective: steps, averaged weights, schedule, checkpoints, exact resume, log."""

from __future__ import annotations

import copy
import csv
import io
import logging
import os
import time
from collections.abc import Callable, Iterator
from contextlib import closing, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from torch import nn

from vderain.errors import OptionError, SinkError, TrainingError, WeightsError
from vderain.files import folder_for_work
from vderain.flow.prefetch import prefetch
from vderain.network.base import ChangeNetwork
from vderain.network.build import build_network
from vderain.network.config import NetworkConfig
from vderain.network.growth import grown
from vderain.network.inference.fold import with_frames, with_median, without_norms
from vderain.network.nlcl import NlclNetwork, begin_near_identity
from vderain.network.semi_drdnet import SemiDRDNet
from vderain.training.checkpoint import load_checkpoint, save_checkpoint
from vderain.training.config.base import RunConfig
from vderain.training.config.methods import AnyTrainConfig, state_config
from vderain.training.config.nlcl import NlclTrainConfig
from vderain.training.config.semi_drdnet import TrainConfig
from vderain.training.distributed import World, average_gradients, broadcast_state
from vderain.training.export import hardware
from vderain.training.methods.nlcl.objective import NlclObjective
from vderain.training.methods.objective import Batch, Objective
from vderain.training.methods.semi_drdnet import SemiDrdnetObjective
from vderain.weights import find_weights, load_network

_log = logging.getLogger(__name__)
_PREFETCHED_BATCHES = 8
_PRECISIONS = {"float32": None, "bfloat16": torch.bfloat16, "float16": torch.float16}


@dataclass(frozen=True, slots=True)
class TrainProgress:
    """How far a run is: handed to ``on_step`` after each step; ``loss`` is that step's."""

    step: int
    steps: int
    loss: float
    waiting_share: float  # of the time since the start that the network waited for data


class Trainer:
    """A run that can stop at any time, and resume from its last checkpoint as if it had not stopped.

    Batches are drawn from (seed, step), so that on a CPU with one thread a resumed run equals the
    uninterrupted one.
    """

    def __init__(
        self,
        config: AnyTrainConfig,
        run_dir: Path,
        world: World | None = None,
        objective: Objective | None = None,
        kept: Path | None = None,
    ) -> None:
        """``objective`` in place of the method's own.

        A teacher's predictions are below ``kept``, or below the run's folder.
        """
        self.config = config
        self.run_dir = run_dir
        self._kept = kept or run_dir
        self.data: Path | None = None  # the folder of the sources
        self.world = world or World()
        self.step = 0
        self.seconds = 0.0
        self.history = _initial_history(config)
        self._stopped = False
        self.saved_step = 0  # what the checkpoint holds; 0 where there is none
        torch.manual_seed(config.seed)
        device = self.world.device
        self.network = _initial_network(config).to(device)
        self.network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]  # undeclared in torch
        self.objective = (objective or _objective(config)).to(device)
        # The same parameters: what is saved and averaged stays the plain network.
        self._forward = torch.compile(self.network) if config.compiled else self.network
        self.averaged = copy.deepcopy(self.network).requires_grad_(False)
        self._trained = [*self.network.parameters(), *self.objective.head_parameters()]
        self.optimizer = torch.optim.Adam(self._trained, config.learning_rate, self.objective.betas)
        self._scaler = torch.amp.GradScaler(device.type, enabled=config.precision == "float16")
        broadcast_state([self.network, self.averaged, self.objective], self.world)

    @property
    def checkpoint(self) -> Path:
        """Where this run's state is kept."""
        return self.run_dir / "checkpoint.pt"

    def stop(self) -> None:
        """End the run after the step at hand, for ``on_step``; the checkpoint is that of the last one saved."""
        self._stopped = True

    def train(self, data: Path, on_step: Callable[[TrainProgress], None] | None = None) -> None:
        """Run to ``config.steps`` on the folders below ``data``, resuming where there is a checkpoint.

        Raises SourceError for the data, SinkError for a checkpoint that cannot be written, WeightsError
        for one that cannot be read, TrainingError for a loss or a weight that is not a number.
        """
        with folder_for_work(self.run_dir):
            if self.checkpoint.exists():
                self.resume()
            if self.step >= self.config.steps:
                return
            cv2.setNumThreads(1)  # the batches are made during the training step
            since = time.monotonic()
            self.data = data
            batches = self.objective.batches(data, self._kept, self.step, self.world)
        self.network.train()
        with closing(prefetch(batches, _PREFETCHED_BATCHES)) as ahead:
            self._steps(ahead, on_step, since)

    def _steps(
        self,
        batches: Iterator[Batch],
        on_step: Callable[[TrainProgress], None] | None,
        since: float,
    ) -> None:
        log = _Log(self.run_dir / "log.csv", self.step) if self.world.rank == 0 else None
        began = time.monotonic()
        waited_s: float | None = None
        while self.step < self.config.steps and not self._stopped:
            asked = time.monotonic()
            batch = next(batches)
            if waited_s is None:  # the first batch nobody can have ready
                waited_s, began = 0.0, time.monotonic()
            else:
                waited_s += time.monotonic() - asked
            terms = self.train_step(batch)
            if not np.isfinite(terms["loss"]):
                raise self._not_a_number(f"the loss is {terms['loss']}")
            share = waited_s / max(1e-9, time.monotonic() - began)
            if log is not None:
                log.add(terms)
            if self.step % self.config.checkpoint_every == 0 or self.step == self.config.steps:
                self.seconds += time.monotonic() - since
                since = time.monotonic()
                if not self._is_finite():  # the loss of the next step would show it, but too late
                    raise self._not_a_number("a weight is not a finite number")
                if log is not None:
                    self.save()
                    log.write(
                        self.step, self.seconds, self.objective.learning_rate(self.step), share
                    )
            if on_step is not None:
                on_step(TrainProgress(self.step, self.config.steps, terms["loss"], share))

    def _not_a_number(self, what: str) -> TrainingError:
        advice = "begin again with a lower learning_rate"
        if self.saved_step:
            advice = f"the last good state is {self.checkpoint}; go on from it with a lower learning_rate"
        return TrainingError(f"step {self.step}: {what}; {advice}")

    def _is_finite(self) -> bool:
        parts = (self.network, self.averaged, self.objective)
        values = (value for part in parts for value in part.state_dict().values())
        return all(bool(value.isfinite().all()) for value in values)

    def train_step(self, batch: Batch) -> dict[str, float]:
        """One optimiser step; returns the loss and its terms."""
        device = self.world.device
        batch = batch.to(device)
        dtype = _PRECISIONS[self.config.precision]
        with torch.autocast(device.type, dtype, enabled=dtype is not None):
            terms = self.objective(self._forward, batch, self.step)
        self.optimizer.zero_grad()
        self._scaler.scale(terms["loss"]).backward()
        average_gradients(self._trained, self.world)  # so that all find what overflowed in one
        self._scaler.unscale_(self.optimizer)
        if self.config.clip_norm:
            nn.utils.clip_grad_norm_(self.network.parameters(), self.config.clip_norm)
            if heads := list(self.objective.head_parameters()):
                nn.utils.clip_grad_norm_(heads, self.config.clip_norm)
        for group in self.optimizer.param_groups:
            group["lr"] = self.objective.learning_rate(self.step)
        self._scaler.step(self.optimizer)
        self._scaler.update()
        self.objective.train_encoder(self.world)
        self.step += 1
        self._average()
        return {name: float(term.detach()) for name, term in terms.items()}

    def _average(self) -> None:
        decay = min(self.config.ema, self.step / (self.step + 10))
        pairs = zip(
            self.averaged.state_dict().values(), self.network.state_dict().values(), strict=True
        )
        for averaged, current in pairs:
            if averaged.is_floating_point():
                averaged.lerp_(current, 1 - decay)
            else:
                averaged.copy_(current)

    def _parts(self) -> dict[str, Any]:
        """Everything with a state."""
        return {
            "network": self.network,
            "averaged": self.averaged,
            "objective": self.objective,
            "optimizer": self.optimizer,
            "encoder_optimizer": self.objective.encoder_optimizer,
            "scaler": self._scaler,
        }

    def save(self) -> None:
        """Replace the checkpoint; SinkError, and the old one kept, where it cannot be written."""
        parts = {
            name: part.state_dict() for name, part in self._parts().items() if part is not None
        }
        state = {"step": self.step, "seconds": self.seconds, "history": self.history}
        state |= {"method": self.config.method, "folder": str((self.data or Path()).resolve())}
        state |= hardware(self.world)
        save_checkpoint(self.checkpoint, {**state, "config": self.config.to_state(), **parts})
        self.saved_step = self.step

    def resume(self) -> None:
        """Continue from the checkpoint; WeightsError or OptionError where it does not fit this run."""
        state = load_checkpoint(self.checkpoint)
        theirs = state_config(state, self.checkpoint)
        if type(theirs) is not type(self.config):
            raise OptionError(
                f"{self.checkpoint}: belongs to a run of method {theirs.method}, "
                f"this is {self.config.method}; choose another run folder"
            )
        changes = self.config.differences(theirs)
        if fixed := self.config.fixed_differences(theirs):  # type: ignore[arg-type]  # of one class
            differences = "; ".join(
                f"{name} {changes[name][1]!r}, now {changes[name][0]!r}" for name in fixed
            )
            raise OptionError(
                f"{self.checkpoint}: belongs to another configuration ({differences}); "
                "choose another run folder, or the old settings"
            )
        try:
            for name, part in self._parts().items():
                # A run in another precision leaves a scaler without a state.
                if part is not None and not (part is self._scaler and not state[name]):
                    part.load_state_dict(state[name])
            self.step, self.seconds, self.history = (
                state["step"],
                state["seconds"],
                state["history"],
            )
        except (KeyError, RuntimeError, ValueError) as error:
            reason = str(error).splitlines()[0]
            raise WeightsError(f"{self.checkpoint}: does not fit this run ({reason})") from None
        self.saved_step = self.step
        _log.info("%s: resumes from step %d", self.run_dir, self.step)
        for name in sorted(set(changes) - {"data", "terms", "cache_mb"}):
            self.history.append(
                f"from step {self.step}: {name} {changes[name][1]} -> {changes[name][0]}"
            )


def _objective(config: AnyTrainConfig) -> Objective:
    if isinstance(config, NlclTrainConfig):
        return NlclObjective(config)
    if isinstance(config, TrainConfig):
        return SemiDrdnetObjective(config)
    raise OptionError(f"method {config.method}: runs by its own command, vderain {config.method}")


def _initial_network(config: RunConfig) -> ChangeNetwork:
    """A network of random weights, or of those that the run starts from.

    A run without batch normalisation may start from weights with it, which is absorbed; one of several
    frames from weights of fewer, and begins by looking at those alone; a larger one from smaller weights.
    """
    wanted = config.network_config
    if config.initial is None:
        network = build_network(wanted)
        if isinstance(config, NlclTrainConfig) and config.statistics == "unit":
            assert isinstance(network, NlclNetwork)
            begin_near_identity(network)
        return network
    path, card = find_weights(config.tier, config.initial)
    if card.network != wanted.kind:
        raise WeightsError(
            f"{path}: cannot be the initial weights, its network is {card.network}, not {wanted.kind}"
        )
    network = load_network(path, card)
    if (
        isinstance(network, SemiDRDNet)
        and isinstance(wanted, NetworkConfig)
        and not wanted.normalised
    ):
        network = without_norms(network)
    if isinstance(network, SemiDRDNet) and isinstance(wanted, NetworkConfig):
        network = _enlarged(network, wanted)
    if network.config != wanted:
        theirs, ours = card.config.to_dict(), wanted.to_dict()
        differences = [f"{n} {theirs[n]}, not {ours[n]}" for n in ours if theirs[n] != ours[n]]
        raise WeightsError(
            f"{path}: cannot be the initial weights, its network has {'; '.join(differences)}; "
            "set network to the same, or leave initial out"
        )
    return network.requires_grad_(True)


def _enlarged(network: SemiDRDNet, wanted: NetworkConfig) -> SemiDRDNet:
    """The network as one of the shape ``wanted`` that predicts as before, as far as possible."""
    theirs = network.config
    if theirs.fusion == "gates" and wanted.fusion == "median" and theirs.frames > 1:
        seen = replace(theirs, frames=wanted.frames, fusion=wanted.fusion, ranks=wanted.ranks)
        network = with_median(network, seen)
    elif theirs.fusion == wanted.fusion == "gates" and theirs.frames < wanted.frames:
        network = with_frames(network, wanted.frames)
    if network.config != wanted:
        with suppress(ValueError):  # the caller says what differs
            return grown(network, wanted)
    return network


def _initial_history(config: RunConfig) -> list[str]:
    """What is known of the weights that a run starts from, for the card."""
    if config.initial is None:
        return []
    path, card = find_weights(config.tier, config.initial)
    steps = card.training.get("steps", "unknown")
    differences = [f"{path.name}: {change}" for change in card.training.get("changes", [])]
    return [*differences, f"began with {path.name}, trained for {steps} steps"]


class _Log:
    """``log.csv``: the mean of every term since the line before. Lines after the resumed step are dropped."""

    def __init__(self, path: Path, step: int) -> None:
        self._path = path
        self._sums: dict[str, list[float]] = {}
        self._rows: list[dict[str, Any]] = []
        if path.exists() and step:
            try:
                with path.open(newline="", encoding="utf-8") as file:
                    self._rows = [row for row in csv.DictReader(file) if int(row["step"]) <= step]
            except (OSError, KeyError, TypeError, ValueError, csv.Error) as error:
                raise SinkError(
                    f"{path}: not a log that can be continued ({error}); move it away"
                ) from None

    def add(self, terms: dict[str, float]) -> None:
        for name, value in terms.items():
            self._sums.setdefault(name, []).append(value)

    def write(self, step: int, seconds: float, rate: float, waiting: float) -> None:
        """Add a line; the whole file is written, since terms may be added during a run."""
        means = {name: f"{np.mean(values):.5f}" for name, values in self._sums.items()}
        self._sums.clear()
        row = {"step": step, "seconds": round(seconds, 1), "learning_rate": f"{rate:.2e}"}
        self._rows.append({**row, "waiting_share": f"{waiting:.3f}", **means})
        names = list(dict.fromkeys(name for known in self._rows for name in known))
        text = io.StringIO()
        writer = csv.DictWriter(text, names, restval="", lineterminator="\n")
        writer.writeheader()
        writer.writerows(self._rows)
        written = self._path.with_suffix(".part")
        try:
            written.write_text(text.getvalue(), encoding="utf-8")
            os.replace(written, self._path)
        except OSError as error:
            with suppress(OSError):
                written.unlink(missing_ok=True)
            raise SinkError(f"{self._path}: cannot be written ({error})") from error
