"""The contrastive part of Semi-DRDNet, after the abstract of arXiv 2204.02772.

The formulation is ours, since the authors' code is unreleased. Shapes: N synthetic samples, M real rainy
crops, K clean crops, L mined layers; all crops of a step have the same H and W.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, fields
from typing import NamedTuple

import torch
from torch import Tensor, nn

from vderain.errors import OptionError
from vderain.training.losses.contrastive import TEMPERATURE, contrast
from vderain.training.losses.encoders import (
    SMALLEST_CROP_PX,
    Discriminator,
    Encoder,
    ProjectionHeads,
    frozen_levels,
    lsgan_discriminator_loss,
)
from vderain.training.losses.layers import (
    augmented_images,
    augmented_layers,
    draw_rows,
    high_pass,
    layer_image,
    rainy_rows,
)
from vderain.training.losses.sampling import draw_centres, features_at, non_local_neighbours

_ENCODED_TOGETHER = 16  # more only cost memory, and on a CPU the time to get it


@dataclass(frozen=True, slots=True)
class ContrastOptions:
    """What the contrastive terms compare.

    Attributes:
        background: compute the background side.
        rain: compute the rain side.
        synthetic_anchors: repaired synthetic images are anchors in addition to the real ones.
        centres: places per image, each with its own set of self-similar patches.
        background_patches: patches of such a set in a repaired image, 8 in NLCL.
        rain_patches: in a rain layer; NLCL takes 128, 32 cost less.
        patch_px: side of a patch.
        window_px: side of the window that is searched for similar patches.
        crop_px: side of the part of the crops, drawn again at each step, that is compared; None for all of
            it. The cost grows with the square.
        head_width: numbers in a hidden layer and in the output of a projection head.
        temperature: of the contrast.

    """

    background: bool = True
    rain: bool = True
    synthetic_anchors: bool = True
    centres: int = 1
    background_patches: int = 8
    rain_patches: int = 32
    patch_px: int = 16
    window_px: int = 40
    crop_px: int | None = 96
    head_width: int = 256
    temperature: float = TEMPERATURE

    def __post_init__(self) -> None:
        for name in ("centres", "background_patches", "rain_patches", "patch_px", "head_width"):
            if getattr(self, name) < 1:
                raise OptionError(f"{name} {getattr(self, name)}: must be at least 1")
        if self.crop_px is not None and self.crop_px < max(self.patch_px, SMALLEST_CROP_PX):
            smallest = max(self.patch_px, SMALLEST_CROP_PX)
            raise OptionError(f"crop_px {self.crop_px}: must be at least {smallest}")
        if self.temperature <= 0:
            raise OptionError(f"temperature {self.temperature}: must be above 0")


@dataclass(frozen=True, slots=True)
class ContrastBatch:
    """One step's images, float RGB in [0, 1], and layers, float around [-1, 1]; all (?, 3, H, W).

    Attributes:
        rainy: N synthetic rainy images.
        background: their ground truth.
        repaired: the network's output for ``rainy``, with its gradient.
        real_rainy: M real rainy crops.
        real_streaks: the rain branch's output for them, with its gradient.
        real_repaired: the network's output for them, with its gradient.
        clean: K real clean crops that belong to no rainy one.
        mined: L rain layers mined from real footage, or None.

    Raises OptionError where shapes differ, or real rainy or clean crops are missing.

    """

    rainy: Tensor
    background: Tensor
    repaired: Tensor
    real_rainy: Tensor
    real_streaks: Tensor
    real_repaired: Tensor
    clean: Tensor
    mined: Tensor | None = None

    def __post_init__(self) -> None:
        for item in fields(self):
            value = getattr(self, item.name)
            if value is not None and value.shape[1:] != self.rainy.shape[1:]:
                raise OptionError(
                    f"{item.name}: crops of {tuple(value.shape[1:])} next to {tuple(self.rainy.shape[1:])};"
                    " all crops of a step need one size"
                )
        for name in ("real_rainy", "clean"):
            if not len(getattr(self, name)):
                raise OptionError(f"{name}: the contrast needs at least one crop")
        for first, second in (
            ("rainy", "background"),
            ("rainy", "repaired"),
            ("real_rainy", "real_streaks"),
            ("real_rainy", "real_repaired"),
        ):
            if len(getattr(self, first)) != len(getattr(self, second)):
                raise OptionError(f"{second}: needs as many crops as {first}")

    def cropped(self, side_px: int, generator: torch.Generator | None = None) -> ContrastBatch:
        """The same window of every crop, at a random place; as it is where the crops are no larger."""
        window: list[slice] = []
        for length in self.rainy.shape[2:]:
            spare = max(0, length - side_px)
            start = int(torch.randint(spare + 1, (), generator=generator))
            window.append(slice(start, start + side_px))
        parts = {
            item.name: value[:, :, window[0], window[1]]
            for item in fields(self)
            if (value := getattr(self, item.name)) is not None
        }
        return ContrastBatch(**parts)


class ContrastTerms(NamedTuple):
    """Scalars to be weighted by the caller; zero where a side is off or had nothing to compare."""

    background: Tensor
    rain: Tensor


class DualContrast(nn.Module):
    """Dual sample-augmented contrastive regularisation (DSCR): what rain may look like, and what clean may.

    Background side: patches of repaired images are pulled to each other where self-similar, to clean
    crops and to ground truth, and pushed from rainy images and from themselves with a rain layer added
    (the sample augmentation: those differ from the anchor in rain only). Rain side: patches of the real
    images' streaks are pulled to synthetic and mined rain layers, and pushed from texture of clean
    images.

    A step takes two optimisers. The network's also holds ``head_parameters()``: the heads learn from the
    same backward pass as the network, each side's from its own term alone. ``encoder_parameters()`` go to
    the other, which minimises ``discriminator_loss``; the terms give the encoder no gradient.
    """

    def __init__(self, encoder: Encoder, options: ContrastOptions | None = None) -> None:
        super().__init__()
        self.options = options or ContrastOptions()
        self.encoder = encoder
        width = self.options.head_width

        def heads(wanted: bool) -> ProjectionHeads | None:
            sizes = {"hidden": width, "outputs": width}
            return ProjectionHeads(encoder.channels, **sizes) if wanted else None

        self.background_heads = heads(self.options.background)
        self.rain_heads = heads(self.options.rain)

    def head_parameters(self) -> Iterator[nn.Parameter]:
        """What the network's optimiser trains in addition to the network."""
        for heads in (self.background_heads, self.rain_heads):
            if heads is not None:
                yield from heads.parameters()

    def encoder_parameters(self) -> Iterator[nn.Parameter]:
        """What the discriminator's optimiser trains; nothing for an encoder that is not trained here."""
        if isinstance(self.encoder, Discriminator):
            yield from self.encoder.parameters()

    def forward(
        self, batch: ContrastBatch, generator: torch.Generator | None = None
    ) -> ContrastTerms:
        """The terms of one step; ``generator`` (on the CPU) draws the patches and augmentations."""
        batch = self._part(batch, generator)
        layers = _known_layers(batch)
        zero = batch.rainy.new_zeros(())
        background = rain = zero
        if self.background_heads is not None:
            background = self._background_term(self.background_heads, batch, layers, generator)
        if self.rain_heads is not None and len(layers):
            rain = self._rain_term(self.rain_heads, batch, layers, generator)
        return ContrastTerms(background, rain)

    def discriminator_loss(
        self, batch: ContrastBatch, generator: torch.Generator | None = None
    ) -> Tensor:
        """LSGAN on clean crops and ground truth against repaired real crops and rainy ones.

        The rainy ones are ours: they keep rain in the encoder's sight once repaired crops are clean, and
        synthetic ones differ from their ground truth in rain alone. At most M synthetic samples are shown.
        Scalar. Raises OptionError for an encoder that is not a Discriminator.
        """
        if not isinstance(self.encoder, Discriminator):
            raise OptionError("discriminator_loss: this encoder is not a discriminator")
        batch = self._part(batch, generator)
        some = len(batch.real_rainy)
        rainy = batch.rainy[rainy_rows(batch.rainy - batch.background)][:some]
        real = torch.cat((batch.clean, batch.background[:some]))
        fake = torch.cat((batch.real_repaired.detach(), batch.real_rainy, rainy))
        scores = self.encoder.score(torch.cat((real, fake)))
        return lsgan_discriminator_loss(scores[: len(real)], scores[len(real) :])

    def _part(self, batch: ContrastBatch, generator: torch.Generator | None) -> ContrastBatch:
        crop_px = self.options.crop_px
        return batch if crop_px is None else batch.cropped(crop_px, generator)

    def _background_term(
        self,
        heads: ProjectionHeads,
        batch: ContrastBatch,
        layers: Tensor,
        generator: torch.Generator | None,
    ) -> Tensor:
        options = self.options
        anchors, rainy = batch.real_repaired, batch.real_rainy
        is_rainy = torch.ones(len(rainy), dtype=torch.bool, device=rainy.device)
        if options.synthetic_anchors:
            anchors, rainy = torch.cat((anchors, batch.repaired)), torch.cat((rainy, batch.rainy))
            is_rainy = torch.cat((is_rainy, rainy_rows(batch.rainy - batch.background)))
        places = self._self_similar(anchors, options.background_patches, generator, busy=False)
        anchor_features = self._features(anchors, places)
        with torch.no_grad():
            # A dry sample's input is as clean as its ground truth: no negative.
            negatives, negative_places = rainy[is_rainy], places[is_rainy]
            if len(layers):
                streaked = anchors + augmented_layers(layers, len(anchors), generator)
                negatives = torch.cat((negatives, streaked.clamp(0, 1)))
                negative_places = torch.cat((negative_places, places))
            clean = augmented_images(torch.cat((batch.clean, batch.background)), generator)
            clean_places = draw_centres(
                clean, places.shape[1], patch_px=options.patch_px, generator=generator
            )
            compared = self._features(
                torch.cat((clean, negatives)), torch.cat((clean_places, negative_places))
            )
        return self._term(
            heads, anchor_features, compared, split=len(clean), set_size=options.background_patches
        )

    def _rain_term(
        self,
        heads: ProjectionHeads,
        batch: ContrastBatch,
        layers: Tensor,
        generator: torch.Generator | None,
    ) -> Tensor:
        options = self.options
        streaks = batch.real_streaks.to(batch.rainy.dtype)
        places = self._self_similar(streaks, options.rain_patches, generator, busy=True)
        anchor_features = self._features(layer_image(streaks), places)
        with torch.no_grad():
            count = len(streaks)
            rain = augmented_layers(layers, count, generator)
            clean = torch.cat((batch.clean, batch.background))
            texture = high_pass(draw_rows(clean, count, generator))
            shown = torch.cat((rain, texture))
            # The empty parts of both are alike and would contradict each other.
            shown_places = draw_centres(
                shown, places.shape[1], patch_px=options.patch_px, busy=True, generator=generator
            )
            compared = self._features(layer_image(shown), shown_places)
        return self._term(
            heads, anchor_features, compared, split=count, set_size=options.rain_patches
        )

    def _self_similar(
        self, images: Tensor, count: int, generator: torch.Generator | None, *, busy: bool
    ) -> Tensor:
        """Locations of each centre's most similar patches, (N, centres * count, 2), set after set."""
        options = self.options
        images = images.detach()
        centres = draw_centres(
            images, options.centres, patch_px=options.patch_px, busy=busy, generator=generator
        )
        return non_local_neighbours(
            images,
            centres,
            count=count,
            patch_px=options.patch_px,
            window_px=options.window_px,
        ).flatten(1, 2)

    def _features(self, images: Tensor, places: Tensor) -> list[Tensor]:
        """The encoder's vectors at places, one (?, places, C_level) per level."""
        size = (images.shape[2], images.shape[3])
        parts = [
            features_at(frozen_levels(self.encoder, some), where, size)
            for some, where in zip(
                torch.split(images, _ENCODED_TOGETHER),
                torch.split(places, _ENCODED_TOGETHER),
                strict=True,
            )
        ]
        return [torch.cat(level) for level in zip(*parts, strict=True)]

    def _term(
        self,
        heads: ProjectionHeads,
        anchors: list[Tensor],
        others: list[Tensor],
        *,
        split: int,
        set_size: int,
    ) -> Tensor:
        """Mean over levels; the first ``split`` images of ``others`` are positives, the rest negatives."""
        losses = [
            contrast(
                anchor.unflatten(1, (-1, set_size)).flatten(0, 1),
                other[:split].flatten(0, 1),
                other[split:].flatten(0, 1),
                temperature=self.options.temperature,
                mutual=True,
            )
            for anchor, other in zip(heads(anchors), heads(others), strict=True)
        ]
        return torch.stack(losses).mean()


def _known_layers(batch: ContrastBatch) -> Tensor:
    """Synthetic and mined layers that hold rain, without gradient, (?, 3, H, W)."""
    layers = (batch.rainy - batch.background).detach()
    if batch.mined is not None:
        layers = torch.cat((layers, batch.mined.to(layers.dtype)))
    return layers[rainy_rows(layers)]
