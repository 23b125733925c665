"""NLCL: two generators that learn from rainy and clean images of different scenes.

After "Unsupervised Deraining: Where Contrastive Learning Meets Self-similarity" (arXiv 2203.11509) and its
public code, less that code's faults: every projection head is trained, every level of an encoder is compared
and the image itself is not, and batches of any size and crops of any shape work.

A signed image has RGB in [-1, 1]. Shapes: N images, M vectors of an image, D numbers of a vector.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from vderain.errors import SourceError
from vderain.network.nlcl import NlclNetwork, begin_near_zero, without_statistics_updates
from vderain.training.config.nlcl import NlclTrainConfig
from vderain.training.data.images import CLIPS, IMAGES
from vderain.training.distributed import World, average_gradients
from vderain.training.losses.contrastive import labelled_contrast, location_contrast
from vderain.training.losses.encoders import (
    Discriminator,
    ProjectionHeads,
    frozen,
    frozen_levels,
    lsgan_discriminator_loss,
    lsgan_generator_loss,
)
from vderain.training.losses.layers import layer_image, pattern_image
from vderain.training.losses.sampling import draw_centres, features_at, non_local_neighbours
from vderain.training.methods.batches import UnpairedBatch, unpaired_batches
from vderain.training.methods.objective import Objective

_BETAS = (0.5, 0.999)


class NlclObjective(Objective):
    """NLCL's five terms; holds the rain generator, the discriminator and the three projection heads.

    The network's Adam trains the rain generator and every head with it: Adam keeps its moments for each
    parameter by itself, so this equals the public code's optimisers, one for each module, of one rate.
    """

    betas: ClassVar[tuple[float, float]] = _BETAS
    encoder_optimizer: torch.optim.Adam

    def __init__(self, config: NlclTrainConfig) -> None:
        super().__init__()
        self._config = config
        self.rain = NlclNetwork(config.network_config)
        if config.statistics == "unit":
            begin_near_zero(self.rain)
        self.discriminator = Discriminator(
            config.encoder_width,
            normalised=config.encoder_statistics == "own",
            texture_px=config.encoder_texture_px or None,
        )
        self.background_heads = ProjectionHeads(self.discriminator.channels)
        self.rain_heads = ProjectionHeads(self.discriminator.channels)
        self.location_heads = ProjectionHeads(self.rain.channels)
        self.encoder_optimizer = torch.optim.Adam(
            self.discriminator.parameters(), config.learning_rate * config.encoder_rate, _BETAS
        )
        self._shown: tuple[Tensor, Tensor] | None = None  # clean, background; in [0, 1]
        self._discriminator_loss: Tensor | None = None  # in the step before
        self._rate = config.learning_rate
        # Seeded again at each step, so that a run can be resumed.
        self._generator = torch.Generator()

    def batches(self, data: Path, kept: Path, start: int, world: World) -> Iterator[UnpairedBatch]:
        """What ``batches.unpaired_batches`` yields."""
        del kept
        return unpaired_batches(self._config, data, start, world)

    def learning_rate(self, step: int) -> float:
        """Constant, then in a line down to 0 behind the last step."""
        config = self._config
        falling = max(1.0, config.steps * (1 - config.constant_share))
        return config.learning_rate * min(1.0, max(0.0, (config.steps - step) / falling))

    def head_parameters(self) -> Iterator[nn.Parameter]:
        """Of the rain generator and the three sets of heads."""
        for part in (self.rain, self.background_heads, self.rain_heads, self.location_heads):
            yield from part.parameters()

    def forward(self, network: NlclNetwork, batch: UnpairedBatch, step: int) -> dict[str, Tensor]:
        """Scalars by name; a term whose weight is 0 is not computed."""
        config = self._config
        self._generator.manual_seed(config.seed * 1_000_003 + step)
        self._rate = self.learning_rate(step)
        if step < config.encoder_lead:
            self._shown = (batch.clean, batch.rainy)
            return {"loss": 0.0 * next(network.parameters()).sum(), **self._logged_terms()}
        shown, batch = batch, self._own_part(batch)
        signed = 2 * batch.rainy - 1
        if config.statistics == "unit":  # which the statistics pass leaves out
            network.eval()
            self.rain.eval()
        levels = network.levels(signed)
        background, rain = network.drawn(levels).float(), self.rain(signed).float()
        judged = frozen_levels(self.discriminator, layer_image(background))
        terms = {
            "consistency": (background + rain - signed).square().mean(),
            "sparsity": (signed - background).abs().mean(),
            "adversarial": lsgan_generator_loss(self._frozen_score(judged[-1])),
        }
        if config.brightening:
            terms["brightening"] = (background - signed).relu().mean()
        # Where an image is not a number no patch is like another; the loss shows it without the contrasts.
        finite = bool(terms["consistency"].isfinite())
        if config.layer_contrast and finite:
            terms["layer_contrast"] = self._layer_contrast(background, rain, judged)
        if config.location_contrast and finite:
            # The statistics pass sees what the network will see: rainy images, not its own predictions.
            with without_statistics_updates(network):
                terms["location_contrast"] = self._both_locations(
                    network, background, signed, levels, 2 * batch.clean - 1
                )
        others = 2 * shown.rainy[len(batch.rainy) :] - 1
        drawn = torch.cat((background.detach(), *_predictions(network, others)))
        self._shown = (shown.clean, layer_image(drawn))
        total = sum(getattr(config, name) * term for name, term in terms.items())
        return {"loss": torch.as_tensor(total), **terms, **self._logged_terms()}

    def train_encoder(self, world: World) -> None:
        """One step of the discriminator: clean crops are real, the backgrounds just drawn are not."""
        if self._shown is None:
            return
        clean, background = self._shown
        self._shown = None
        optimizer = self.encoder_optimizer
        for group in optimizer.param_groups:
            group["lr"] = self._rate * self._config.encoder_rate
        optimizer.zero_grad()
        device = world.device.type
        enabled = self._config.precision != "float32"
        with torch.autocast(device, torch.bfloat16, enabled=enabled):
            scores = self.discriminator.score(torch.cat((clean, background)))
            loss = lsgan_discriminator_loss(scores[: len(clean)], scores[len(clean) :])
        self._discriminator_loss = loss.detach()
        loss.backward()  # type: ignore[no-untyped-call]  # undeclared in torch
        average_gradients(self.discriminator.parameters(), world)
        optimizer.step()

    def _own_part(self, batch: UnpairedBatch) -> UnpairedBatch:
        """What the generators learn from; the rest is for the discriminator alone."""
        if self._config.encoder_batch <= self._config.batch:
            return batch
        own = slice(self._config.batch)
        return UnpairedBatch(batch.rainy[own], batch.clean[own])

    def _logged_terms(self) -> dict[str, Tensor]:
        """The discriminator's last loss, for the log."""
        return (
            {} if self._discriminator_loss is None else {"discriminator": self._discriminator_loss}
        )

    def _frozen_score(self, deepest: Tensor) -> Tensor:
        """The discriminator's scores of its deepest level; its own parameters learn nothing from them."""
        scores: Tensor = frozen(self.discriminator.tail, deepest)
        return scores

    def _layer_contrast(self, background: Tensor, rain: Tensor, judged: list[Tensor]) -> Tensor:
        """Self-similar patches of a layer pull together, the layers push apart; mean over all levels.

        Heads of their own distinguish the layers whatever these show, and one set for both by how strong they
        are; so patterns have one set, and one amplitude (ours).
        """
        background_heads, rain_heads, shown = self.background_heads, self.rain_heads, layer_image
        if self._config.layers == "pattern":
            rain_heads, shown = background_heads, pattern_image
            judged = frozen_levels(self.discriminator, shown(background))
        of_rain = frozen_levels(self.discriminator, shown(rain))
        return _apart(
            background_heads(self._similar(background, judged)),
            rain_heads(self._similar(rain, of_rain, rain=True)),
        )

    def _similar(self, layer: Tensor, levels: list[Tensor], *, rain: bool = False) -> list[Tensor]:
        """Features of the patches most like those of ``centres`` places, (N, centres, patches, C) per level."""
        config, layer = self._config, layer.detach()
        busy = rain and config.layers == "pattern"  # where a layer is empty it has no pattern
        centres = draw_centres(layer, config.centres, busy=busy, generator=self._generator)
        count = config.rain_patches if rain else config.background_patches
        places = non_local_neighbours(layer, centres, count=count)
        size = (layer.shape[2], layer.shape[3])
        found = features_at(levels, places.flatten(1, 2), size)
        return [level.reshape(*places.shape[:3], -1) for level in found]

    def _both_locations(
        self,
        network: NlclNetwork,
        background: Tensor,
        signed: Tensor,
        levels: list[Tensor],
        clean: Tensor,
    ) -> Tensor:
        """The location contrast of rainy images, and of clean ones, whose predictions are drawn for it."""
        if (window := self._window(signed)) is not None:
            background, signed, clean = (part[window] for part in (background, signed, clean))
            with torch.no_grad():  # with the borders that the prediction's features have
                levels = network.levels(signed)
        clean_levels = network.levels(clean)
        prediction = network.drawn(clean_levels).float()
        return 0.5 * (
            self._location_contrast(network, background, signed, levels)
            + self._location_contrast(network, prediction, clean, clean_levels)
        )

    def _window(self, images: Tensor) -> tuple[slice, ...] | None:
        """A random part of ``location_px`` on each side; None for all."""
        side = self._config.location_px
        if not side:
            return None
        window = [slice(None), slice(None)]
        for length in images.shape[2:]:
            spare = max(0, length - side)
            start = int(torch.randint(spare + 1, (), generator=self._generator))
            window.append(slice(start, start + side))
        return tuple(window)

    def _location_contrast(
        self, network: NlclNetwork, prediction: Tensor, signed: Tensor, levels: list[Tensor]
    ) -> Tensor:
        """A place of the prediction is distinguished from other places of the input."""
        centres = draw_centres(signed, self._config.centres, generator=self._generator)
        return location_contrast(
            network.levels(prediction),
            [level.detach() for level in levels],
            signed,
            centres,
            self.location_heads,
            count=self._config.location_negatives,
        )


