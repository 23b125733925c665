"""What a network looks like; torch-free, since a cached engine runs without torch."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any


@dataclass(frozen=True, slots=True)
class NetworkConfig:
    """The shape of a SemiDRDNet.

    Attributes:
        rain_width: channels of the rain residual branch.
        rain_blocks: its residual blocks.
        detail_width: channels of the detail repair branch.
        detail_blocks: its residual blocks.
        dilations: of the parallel convolutions in a detail block.
        squeeze_ratio: channels per squeezed channel in the gate.
        unshuffle: pixels per side that are folded into channels before the first convolution.
        frames: T, frames of a clip.

    """

    rain_width: int = 64
    rain_blocks: int = 16
    detail_width: int = 64
    detail_blocks: int = 16
    dilations: tuple[int, ...] = (1, 3, 5)
    squeeze_ratio: int = 16
    unshuffle: int = 1
    frames: int = 1

    def __post_init__(self) -> None:
        for item in fields(self):
            values = self.dilations if item.name == "dilations" else (getattr(self, item.name),)
            if not values or any(type(value) is not int or value < 1 for value in values):
                raise ValueError(f"{item.name} must be positive whole numbers, got {values}")

    def to_dict(self) -> dict[str, Any]:
        """Plain values for a card."""
        return {**asdict(self), "dilations": list(self.dilations)}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> NetworkConfig:
        """The inverse of ``to_dict``; ValueError for a key that does not exist."""
        unknown = set(values) - {item.name for item in fields(cls)}
        if unknown:
            raise ValueError(f"unknown network settings: {', '.join(sorted(unknown))}")
        return cls(**{**values, "dilations": tuple(values.get("dilations", cls().dilations))})


# The published network, and ours for a CPU: the same two branches behind a pixel-unshuffle.
PAPER = NetworkConfig()
FAST = NetworkConfig(
    rain_width=32, rain_blocks=5, detail_width=32, detail_blocks=2, squeeze_ratio=8, unshuffle=4
)
TIERS = {"fast": FAST, "paper": PAPER}
