"""What engines share: the backend protocol, checks of clips, memory and cost of a frame."""

from __future__ import annotations

from typing import Protocol, runtime_checkable

from vderain.clips import Window
from vderain.errors import EngineLoadError, NoRoomError
from vderain.flow.future import Future
from vderain.frames import Clip, Plane, PlaneFormat
from vderain.interfaces import Engine, EngineSpec
from vderain.network.card import Card
from vderain.network.change.apply import apply_change
from vderain.network.config import AnyConfig

_COST_PX = 1280 * 720
_COSTLY_FLOP = 1e11  # per 1280x720 frame; below it two cores do about 10 fps


class Backend(Protocol):
    """Makes engines of one kind; loaded once, opened for each plane format."""

    def open(self, fmt: PlaneFormat) -> Engine:
        """An engine for clips of one format.

        Raises EngineBuildError, EngineLoadError, WeightsError.
        """


@runtime_checkable
class BuildsSlowly(Protocol):
    """A backend whose builds take minutes, so that the pool asks first whether the engine is built."""

    def is_built(self, fmt: PlaneFormat) -> bool:
        """Whether opening an engine for a format takes seconds."""


def added(change: Future, clip: Clip, strength: float) -> Future:
    """The clip's frame with the change added on the host."""
    return change.then(
        lambda delta: apply_change(
            clip.planes, delta, clip.format, strength=strength, floor=clip.floor
        )
    )


def clip_inputs(clip: Clip, fmt: PlaneFormat, window: Window) -> list[Plane]:
    """A clip's planes in the order of the network's inputs; EngineLoadError where the clip does not fit."""
    check_clip(clip, fmt, window)
    return list(clip.inputs)


def check_clip(clip: Clip, fmt: PlaneFormat, window: Window, *, aligns: bool = False) -> None:
    """Raise EngineLoadError unless an engine opened for this format accepts the clip.

    Clips with unaligned neighbours need an engine that ``aligns``.
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
    name: str, needed_bytes: int, fmt: PlaneFormat, room_bytes: int, instead: str
) -> None:
    """Raise NoRoomError where an engine that computes whole frames has too little memory for one.

    ``instead`` names an engine that computes in stripes.
    """
    if needed_bytes > room_bytes:
        raise NoRoomError(
            f"{name} needs about {needed_bytes >> 20} MiB for a frame of {fmt.width}x{fmt.height} and has "
            f"{room_bytes >> 20} MiB; use scale=0.5, or engine={instead!r}, which computes in stripes"
        )


def spec_from_card(
    card: Card, name: str, precision: str, device: str, notes: tuple[str, ...] = ()
) -> EngineSpec:
    """Name, device and window of an engine for reports; of T frames the network derains frame T // 2.

    A note names the cost of a network that few machines run in real time.
    """
    frames = card.config.frames
    flop = 2 * card.config.macs_per_pixel * _COST_PX
    if flop > _COSTLY_FLOP:
        note = f"the {card.network} network of tier {card.tier} does {flop / 1e9:.0f} GFLOP per 1280x720 frame"
        notes = (*notes, note)
    lookahead = frames - 1 - frames // 2
    return EngineSpec(
        name, precision, device, card.tier, frames, lookahead, notes, card.config.ranks
    )


def frame_flop(config: AnyConfig, fmt: PlaneFormat, *, folded: bool = False) -> float:
    """Floating point operations of the network for one frame, as trained or as engines compute it."""
    macs = config.folded_macs_per_pixel if folded else config.macs_per_pixel
    return 2.0 * macs * fmt.width * fmt.height