@torch.no_grad()
def _predictions(network: NlclNetwork, signed: Tensor) -> list[Tensor]:
    """Each image's background, (1, 3, H, W), for the discriminator alone."""
    with without_statistics_updates(network):
        return [network(signed[k : k + 1]).float() for k in range(len(signed))]


def _apart(background: Sequence[Tensor], rain: Sequence[Tensor]) -> Tensor:
    """The layer contrast of vectors (N, centres, patches, D) per level; mean over the levels."""
    counts = torch.tensor([levels[0].shape[-2] for levels in (background, rain)])
    labels = torch.arange(2).repeat_interleave(counts).to(rain[0].device)
    losses = [
        labelled_contrast(torch.cat(both, -2), labels)
        for both in zip(background, rain, strict=True)
    ]
    return torch.stack(losses).mean()


def footage_tables(folders: Sequence[Path], *, rainy: bool) -> dict[str, dict[str, Any]]:
    """A configuration's sources of the clips and images of some folders: rainy ones, or clean ones.

    Raises SourceError for a folder without either.
    """
    readers = {"rainy_clips": CLIPS, "real": IMAGES} if rainy else {"clips": CLIPS, "clean": IMAGES}
    tables: dict[str, dict[str, Any]] = {}
    for folder in folders:
        suffixes = {path.suffix.lower() for path in folder.rglob("*")}
        found = [reader for reader, known in readers.items() if suffixes & known]
        if not found:
            raise SourceError(
                f"{folder}: no images or clips below it; name a folder that holds some"
            )
        for reader in found:
            name = f"{reader}{len(tables) + 1}"
            tables[name] = {"reader": reader, "path": str(folder.resolve()), "share": 1.0}
    return tables
