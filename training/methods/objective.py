"""The interface between trainer and method."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any, ClassVar, Protocol, Self

import torch
from torch import Tensor, nn

from vderain.training.distributed import World


class Batch(Protocol):
    """The patches of a step."""

    def to(self, device: torch.device) -> Self:
        """The same on a device."""


class Objective(nn.Module):
    """The losses of a run, with everything that has parameters, except the network.

    Called with the network, a batch and the step's number, it returns scalars by name; ``loss`` is
    their weighted sum, the one to minimise.

    Attributes:
        betas: of the Adam that trains the network and ``head_parameters``.
        encoder_optimizer: of what learns against the network, or None.

    """

    betas: ClassVar[tuple[float, float]] = (0.9, 0.999)
    encoder_optimizer: torch.optim.Optimizer | None = None

    def forward(self, network: Any, batch: Any, step: int) -> dict[str, Tensor]:
        """See above."""
        raise NotImplementedError

    def batches(self, data: Path, kept: Path, start: int, world: World) -> Iterator[Batch]:
        """Batches from step ``start`` on, without end; batch k depends on the seed and k alone.

        ``kept`` is a folder for what takes long to compute and serves later runs too.
        """
        raise NotImplementedError

    def learning_rate(self, step: int) -> float:
        """Of the step to come; from the settings alone, so that a resumed run may change them."""
        raise NotImplementedError

    def head_parameters(self) -> Iterator[nn.Parameter]:
        """What the network's optimiser trains in addition to the network."""
        yield from ()

    def train_encoder(self, world: World) -> None:
        """One step of ``encoder_optimizer``, after the network's, on what the network just predicted."""
