"""The settings of NLCL, which trains from unpaired images."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from vderain.errors import OptionError
from vderain.network.config import NlclConfig
from vderain.options import option
from vderain.training.config.base import RunConfig


@dataclass(frozen=True, slots=True)
class NlclTrainConfig(RunConfig):
    """A run of NLCL, from unpaired ``real`` and ``unpaired`` images; defaults as published where known.

    ``batch`` counts rainy patches, and as many clean ones. Weights of terms may be 0, for ablations; a run
    may go on with others.
    """

    method: ClassVar[str] = "nlcl"
    resumable: ClassVar[frozenset[str]] = RunConfig.resumable | {
        "constant_share",
        "consistency",
        "sparsity",
        "adversarial",
        "layer_contrast",
        "location_contrast",
        "brightening",
        "encoder_rate",
        "encoder_batch",
        "layers",
        "centres",
        "background_patches",
        "rain_patches",
        "location_negatives",
        "location_px",
    }

    tier: str = option("nlcl", "Name of the weights in reports.")
    steps: int = option(105_000, "Optimiser steps; the schedule ends there.", low=1)
    batch: int = option(1, "Rainy patches of a step, and as many clean.", low=1, high=4096)
    patch: int = option(256, "Side of a patch in pixels.", low=32, high=4096)
    learning_rate: float = option(2e-4, "Of both Adams, at its highest.", low=0.0, high=1.0)
    clip_norm: float = option(0.0, "Gradients are clipped to this norm; 0 leaves them.", low=0.0)
    encoder_width: int = option(64, "Channels of the discriminator's first level.", low=4, high=512)
    constant_share: float = option(
        200 / 210, "Share of the steps before the rate falls to 0.", low=0.0, high=1.0
    )
    consistency: float = option(1.0, "Weight of background + rain = rainy.", low=0.0, high=1000.0)
    sparsity: float = option(0.1, "Weight of how much is removed.", low=0.0, high=1000.0)
    adversarial: float = option(1.0, "Weight of the adversarial term.", low=0.0, high=1000.0)
    layer_contrast: float = option(
        1.0, "Weight of the contrast of background and rain patches.", low=0.0, high=1000.0
    )
    location_contrast: float = option(
        1.0, "Weight of the contrast of a location with others.", low=0.0, high=1000.0
    )
    brightening: float = option(
        0.0, "Weight of a background brighter than the rainy image: rain adds light (ours).",
        low=0.0, high=1000.0,
    )  # fmt: skip
    encoder_lead: int = option(
        0,
        "Steps at the start that train only the discriminator, on clean and rainy images (ours).",
        low=0,
    )
    encoder_rate: float = option(
        1.0,
        "Learning rate of the discriminator, relative to the rest (ours).",
        low=0.0,
        high=1000.0,
    )
    encoder_statistics: str = option(
        "own",
        "The discriminator's InstanceNorm: own, as published, or unit, which is none (ours).",
        choices=("own", "unit"),
    )
    encoder_texture_px: int = option(
        0, "The discriminator sees images less their mean over squares of this odd side; 0: whole images (ours).",
        low=0, high=255,
    )  # fmt: skip
    encoder_batch: int = option(
        1, "Patches of each side that the discriminator sees in a step (ours).", low=1
    )
    statistics: str = option(
        "own", "Normalise with each image's own statistics, as published, or with none (unit): such a"
        " run begins near the identity.",
        choices=("own", "unit"),
    )  # fmt: skip
    layers: str = option(
        "own", "What the layer contrast compares: layers as they are through separate heads, as published, or"
        " their pattern at one amplitude through one set of heads (pattern; ours).",
        choices=("own", "pattern"),
    )  # fmt: skip
    centres: int = option(
        1, "Locations of a patch for which similar patches are searched.", low=1, high=1024
    )
    background_patches: int = option(8, "Self-similar patches of a background.", low=2, high=1600)
    rain_patches: int = option(128, "Self-similar patches of a rain layer.", low=2, high=1600)
    location_px: int = option(
        0, "Side of the part of a patch in which the location contrast works; 0: the whole patch (ours).",
        low=0, high=4096,
    )  # fmt: skip
    location_negatives: int = option(256, "Unlike patches of a rainy image.", low=1, high=1600)

    def __post_init__(self) -> None:
        RunConfig.__post_init__(self)
        for name, held in (("real", "rainy"), ("unpaired", "clean")):
            if not getattr(self, name):
                raise OptionError(f"{name}: name at least one folder of {held} images or clips")
        if self.statistics == "unit" and not self.network_config.frozen_statistics:
            raise OptionError("statistics unit: needs a network of frozen_statistics")
        if self.encoder_texture_px and self.encoder_texture_px % 2 == 0:
            raise OptionError(f"encoder_texture_px {self.encoder_texture_px}: must be odd, or 0")
        if 0 < self.location_px < 32:  # such a part holds too few patches
            raise OptionError(f"location_px {self.location_px}: must be 0, or at least 32")
        if self.compiled:
            raise OptionError("compiled: not for nlcl, whose features the losses need")

    @property
    def network_config(self) -> NlclConfig:
        """The published network with this run's changes; OptionError where they cannot be."""
        try:
            return NlclConfig.from_dict(self.network)
        except ValueError as error:
            raise OptionError(f"network: {error}") from None
