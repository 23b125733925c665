"""Supervised training of Semi-DRDNet on patches: setup, steps, checkpoint, export."""

from __future__ import annotations

import copy
import csv
import os
import time
import tomllib
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from torch import Tensor, nn

from vderain.errors import OptionError
from vderain.network.config import TIERS
from vderain.network.semi_drdnet import SemiDRDNet
from vderain.prefetch import prefetch
from vderain.training.datasets import READERS, Batch, PatchSampler

_PREFETCHED_BATCHES = 8


@dataclass(frozen=True, slots=True)
class TrainConfig:
    """One training run; a TOML file holds the same names.

    Attributes:
        tier: which network configuration is trained.
        sources: name -> {"reader": one of READERS, "path": folder below ``data``, "share": weight}.
        steps: optimiser steps of the whole run; the cosine schedule ends there.
        patch: side of a training patch in pixels, a multiple of the tier's unshuffle factor.
        dry_share: how many of the rendered samples stay dry.
        derained_weight: of L1(rainy - R) beside L1(rainy - R + D), 0.1 in the paper.
        dry_weight: how much more a dry sample counts than a rainy one.
        ema: decay per step of the averaged weights, which are the ones exported.
        bfloat16: autocast the convolutions to bfloat16.
        data: what the sources are, in words, for the card.
        terms: under which terms the weights may be used, for the card.
        history: how the run was changed on its way, for the card.

    """

    tier: str = "fast"
    sources: dict[str, dict[str, Any]] = field(default_factory=dict)
    steps: int = 20_000
    batch: int = 16
    patch: int = 128
    learning_rate: float = 1e-3
    warmup_steps: int = 200
    dry_share: float = 0.12
    derained_weight: float = 0.1
    dry_weight: float = 1.0
    clip_norm: float = 1.0
    ema: float = 0.999
    seed: int = 1
    bfloat16: bool = True
    checkpoint_every: int = 500
    data: str = ""
    terms: str = ""
    history: str = ""

    def __post_init__(self) -> None:
        if self.tier not in TIERS:
            raise OptionError(f"tier {self.tier}: choose one of {', '.join(TIERS)}")
        if self.patch % TIERS[self.tier].unshuffle:
            raise OptionError(
                f"patch {self.patch}: must be a multiple of {TIERS[self.tier].unshuffle}"
            )
        if not self.sources:
            raise OptionError("sources: name at least one folder to train on")

    @classmethod
    def load(cls, path: Path) -> TrainConfig:
        """Read a TOML file; OptionError for a name that does not exist."""
        values = tomllib.loads(path.read_text())
        unknown = set(values) - {item.name for item in fields(cls)}
        if unknown:
            raise OptionError(f"{path}: unknown settings {', '.join(sorted(unknown))}")
        return cls(**values)


def load_sampler(config: TrainConfig, data: Path, seed: int) -> PatchSampler:
    """Read all sources below ``data`` into memory."""
    sources = {
        name: list(READERS[source["reader"]](data / source["path"]))
        for name, source in config.sources.items()
    }
    shares = {name: float(source["share"]) for name, source in config.sources.items()}
    return PatchSampler(
        sources,
        shares,
        patch=config.patch,
        batch=config.batch,
        dry_share=config.dry_share,
        seed=seed,
    )


