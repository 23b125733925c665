"""The settings of each method, as a TOML file, the command line and checkpoints give them.

A method's settings are a class of their own, so that a setting which it does not know is told; what all
share is in ``RunConfig``.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any, ClassVar, Self

from vderain.errors import OptionError
from vderain.network.card import Card
from vderain.network.config import TIERS, AnyConfig, NetworkConfig, NlclConfig
from vderain.options import option
from vderain.training.config.base import DEFAULT_METHOD, RunConfig, default_of, read_run
from vderain.training.config.settings import overridden
from vderain.weights import find_weights


@dataclass(frozen=True, slots=True)
class TrainConfig(RunConfig):
    """A run of Semi-DRDNet, supervised or semi-supervised.

    Attributes:
        sources: pairs, and clean images or clips to render rain on, by name.
        real: its clips are also mined for streak layers; with ``unpaired`` all of it takes part in
            semi-supervised training.

    """

    method: ClassVar[str] = DEFAULT_METHOD
    resumable: ClassVar[frozenset[str]] = RunConfig.resumable | {
        "sources",
        "warmup_steps",
        "dry_share",
        "dry_weight",
        "rain_model",
        "background_contrast",
        "rain_contrast",
    }

    tier: str = option("fast", "Which network is trained.", choices=tuple(TIERS))
    sources: dict[str, dict[str, Any]] = field(default_factory=dict)
    warmup_steps: int = option(
        200, "Over which the learning rate rises, a tenth of all steps at most.", low=0
    )
    rain_model: str = option(
        "full", "How rain is rendered: by every mechanism, or the literature's two simple models.",
        choices=("full", "simple"),
    )  # fmt: skip
    dry_share: float = option(0.15, "Rendered samples that stay dry.", low=0.0, high=1.0)
    dry_weight: float = option(1.0, "How much more a dry sample counts.", low=0.0, high=100.0)
    penalty: str = option("l1", "How errors count.", choices=("l1", "charbonnier", "mse", "psnr"))
    derained_weight: float = option(0.1, "Of rainy - R beside rainy - R + D.", low=0.0, high=10.0)
    ssim_weight: float = option(0.0, "Of 1 - SSIM beside the penalty.", low=0.0, high=10.0)
    semi_from: float = option(0.3, "Share of the steps that stay supervised.", low=0.0, high=1.0)
    real_batch: int = option(
        8, "Real rainy patches of a step, and as many clean.", low=1, high=4096
    )
    background_contrast: float = option(0.1, "Weight of the background side.", low=0.0, high=100.0)
    rain_contrast: float = option(0.1, "Weight of the rain side.", low=0.0, high=100.0)
    encoder: str = option(
        "discriminator", "What the contrast looks through.", choices=("discriminator", "vgg19")
    )
    encoder_weights: str | None = option(None, "File with torchvision's VGG-19 weights.")
    teacher: str | None = option(None, "Weights file of a larger network to learn from.")
    teacher_patches: int = option(8192, "Patches whose answers are computed once.", low=1)
    teacher_change: float = option(1.0, "Weight of the teacher's change.", low=0.0, high=100.0)
    teacher_branches: float = option(0.0, "Weight of the teacher's R and D.", low=0.0, high=100.0)

    def __post_init__(self) -> None:
        RunConfig.__post_init__(self)  # super() knows only the class without slots
        if not self.sources:
            raise OptionError("sources: name at least one folder to train on")
        if self.unpaired and not self.real:
            raise OptionError("unpaired: useless without real; name folders with real rain as well")
        if self.encoder == "vgg19" and self.encoder_weights is None:
            raise OptionError(
                "encoder vgg19: name the file of its weights, from torchvision, as encoder_weights"
            )

    @property
    def network_config(self) -> NetworkConfig:
        """The tier's network with this run's changes; OptionError where they cannot be."""
        try:
            return NetworkConfig.from_dict({**TIERS[self.tier].to_dict(), **self.network})
        except ValueError as error:
            raise OptionError(f"network: {error}") from None

    @property
    def is_semi_supervised(self) -> bool:
        """Whether real rain takes part."""
        return any(self.contrasted_sides)

    @property
    def contrasted_sides(self) -> tuple[bool, bool]:
        """Whether the background side and the rain side take part; each has parameters of its own."""
        with_real = bool(self.unpaired)
        return with_real and self.background_contrast > 0, with_real and self.rain_contrast > 0

    def fixed_differences(self, other: Self) -> list[str]:
        """As of any run, and what would switch a side of the contrast on or off."""
        fixed = RunConfig.fixed_differences(self, other)
        if self.contrasted_sides != other.contrasted_sides:
            sides = {"unpaired", "background_contrast", "rain_contrast"}
            fixed += sorted(sides & set(self.differences(other)))
        return fixed


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

    tier: str = option("nlcl", "What reports call the weights.")
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
    sparsity: float = option(0.1, "Weight of how much is taken away.", low=0.0, high=1000.0)
    adversarial: float = option(1.0, "Weight of the discriminator's word.", low=0.0, high=1000.0)
    layer_contrast: float = option(
        1.0, "Weight of background patches against rain patches.", low=0.0, high=1000.0
    )
    location_contrast: float = option(
        1.0, "Weight of telling a place from others.", low=0.0, high=1000.0
    )
    brightening: float = option(
        0.0, "Weight of how much brighter than the rainy image the background is: rain adds light (ours).",
        low=0.0, high=1000.0,
    )  # fmt: skip
    encoder_lead: int = option(
        0,
        "Steps at the start in which only the discriminator learns, clean from rainy (ours).",
        low=0,
    )
    encoder_rate: float = option(
        1.0, "Its learning rate, in learning rates of the rest (ours).", low=0.0, high=1000.0
    )
    encoder_statistics: str = option(
        "own", "Its InstanceNorm, as published, or none (unit; ours).", choices=("own", "unit")
    )
    encoder_texture_px: int = option(
        0, "Show it images less their mean over squares of this odd side; 0 for all of them (ours).",
        low=0, high=255,
    )  # fmt: skip
    encoder_batch: int = option(
        1, "Patches of each side that it sees in a step; more than batch cost little (ours).", low=1
    )
    statistics: str = option(
        "own", "Normalise with each image's own statistics, as published, or with none (unit): such a"
        " run begins near the identity.",
        choices=("own", "unit"),
    )  # fmt: skip
    layers: str = option(
        "own", "What the layer contrast compares: layers as they are through heads of their own, as published, or"
        " their pattern at one amplitude through one set of heads (pattern; ours).",
        choices=("own", "pattern"),
    )  # fmt: skip
    centres: int = option(1, "Places of a patch whose like are looked for.", low=1, high=1024)
    background_patches: int = option(8, "Self-similar patches of a background.", low=2, high=1600)
    rain_patches: int = option(128, "Self-similar patches of a rain layer.", low=2, high=1600)
    location_px: int = option(
        0, "Side of the part of a patch whose locations are told apart, which costs less; 0 for all (ours).",
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
            raise OptionError("compiled: not for nlcl, whose network is asked for its levels")

    @property
    def network_config(self) -> NlclConfig:
        """The published network with this run's changes; OptionError where they cannot be."""
        try:
            return NlclConfig.from_dict(self.network)
        except ValueError as error:
            raise OptionError(f"network: {error}") from None


