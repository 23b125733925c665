"""What the engines of this package share: backends, what a clip must hold, what a frame costs."""

from __future__ import annotations

from typing import Protocol

from vderain.errors import EngineLoadError
from vderain.frames import Clip, Plane, PlaneFormat
from vderain.interfaces import Engine, EngineSpec
from vderain.network.card import Card
from vderain.network.config import NetworkConfig


class Backend(Protocol):
    """Something that runs networks; made once, asked for an engine per plane format."""

    def open(self, fmt: PlaneFormat) -> Engine:
        """An engine for clips of one format.

        Raises EngineBuildError, EngineLoadError, WeightsError.
        """


def clip_inputs(clip: Clip, fmt: PlaneFormat, frames: int) -> list[Plane]:
    """A clip's T * P planes in the order of the network's inputs; EngineLoadError if it misfits."""
    if clip.format != fmt:
        raise EngineLoadError(f"this engine was opened for {fmt}, the clip is {clip.format}")
    if len(clip.planes) != frames:
        raise EngineLoadError(
            f"the network sees {frames} frames, the clip holds {len(clip.planes)}"
        )
    return [plane for picture in clip.planes for plane in picture]


def spec_from_card(
    card: Card, name: str, precision: str, device: str, notes: tuple[str, ...] = ()
) -> EngineSpec:
    """How reports name an engine; of T frames the network repairs number T // 2."""
    frames = card.config.frames
    return EngineSpec(name, precision, device, card.tier, frames, frames - 1 - frames // 2, notes)


def frame_flop(config: NetworkConfig, fmt: PlaneFormat) -> float:
    """Floating point operations of the network for one frame: two per weight and position."""
    inputs, outputs = 3 * config.frames * config.unshuffle**2, 3 * config.unshuffle**2

    def branch(width: int, blocks: int, kernel_area: int) -> int:
        inner = blocks * 2 * kernel_area * width**2 + 9 * width**2
        return 9 * width * (inputs + outputs) + inner

    dilated = 10 * len(config.dilations)  # 3x3 kernels, and their share of the 1x1 join
    weights = branch(config.rain_width, config.rain_blocks, 9)
    weights += branch(config.detail_width, config.detail_blocks, dilated)
    return 2.0 * weights * fmt.width * fmt.height / config.unshuffle**2
