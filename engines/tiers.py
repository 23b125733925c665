"""Chooses the tier of weights: one by the machine for a file, several for a camera."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

from vderain.engines import registry
from vderain.network.card import Card
from vderain.options import SHIPPED_TIERS, EngineOptions
from vderain.weights import find_weights

_ON_A_CPU = "fast"


@dataclass(frozen=True, slots=True)
class TierChoice:
    """A tier and why it was chosen; the reason is "" where the user named the tier or the weights."""

    tier: str
    reason: str = ""


def chosen(options: EngineOptions) -> TierChoice:
    """The tier for files. Raises OptionError where the options contradict each other."""
    if options.tier != "auto" or options.weights is not None:
        return TierChoice(_ON_A_CPU if options.tier == "auto" else options.tier)
    best = SHIPPED_TIERS[0]
    if registry.runs_on_nvidia(options):
        return TierChoice(best, "the best, for an NVIDIA GPU")
    return TierChoice(_ON_A_CPU, "the default without an NVIDIA GPU")


def with_tier(options: EngineOptions) -> EngineOptions:
    """The options with the tier that ``auto`` stands for. Raises OptionError as ``chosen`` does."""
    return replace(options, tier=chosen(options).tier)


def camera_tiers(options: EngineOptions) -> tuple[str, ...]:
    """The tiers a camera may use, the best first: the chosen one and the faster ones.

    A user's own weights are the only choice; their tier is the name on their card. Raises OptionError, WeightsError.
    """
    if options.weights is not None:
        return (weights_of(options)[1].tier,)
    tier = chosen(options).tier
    return SHIPPED_TIERS[SHIPPED_TIERS.index(tier) :]


def camera_frames(options: EngineOptions) -> int:
    """The most frames that a network of ``camera_tiers`` sees, its own one included. Raises as that does."""
    tiers = camera_tiers(options)
    return max(find_weights(tier, options.weights)[1].config.frames for tier in tiers)


def weights_of(options: EngineOptions) -> tuple[Path, Card]:
    """Path and card of the weights that the options name. Raises WeightsError, OptionError."""
    return find_weights(chosen(options).tier, options.weights)
