"""What a step of Semi-DRDNet minimises: the supervised pair, a teacher's predictions, the dual contrast."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from vderain.network.semi_drdnet import SemiDRDNet
from vderain.training.config.semi_drdnet import TrainConfig
from vderain.training.distributed import World, average_gradients
from vderain.training.losses.dual_contrast import ContrastBatch, ContrastOptions, DualContrast
from vderain.training.losses.encoders import Discriminator, Encoder, Vgg19Features
from vderain.training.losses.supervised import supervised_loss
from vderain.training.methods.batches import StepBatch, step_batches
from vderain.training.methods.objective import Objective

_ENCODER_RATE, _ENCODER_BETAS = 2e-4, (0.5, 0.999)  # of NLCL's discriminator


class SemiDrdnetObjective(Objective):
    """The losses of a run; holds the contrast's encoder and heads, which are trained together with the network.

    The encoder learns from the first step on, the network is contrasted only after the supervised warm-up:
    an encoder that does not yet distinguish rain from background teaches nothing.
    """

    def __init__(self, config: TrainConfig) -> None:
        super().__init__()
        self._config = config
        self.contrast = _dual_contrast(config) if config.is_semi_supervised else None
        encoder = list(self.contrast.encoder_parameters()) if self.contrast is not None else []
        self.encoder_optimizer = (
            torch.optim.Adam(encoder, _ENCODER_RATE, _ENCODER_BETAS) if encoder else None
        )
        self._compared: ContrastBatch | None = None
        # Seeded again at each step, so that a run can be resumed.
        self._generator = torch.Generator()

    def batches(self, data: Path, kept: Path, start: int, world: World) -> Iterator[StepBatch]:
        """What ``batches.step_batches`` yields."""
        return step_batches(self._config, data, kept, start, world)

    def learning_rate(self, step: int) -> float:
        """A short rise, then half a cosine down to 0 at the last step."""
        config = self._config
        warm_up = max(1, min(config.warmup_steps, config.steps // 10))
        warm = min(1.0, (step + 1) / warm_up)
        done = min(1.0, step / config.steps)
        return float(config.learning_rate * (warm * 0.5 * (1 + np.cos(np.pi * done))))

    def head_parameters(self) -> Iterator[nn.Parameter]:
        """What the network's optimiser trains in addition to the network."""
        if self.contrast is not None:
            yield from self.contrast.head_parameters()

    def forward(self, network: SemiDRDNet, batch: StepBatch, step: int) -> dict[str, Tensor]:
        """Scalars by name; ``loss`` is their weighted sum, the one to minimise."""
        config = self._config
        streaks, detail = (part.float() for part in network(batch.rainy))
        rainy = batch.rainy[:, :3]
        dry = (rainy == batch.background).flatten(1).all(1)
        target = batch.background
        if batch.answer is not None:
            target = target.lerp(batch.answer, config.teacher_share)
        supervised = supervised_loss(
            rainy,
            target,
            streaks,
            detail,
            derained_weight=config.derained_weight,
            sample_weights=torch.where(dry, config.dry_weight, 1.0),
            pixel_weights=batch.weight,
            penalty=config.penalty,
            ssim_weight=config.ssim_weight,
        )
        terms = {"supervised": supervised}
        total = supervised
        self._compared = None
        if self.contrast is not None and batch.real is not None and batch.clean is not None:
            self._generator.manual_seed(config.seed * 1_000_003 + step)
            contrasted = step >= config.semi_from * config.steps
            with torch.set_grad_enabled(contrasted and torch.is_grad_enabled()):
                self._compared = _compared(network, batch, streaks, detail)
            if contrasted:
                sides = self.contrast(self._compared, self._generator)
                terms["background"], terms["rain"] = sides
                total = total + config.background_contrast * terms["background"]
                total = total + config.rain_contrast * terms["rain"]
        return {"loss": total, **terms}

    def train_encoder(self, world: World) -> None:
        """One step of the discriminator on what the network just predicted."""
        if self._compared is None or self.encoder_optimizer is None or self.contrast is None:
            return
        self.encoder_optimizer.zero_grad()
        device = world.device.type
        enabled = self._config.precision != "float32"
        with torch.autocast(device, torch.bfloat16, enabled=enabled):
            loss = self.contrast.discriminator_loss(self._compared, self._generator)
        loss.backward()  # type: ignore[no-untyped-call]  # undeclared in torch
        average_gradients(self.contrast.encoder_parameters(), world)
        self.encoder_optimizer.step()
        self._compared = None


def _compared(
    network: SemiDRDNet, batch: StepBatch, streaks: Tensor, detail: Tensor
) -> ContrastBatch:
    assert batch.real is not None and batch.clean is not None
    rainy = batch.rainy[:, :3]
    unseen = network.config.channels - 3  # neighbours, which differ nowhere
    still = F.pad(batch.real, (0, 0, 0, 0, 0, unseen))
    with frozen_statistics(network):
        real_streaks, real_detail = (part.float() for part in network(still))
    return ContrastBatch(
        rainy=rainy,
        background=batch.background,
        repaired=rainy - streaks + detail,
        real_rainy=batch.real,
        real_streaks=real_streaks,
        real_repaired=batch.real - real_streaks + real_detail,
        clean=batch.clean,
        mined=batch.mined,
    )


@contextmanager
def frozen_statistics(network: nn.Module) -> Iterator[None]:
    """Let batch normalisation use what it knows and learn nothing: real rain would shift it."""
    norms = [m for m in network.modules() if isinstance(m, nn.BatchNorm2d) and m.training]
    for norm in norms:
        norm.eval()
    try:
        yield
    finally:
        for norm in norms:
            norm.train()


def _dual_contrast(config: TrainConfig) -> DualContrast:
    encoder: Encoder
    if config.encoder == "vgg19":
        encoder = Vgg19Features(Path(config.encoder_weights or ""))
    else:
        encoder = Discriminator(width=config.encoder_width)
    background, rain = config.contrasted_sides
    options = ContrastOptions(background=background, rain=rain)
    return DualContrast(encoder, options)