# Settings of runs in general that mean nothing for an adaptation.
_NOT_ADAPTED = {"network", "real", "unpaired", "compiled", "workers", "cache_mb"}


@dataclass(frozen=True, slots=True)
class AdaptConfig(RunConfig):
    """A run of ``vderain adapt``: fine-tunes the weights ``initial`` on unlabelled rainy footage.

    Attributes:
        footage: files and folders of clips of real rain.
        dry: clips and images of the same cameras without rain.
        replay: clean images and clips of anything, beside those that come with the tool, to render rain on.
        median_share: samples whose target is the median over the frames around.
        mined_share: with rain of the footage laid over dry images.
        kept_share: with rendered rain, or dry, whose answers are to stay. What is left of 1 stays dry.

    """

    method: ClassVar[str] = "adapt"
    resumable: ClassVar[frozenset[str]] = RunConfig.resumable | {"patience", "minutes"}

    tier: str = option("fast", "What reports call the weights.")
    footage: tuple[str, ...] = ()
    dry: tuple[str, ...] = ()
    replay: tuple[str, ...] = ()
    steps: int = option(900, "Steps at most.", low=1)
    batch: int = option(8, "Patches of a step.", low=1, high=256)
    patch: int = option(96, "Side of a patch in pixels.", low=16, high=4096)
    learning_rate: float = option(1.2e-4, "Of Adam, at its highest.", low=0.0, high=1.0)
    ema: float = option(0.98, "Decay of the averaged weights.", low=0.0, high=1.0)
    precision: str = option("float32", "Arithmetic of training.", choices=("float32", "bfloat16"))
    checkpoint_every: int = option(40, "Steps between looks at the held-back part.", low=1)
    patience: int = option(4, "Looks without a gain before it stops.", low=1)
    minutes: float = option(15.0, "Longest time to train.", low=0.01, high=1e4)
    windows: int = option(24, "Short pieces of the footage to learn from.", low=2, high=1000)
    median_share: float = option(0.3, "Samples of the footage itself.", low=0.0, high=1.0)
    mined_share: float = option(0.12, "Samples with its rain on dry images.", low=0.0, high=1.0)
    kept_share: float = option(0.5, "Samples of other rain.", low=0.0, high=1.0)
    kept_weight: float = option(3.0, "Weight of what answers to it change by.", low=0.0)
    background_contrast: float = option(0.0, "Weight of the contrast's background side.", low=0.0)
    rain_contrast: float = option(0.0, "Weight of its rain side.", low=0.0)

    def __post_init__(self) -> None:
        if self.initial is None:
            raise OptionError("initial: name the weights to adapt")
        RunConfig.__post_init__(self)
        if self.median_share + self.mined_share + self.kept_share > 1:
            raise OptionError("median_share, mined_share, kept_share: more than 1 together")
        for item in fields(self):
            if item.name in _NOT_ADAPTED and getattr(self, item.name) != default_of(item):
                raise OptionError(f"{item.name}: adapting does not use it; leave it out")
        contrasted = self.background_contrast or self.rain_contrast
        if contrasted and not isinstance(self.network_config, NetworkConfig):
            raise OptionError(
                "background_contrast, rain_contrast: need weights of Semi-DRDNet, whose rain branch"
                " they compare"
            )

    @property
    def network_config(self) -> AnyConfig:
        """That of the weights to adapt."""
        return Card.load(Path(self.initial or "")).config


