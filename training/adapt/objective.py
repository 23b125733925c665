"""The losses of an adaptation: the distance to the known part of a target, kept predictions, an optional contrast."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import ClassVar

import torch
from torch import Tensor, nn

from vderain.network.base import ChangeNetwork
from vderain.network.semi_drdnet import SemiDRDNet
from vderain.training.adapt.samples import KEPT, MADE, REAL, AdaptBatch, LessonSampler
from vderain.training.config.adapt import AdaptConfig
from vderain.training.distributed import World
from vderain.training.losses.dual_contrast import ContrastBatch, ContrastOptions, DualContrast
from vderain.training.losses.encoders import Discriminator
from vderain.training.methods.objective import Objective

_RISE = 30  # steps over which the learning rate rises
_BETAS = (0.9, 0.999)


class AdaptObjective(Objective):
    """Mean absolute error of the derained patches where their target is known, and of kept predictions' change.

    The target of kept samples is the prediction of the original weights.
    The contrast is that of Semi-DRDNet's semi-supervised training (``losses.dual_contrast``), with patches of the
    footage as its real rain; both of its weights are 0 by default (training/RESULTS.md says why).
    """

    betas: ClassVar[tuple[float, float]] = _BETAS

    def __init__(
        self, config: AdaptConfig, sampler: LessonSampler, original: ChangeNetwork
    ) -> None:
        super().__init__()
        self._predict = original.change  # a module of its own would be saved with each checkpoint
        self._config, self._sampler = config, sampler
        self.contrast: DualContrast | None = None
        sides = (config.background_contrast > 0, config.rain_contrast > 0)
        if any(sides):
            options = ContrastOptions(background=sides[0], rain=sides[1])
            self.contrast = DualContrast(Discriminator(width=config.encoder_width), options)
            self.encoder_optimizer = torch.optim.Adam(
                self.contrast.encoder_parameters(), 2e-4, (0.5, 0.999)
            )
        self._compared: ContrastBatch | None = None
        # Seeded again at each step, so that a run can be resumed.
        self._generator = torch.Generator()

    def batches(self, data: Path, kept: Path, start: int, world: World) -> Iterator[AdaptBatch]:
        """What the sampler draws."""
        del data, kept, world
        return self._sampler.batches(start)

    def learning_rate(self, step: int) -> float:
        """Up in a line, then constant: a run ends where the validation split says so."""
        return self._config.learning_rate * min(1.0, (step + 1) / _RISE)

    def head_parameters(self) -> Iterator[nn.Parameter]:
        """Of the contrast's heads."""
        if self.contrast is not None:
            yield from self.contrast.head_parameters()

    def forward(self, network: ChangeNetwork, batch: AdaptBatch, step: int) -> dict[str, Tensor]:
        """Scalars by name."""
        network.eval()  # normalise as the weights will be run; parameters are trained all the same
        streaks: Tensor | None = None
        if self.contrast is not None and isinstance(network, SemiDRDNet):
            streaks, detail = (part.float() for part in network(batch.rainy))
            change = detail - streaks
        else:
            change = network.change(batch.rainy).float()
        current = batch.rainy[:, :3]
        kept = batch.kinds == KEPT
        error = (current + change - batch.target).abs() * batch.weight * ~kept[:, None, None, None]
        distance = error.sum() / (3 * batch.weight.sum()).clamp(min=1)
        terms = {"distance": distance}
        total = distance
        if kept.any():
            with torch.no_grad():
                known = self._predict(batch.rainy[kept]).float()
            moved = (change[kept] - known).abs().sum() / (3 * batch.weight.sum())
            terms["kept"] = moved
            total = total + self._config.kept_weight * moved
        if self.contrast is not None and streaks is not None:
            self._compared = _compared(batch, streaks, change)
            if self._compared is not None:
                self._generator.manual_seed(self._config.seed * 1_000_003 + step)
                sides = self.contrast(self._compared, self._generator)
                terms |= {"background": sides.background, "rain": sides.rain}
                total = total + self._config.background_contrast * sides.background
                total = total + self._config.rain_contrast * sides.rain
        return {"loss": total, **terms}

    def train_encoder(self, world: World) -> None:
        """One step of the discriminator on what the network just predicted."""
        del world
        if self._compared is None or self.contrast is None or self.encoder_optimizer is None:
            return
        self.encoder_optimizer.zero_grad()
        loss = self.contrast.discriminator_loss(self._compared, self._generator)
        loss.backward()  # type: ignore[no-untyped-call]  # undeclared in torch
        self.encoder_optimizer.step()
        self._compared = None


def _compared(batch: AdaptBatch, streaks: Tensor, change: Tensor) -> ContrastBatch | None:
    """The patches by kind; None for a batch that lacks one."""
    real, made = batch.kinds == REAL, batch.kinds == MADE
    clean = ~real
    rainy = batch.rainy[:, :3]
    if not real.any() or not made.any():
        return None
    return ContrastBatch(
        rainy=rainy[made],
        background=batch.target[made],
        repaired=(rainy + change)[made],
        real_rainy=rainy[real],
        real_streaks=streaks[real],
        real_repaired=(rainy + change)[real],
        clean=batch.target[clean],
    )
