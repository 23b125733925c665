"""The settings of ``vderain adapt``."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, ClassVar

from vderain.errors import OptionError
from vderain.network.card import Card
from vderain.network.config import AnyConfig, NetworkConfig
from vderain.options import option
from vderain.training.config.base import RunConfig, default_of
from vderain.training.config.settings import overridden
from vderain.weights import find_weights

# Settings of runs in general that mean nothing for an adaptation.
_NOT_ADAPTED = {"network", "real", "unpaired", "compiled", "workers", "cache_mb"}


@dataclass(frozen=True, slots=True)
class AdaptConfig(RunConfig):
    """A run of ``vderain adapt``: fine-tunes the weights ``initial`` on unlabelled rainy footage.

    Attributes:
        footage: files and folders of clips of real rain.
        dry: clips and images of the same cameras without rain.
        replay: clean images and clips of anything, in addition to the shipped ones, to render rain on.
        median_share: samples whose target is the temporal median.
        mined_share: with rain of the footage added to dry images.
        kept_share: with rendered rain, or dry, whose predictions should stay. The rest up to 1 stays dry.

    """

    method: ClassVar[str] = "adapt"
    resumable: ClassVar[frozenset[str]] = RunConfig.resumable | {"patience", "minutes"}

    tier: str = option("fast", "Name of the weights in reports.")
    footage: tuple[str, ...] = ()
    dry: tuple[str, ...] = ()
    replay: tuple[str, ...] = ()
    steps: int = option(900, "Most steps to train.", low=1)
    batch: int = option(8, "Patches of a step.", low=1, high=256)
    patch: int = option(96, "Side of a patch in pixels.", low=16, high=4096)
    learning_rate: float = option(1.2e-4, "Of Adam, at its highest.", low=0.0, high=1.0)
    ema: float = option(0.98, "Decay of the averaged weights.", low=0.0, high=1.0)
    precision: str = option("float32", "Arithmetic of training.", choices=("float32", "bfloat16"))
    checkpoint_every: int = option(40, "Steps between evaluations on the validation split.", low=1)
    patience: int = option(4, "Evaluations without a gain before it stops.", low=1)
    minutes: float = option(15.0, "Longest time to train.", low=0.01, high=1e4)
    windows: int = option(24, "Short pieces of the footage to learn from.", low=2, high=1000)
    median_share: float = option(0.3, "Share of samples of the footage itself.", low=0.0, high=1.0)
    mined_share: float = option(
        0.12, "Share of samples with its rain on dry images.", low=0.0, high=1.0
    )
    kept_share: float = option(0.5, "Share of samples of other rain.", low=0.0, high=1.0)
    kept_weight: float = option(3.0, "Weight of changed predictions for other rain.", low=0.0)
    background_contrast: float = option(0.0, "Weight of the contrast's background side.", low=0.0)
    rain_contrast: float = option(0.0, "Weight of the contrast's rain side.", low=0.0)

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
