"""What a network looks like; torch-free, since a cached engine runs without torch."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields, replace
from typing import Any, ClassVar

FUSIONS = ("gates", "median")
"""How a network of several frames uses its neighbours: ``semi_drdnet.Fusion`` or ``semi_drdnet.MedianFusion``."""


@dataclass(frozen=True, slots=True)
class NetworkConfig:
    """The shape of a SemiDRDNet.

    Attributes:
        rain_width: channels of the rain residual branch.
        rain_blocks: its residual blocks.
        detail_width: channels of the detail repair branch.
        detail_blocks: its residual blocks.
        dilations: of the parallel convolutions in a detail block.
        squeeze_ratio: channels per squeezed channel in the gate; 0 for blocks without one.
        coarse_blocks: more blocks of the rain branch at 1/2, 1/4, ... of the resolution and twice, four
            times, ... the width, each scale nested between the halves of the finer one's blocks.
        normalised: batch normalisation after each convolution, as published.
        unshuffle: pixels per side that are folded into channels before the first convolution.
        frames: T, frames of a clip: an odd number: the one that is repaired, and its neighbours.
        fusion: how neighbours are used, one of FUSIONS.
        ranks: which of the neighbours' samples, in order of brightness at each pixel, the network sees; 0 is
            the darkest. Empty for all T - 1 of them.

    """

    kind: ClassVar[str] = "semi_drdnet"

    rain_width: int = 64
    rain_blocks: int = 16
    detail_width: int = 64
    detail_blocks: int = 16
    dilations: tuple[int, ...] = (1, 3, 5)
    squeeze_ratio: int = 16
    coarse_blocks: tuple[int, ...] = ()
    normalised: bool = True
    unshuffle: int = 1
    frames: int = 1
    fusion: str = "gates"
    ranks: tuple[int, ...] = ()

    def __post_init__(self) -> None:
        for item in fields(self):
            value = getattr(self, item.name)
            values = value if isinstance(value, tuple) else (value,)
            lowest = 0 if item.name in ("squeeze_ratio", "ranks") else 1
            if item.name in ("normalised", "fusion"):
                continue
            if any(type(value) is not int or value < lowest for value in values):
                raise ValueError(
                    f"{item.name} must be whole numbers from {lowest} up, got {value!r}"
                )
        if self.frames % 2 == 0:
            raise ValueError(f"frames must be odd, got {self.frames}")
        if not self.dilations:
            raise ValueError("dilations must name at least one")
        self._check_fusion()

    def _check_fusion(self) -> None:
        if self.fusion not in FUSIONS:
            raise ValueError(f"fusion must be one of {', '.join(FUSIONS)}, got {self.fusion!r}")
        count = self.frames - 1
        if sorted(set(self.ranks)) != list(self.ranks) or any(r >= count for r in self.ranks):
            raise ValueError(
                f"ranks must rise and be below {count}, one less than frames, got {self.ranks}"
            )
        if self.ranks and self.fusion == "gates":
            raise ValueError("ranks need fusion median; gates look at all neighbours")
        if self.fusion == "median" and not set(self.middle_ranks) <= set(self.seen_ranks):
            raise ValueError(f"ranks must hold the middle ones, {self.middle_ranks}")

    @property
    def seen_ranks(self) -> tuple[int, ...]:
        """``ranks``, written out where that is empty."""
        return self.ranks or tuple(range(self.frames - 1))

    @property
    def middle_ranks(self) -> tuple[int, ...]:
        """Of the two neighbours between which the median of the clip lies; none for a single frame."""
        half = self.frames // 2
        return (half - 1, half) if half else ()

    @property
    def seen_frames(self) -> int:
        """The frame and the planes of neighbours that the network sees: the planes of luma in a clip."""
        return 1 + len(self.seen_ranks)

    @property
    def channels(self) -> int:
        """Of the network's input: RGB, and the differences of the neighbours' samples that it sees."""
        return 3 + len(self.seen_ranks)

    @property
    def seen_channels(self) -> int:
        """What the branches see at a pixel: RGB and differences."""
        if self.frames == 1:
            return 3
        # Two that stand for those of all neighbours, or the median's and those of all ranks.
        return 5 if self.fusion == "gates" else 4 + len(self.seen_ranks)

    @property
    def multiple(self) -> int:
        """Height and width must be multiples of this."""
        return int(self.unshuffle * 2 ** len(self.coarse_blocks))

    @property
    def macs_per_pixel(self) -> float:
        """Multiplications for one pixel of a frame, as trained: nothing folded."""
        s = self.unshuffle
        outer = 9 * (self.seen_channels + 3) * s**2  # head and tail, for each channel of a branch
        dilated = 10 * len(self.dilations)  # 3x3 kernels, and their share of the 1x1 join
        rain = (outer + 9 * self.rain_width) * self.rain_width
        detail = (outer + 9 * self.detail_width) * self.detail_width
        detail += self.detail_blocks * 2 * dilated * self.detail_width**2
        for scale, blocks in enumerate((self.rain_blocks, *self.coarse_blocks)):
            width, area = self.rain_width * 2**scale, 4**scale
            rain += blocks * 18 * width**2 / area
            if scale:  # down from half the width, and up to twice as many channels
                rain += (2 * width**2 + 2 * width**2) / area
        gates = (self.frames - 1 if self.fusion == "gates" else 2 * (self.frames > 1)) * s**2
        rain += gates * (9 * self.rain_width + (2 if self.fusion == "gates" else 1) * gates)
        return (rain + detail) / s**2

    @property
    def folded_macs_per_pixel(self) -> float:
        """The same with every 1x1 join folded into its dilated convolutions, which is what engines compute."""
        joins = self.detail_blocks * 2 * len(self.dilations) * self.detail_width**2
        return self.macs_per_pixel - joins / self.unshuffle**2

    def to_dict(self) -> dict[str, Any]:
        """Plain values for a card."""
        return _plain(self)

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> NetworkConfig:
        """The inverse of ``to_dict``; ValueError for a key that does not exist."""
        return cls(**_settings(cls, values))


@dataclass(frozen=True, slots=True)
class NlclConfig:
    """The shape of an NlclNetwork, which draws the background from a single frame at full resolution.

    Attributes:
        width: channels of every layer between the first and the last, 32 as published.
        blocks: residual blocks, 16 as published.
        frozen_statistics: outside training, normalise with what training gathered (ours): frames do not
            flicker with their own statistics, and the normalisation folds into the convolutions. Else
            with each frame's own, as published; the same weights serve both.

    """

    kind: ClassVar[str] = "nlcl"
    frames: ClassVar[int] = 1
    seen_frames: ClassVar[int] = 1
    ranks: ClassVar[tuple[int, ...]] = ()
    seen_ranks: ClassVar[tuple[int, ...]] = ()
    channels: ClassVar[int] = 3
    multiple: ClassVar[int] = 1

    width: int = 32
    blocks: int = 16
    frozen_statistics: bool = True

    def __post_init__(self) -> None:
        for name in ("width", "blocks"):
            value = getattr(self, name)
            if type(value) is not int or value < 1:
                raise ValueError(f"{name} must be a whole number from 1 up, got {value!r}")
        if type(self.frozen_statistics) is not bool:
            raise ValueError(
                f"frozen_statistics must be true or false, got {self.frozen_statistics!r}"
            )

    @property
    def macs_per_pixel(self) -> float:
        """Multiplications for one pixel of a frame, as trained: nothing folded."""
        return float(9 * ((2 * self.blocks + 2) * self.width**2 + 2 * 3 * self.width))

    @property
    def folded_macs_per_pixel(self) -> float:
        """The same: normalisation, which folds, counts for nothing."""
        return self.macs_per_pixel

    def to_dict(self) -> dict[str, Any]:
        """Plain values for a card."""
        return _plain(self)

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> NlclConfig:
        """The inverse of ``to_dict``; ValueError for a key that does not exist."""
        return cls(**_settings(cls, values))


AnyConfig = NetworkConfig | NlclConfig
CONFIGS: dict[str, type[NetworkConfig] | type[NlclConfig]] = {
    config.kind: config for config in (NetworkConfig, NlclConfig)
}
"""The kind of network that a card names -> what its ``config`` holds."""


def _plain(config: AnyConfig) -> dict[str, Any]:
    return {
        name: list(value) if isinstance(value, tuple) else value
        for name, value in asdict(config).items()
    }


def _settings(config: type[AnyConfig], values: Mapping[str, Any]) -> dict[str, Any]:
    unknown = set(values) - {item.name for item in fields(config)}
    if unknown:
        raise ValueError(f"unknown network settings: {', '.join(sorted(unknown))}")
    return {
        name: tuple(value) if isinstance(value, list) else value for name, value in values.items()
    }


# The published network, and ours: the same two branches behind a pixel-unshuffle, the rain branch on several
# scales, and more frames, of which the network sees the darker half and both middle ones of the neighbours'
# samples (training/RESULTS.md has the shapes that were tried).
PAPER = NetworkConfig()
BEST = NetworkConfig(
    rain_width=32,
    rain_blocks=4,
    coarse_blocks=(14, 10),
    detail_width=16,
    detail_blocks=3,
    squeeze_ratio=8,
    normalised=False,
    unshuffle=2,
    frames=9,
    fusion="median",
    ranks=(1, 2, 3, 4),
)
FAST = replace(
    BEST,
    rain_width=16,
    rain_blocks=2,
    coarse_blocks=(6, 4),
    detail_width=8,
    detail_blocks=1,
)
LIGHT = replace(
    FAST,
    rain_blocks=1,
    coarse_blocks=(2,),
    unshuffle=4,
    ranks=(1, 3, 4),
)
TIERS = {"best": BEST, "fast": FAST, "light": LIGHT, "paper": PAPER}
