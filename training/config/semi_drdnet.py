"""The settings of Semi-DRDNet: supervised training, semi-supervised training, distillation."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, ClassVar, Self

from vderain.errors import OptionError
from vderain.network.config import TIERS, NetworkConfig
from vderain.options import option
from vderain.training.config.base import DEFAULT_METHOD, RunConfig


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
        "close_drops",
        "past_share",
        "rain_model",
        "background_contrast",
        "rain_contrast",
    }

    tier: str = option("fast", "Which network is trained.", choices=tuple(TIERS))
    sources: dict[str, dict[str, Any]] = field(default_factory=dict)
    warmup_steps: int = option(
        200, "Steps over which the learning rate rises, at most a tenth of all steps.", low=0
    )
    rain_model: str = option(
        "full", "How rain is rendered: by every mechanism, or the literature's two simple models.",
        choices=("full", "simple"),
    )  # fmt: skip
    dry_share: float = option(0.15, "Share of rendered samples that stay dry.", low=0.0, high=1.0)
    close_drops: float = option(
        0.0,
        "Share of rainy clips with drops close to the lens: broad soft bands.",
        low=0.0,
        high=1.0,
    )
    past_share: float = option(
        0.3,
        "Share of clips whose neighbours lie in the past alone, as a camera's do.",
        low=0.0,
        high=1.0,
    )
    dry_weight: float = option(
        1.0, "Weight of a dry sample; a rainy one has 1.", low=0.0, high=100.0
    )
    penalty: str = option("l1", "How errors count.", choices=("l1", "charbonnier", "mse", "psnr"))
    derained_weight: float = option(
        0.1, "Weight of the error of rainy - R, next to that of rainy - R + D.", low=0.0, high=10.0
    )
    ssim_weight: float = option(0.0, "Weight of 1 - SSIM, next to the penalty.", low=0.0, high=10.0)
    semi_from: float = option(0.3, "Share of the steps that stay supervised.", low=0.0, high=1.0)
    real_batch: int = option(
        8, "Real rainy patches of a step, and as many clean.", low=1, high=4096
    )
    background_contrast: float = option(
        0.1, "Weight of the contrast's background side.", low=0.0, high=100.0
    )
    rain_contrast: float = option(0.1, "Weight of the contrast's rain side.", low=0.0, high=100.0)
    encoder: str = option(
        "discriminator",
        "Network whose features the contrast compares.",
        choices=("discriminator", "vgg19"),
    )
    encoder_weights: str | None = option(None, "File with torchvision's VGG-19 weights.")
    teacher: str | None = option(None, "Tier or weights file of a larger network to learn from.")
    teacher_patches: int = option(8192, "Patches whose predictions are computed once.", low=1)
    teacher_share: float = option(
        0.5, "How far the student's target lies from ground truth to the teacher's prediction.",
        low=0.0, high=1.0,
    )  # fmt: skip

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

    def to_state(self) -> dict[str, Any]:
        """As of any run, with the whole network: a tier's may be another one in a later version."""
        return {**RunConfig.to_state(self), "network": self.network_config.to_dict()}

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