class Trainer:
    """A run that can stop at any time and go on from its last checkpoint."""

    def __init__(self, config: TrainConfig, run_dir: Path) -> None:
        torch.manual_seed(config.seed)
        self.config = config
        self.run_dir = run_dir
        self.step = 0
        self.seconds = 0.0
        self.device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        network = SemiDRDNet(TIERS[config.tier]).to(self.device)
        network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]  # undeclared in torch
        self.network = network
        self.averaged = copy.deepcopy(network).requires_grad_(False)
        self.optimizer = torch.optim.Adam(network.parameters(), config.learning_rate)
        self.schedule = torch.optim.lr_scheduler.LambdaLR(
            self.optimizer, self._learning_rate_factor
        )

    @property
    def checkpoint(self) -> Path:
        """Where this run's state is kept."""
        return self.run_dir / "checkpoint.pt"

    def train(self, data: Path) -> None:
        """Run to ``config.steps``, resuming from the checkpoint where there is one."""
        self.run_dir.mkdir(parents=True, exist_ok=True)
        if self.checkpoint.exists():
            self.load()
        cv2.setNumThreads(1)  # the batches are made beside the training step
        sampler = load_sampler(self.config, data, self.config.seed + self.step)
        self.network.train()
        with closing(prefetch(sampler, _PREFETCHED_BATCHES)) as batches:
            self._steps(batches)

    def _steps(self, batches: Iterator[Batch]) -> None:
        losses: list[float] = []
        since = time.monotonic()
        while self.step < self.config.steps:
            loss = self.train_step(next(batches))
            if not np.isfinite(loss):
                raise ArithmeticError(
                    f"step {self.step}: the loss is {loss}; the last good state is {self.checkpoint}"
                )
            losses.append(loss)
            if self.step % self.config.checkpoint_every == 0 or self.step == self.config.steps:
                self.seconds += time.monotonic() - since
                since = time.monotonic()
                self.save()
                self._log(float(np.mean(losses)))
                losses.clear()

    def train_step(self, batch: Batch) -> float:
        """One optimiser step; returns the loss."""
        rainy, background = (
            torch.from_numpy(side).to(self.device, memory_format=torch.channels_last)
            for side in batch
        )
        with torch.autocast(self.device.type, torch.bfloat16, enabled=self.config.bfloat16):
            streaks, detail = self.network(rainy)
        dry = (rainy == background).flatten(1).all(1)
        weights = torch.where(dry, self.config.dry_weight, 1.0)
        loss = supervised_loss(
            rainy, background, streaks, detail, self.config.derained_weight, weights
        )
        self.optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        nn.utils.clip_grad_norm_(self.network.parameters(), self.config.clip_norm)
        self.optimizer.step()
        self.schedule.step()
        self.step += 1
        self._average()
        return float(loss.detach())

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

    def _learning_rate_factor(self, step: int) -> float:
        warm = min(1.0, (step + 1) / self.config.warmup_steps)
        return float(warm * 0.5 * (1 + np.cos(np.pi * min(1.0, step / self.config.steps))))

    def save(self) -> None:
        """Write the state beside the old one, then replace it: a full disk or a kill loses nothing."""
        state = {
            "step": self.step,
            "seconds": self.seconds,
            "network": self.network.state_dict(),
            "averaged": self.averaged.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "schedule": self.schedule.state_dict(),
        }
        written = self.checkpoint.with_suffix(".part")
        torch.save(state, written)
        os.replace(written, self.checkpoint)

    def load(self) -> None:
        """Go on from the checkpoint."""
        state = torch.load(self.checkpoint, map_location=self.device, weights_only=True)
        self.step, self.seconds = state["step"], state["seconds"]
        for name in ("network", "averaged", "optimizer", "schedule"):
            getattr(self, name).load_state_dict(state[name])

    def _log(self, loss: float) -> None:
        path = self.run_dir / "log.csv"
        fresh = not path.exists()
        with path.open("a", newline="") as file:
            log = csv.writer(file)
            if fresh:
                log.writerow(["step", "seconds", "loss", "learning_rate"])
            rate = self.schedule.get_last_lr()[0]
            log.writerow([self.step, round(self.seconds, 1), f"{loss:.5f}", f"{rate:.2e}"])


def supervised_loss(
    rainy: Tensor,
    background: Tensor,
    streaks: Tensor,
    detail: Tensor,
    derained_weight: float,
    sample_weights: Tensor,
) -> Tensor:
    """0.1 L1(rainy - R, background) + L1(rainy - R + D, background), of DRD-Net.

    Pictures (N, 3, P, P); ``sample_weights`` (N,) are ours.
    """
    derained = rainy - streaks.float()
    error = derained_weight * (derained - background).abs()
    error = error + (derained + detail.float() - background).abs()
    return (error.mean((1, 2, 3)) * sample_weights).mean()


def with_steps(config: TrainConfig, steps: int | None) -> TrainConfig:
    """The config with another length, where one is given."""
    return config if steps is None else replace(config, steps=steps)