AnyTrainConfig = TrainConfig | NlclTrainConfig | AdaptConfig
_METHODS: dict[str, type[AnyTrainConfig]] = {
    config.method: config for config in (TrainConfig, NlclTrainConfig, AdaptConfig)
}


def adapt_config(
    tier: str,
    initial: str | None,
    paths: Mapping[str, Sequence[Path]],
    overrides: Sequence[str] = (),
    **values: Any,
) -> AdaptConfig:
    """The settings of an adaptation of a tier's weights, or of a file; "name=value" texts come last.

    ``paths`` by name, footage among them; ``values`` that are None are left out. Raises OptionError, and
    WeightsError where there are no such weights.
    """
    given = {name: value for name, value in values.items() if value is not None}
    settings = overridden(given, overrides)
    path, card = find_weights(tier, initial)
    settings |= {name: tuple(str(one.absolute()) for one in found) for name, found in paths.items()}
    settings |= {"initial": str(path.absolute()), "tier": card.tier}
    return AdaptConfig.from_dict(settings, "vderain adapt")


def state_config(state: Mapping[str, Any], where: Path) -> AnyTrainConfig:
    """The settings in a checkpoint's state; OptionError, naming ``where``, for what cannot be read."""
    method = state.get("method", DEFAULT_METHOD)
    return _class_of(method, str(where)).from_dict(state["config"], str(where))


def load_config(path: Path, overrides: Sequence[str] = (), **values: Any) -> AnyTrainConfig:
    """A TOML file, or a shipped one by its name, of any method; then ``values``, then "name=value" texts.

    Raises OptionError for a file that cannot be read, and names or values that cannot be used.
    """
    method, settings = read_run(path, overrides, **values)
    return config_from(method, settings, str(path))


def config_from(method: str, settings: Mapping[str, Any], where: str) -> AnyTrainConfig:
    """The settings of a run of a method, checked; OptionError, naming ``where``, for what cannot be used."""
    return _class_of(method, where).from_dict(settings, where)


def method_of(path: Path, overrides: Sequence[str] = ()) -> str:
    """Which method a configuration is of; OptionError where it cannot be read."""
    return read_run(path, overrides)[0]


def _class_of(method: str, where: str) -> type[AnyTrainConfig]:
    if method not in _METHODS:
        raise OptionError(f"{where}: method {method}: choose one of {', '.join(_METHODS)}")
    return _METHODS[method]
