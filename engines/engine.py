"""What the engines of this package share: backends, what a clip must hold, what a frame costs."""

from __future__ import annotations

from typing import Protocol, runtime_checkable

from vderain.clips import Window
from vderain.errors import EngineLoadError, NoRoomError
from vderain.flow.future import Future
from vderain.frames import Clip, Plane, PlaneFormat
from vderain.interfaces import Engine, EngineSpec
from vderain.network.card import Card
from vderain.network.change import apply_change
from vderain.network.config import AnyConfig, NetworkConfig
from vderain.network.inference.memory import working_bytes

_COST_PX = 1280 * 720
_COSTLY_FLOP = 1e11  # of a frame of that size: more than about 10 fps on two cores


class Backend(Protocol):
    """Something that runs networks; made once, asked for an engine per plane format."""

    def open(self, fmt: PlaneFormat) -> Engine:
        """An engine for clips of one format.

        Raises EngineBuildError, EngineLoadError, WeightsError.
        """


@runtime_checkable
class BuildsSlowly(Protocol):
    """A backend whose builds take minutes, so that asking first is worth it."""

    def is_built(self, fmt: PlaneFormat) -> bool:
        """Whether opening an engine for a format takes seconds."""


def added(change: Future, clip: Clip, strength: float) -> Future:
    """The clip's frame with a change that is added on the host."""
    return change.then(
        lambda delta: apply_change(
            clip.planes, delta, clip.format, strength=strength, floor=clip.floor
        )
    )


def clip_inputs(clip: Clip, fmt: PlaneFormat, window: Window) -> list[Plane]:
    """A clip's planes in the order of the network's inputs; EngineLoadError if it misfits."""
    check_clip(clip, fmt, window)
    return list(clip.inputs)


def check_clip(clip: Clip, fmt: PlaneFormat, window: Window, *, aligns: bool = False) -> None:
    """Raise EngineLoadError unless an engine that was opened for a format takes a clip.

    Only one that ``aligns`` takes clips whose neighbours are not aligned yet.
    """
    if clip.format != fmt:
        raise EngineLoadError(f"this engine was opened for {fmt}, the clip is {clip.format}")
    if clip.unaligned is not None and not aligns:
        raise EngineLoadError("this engine takes no neighbours that are not aligned")
    if clip.unaligned is not None:
        seen, held = window.frames, 1 + len(clip.unaligned.neighbours)
    else:
        seen, held = window.seen_frames, 1 + len(clip.neighbours)
    if held != seen:
        raise EngineLoadError(f"the network sees {seen} frames, the clip holds {held}")


def require_room(
    name: str, config: AnyConfig, fmt: PlaneFormat, itemsize: int, room_bytes: int, instead: str
) -> None:
    """Raise NoRoomError where an engine that computes a frame as a whole has too little memory for it.

    ``itemsize`` is of a feature, ``instead`` an engine that goes in stripes.
    """
    if not isinstance(config, NetworkConfig):
        return
    padded = fmt.padded(config.multiple)
    needed = working_bytes(config, padded.height, padded.width, itemsize)
    if needed > room_bytes:
        raise NoRoomError(
            f"{name} needs about {needed >> 20} MiB for a frame of {fmt.width}x{fmt.height} and has "
            f"{room_bytes >> 20} MiB; use scale=0.5, or engine={instead!r}, which computes in stripes"
        )


def spec_from_card(
    card: Card, name: str, precision: str, device: str, notes: tuple[str, ...] = ()
) -> EngineSpec:
    """How reports name an engine; of T frames the network repairs number T // 2.

    A network that few machines run in real time says what it costs, in a note.
    """
    frames = card.config.frames
    flop = 2 * card.config.macs_per_pixel * _COST_PX
    if flop > _COSTLY_FLOP:
        told = f"the {card.network} network of tier {card.tier} does {flop / 1e9:.0f} GFLOP per 1280x720 frame"
        notes = (*notes, told)
    lookahead = frames - 1 - frames // 2
    return EngineSpec(
        name, precision, device, card.tier, frames, lookahead, notes, card.config.ranks
    )


def frame_flop(config: AnyConfig, fmt: PlaneFormat, *, folded: bool = False) -> float:
    """Floating point operations of the network for one frame, as trained or as engines compute it."""
    macs = config.folded_macs_per_pixel if folded else config.macs_per_pixel
    return 2.0 * macs * fmt.width * fmt.height
