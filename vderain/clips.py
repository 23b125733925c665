"""From frames to the clips that the network sees."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import numpy as np

from vderain.frames import Clip, Frame, PassedPacket, Plane


def clips(
    items: Iterable[Frame | PassedPacket],
) -> Iterator[tuple[Frame | PassedPacket, Clip | None]]:
    """Pair every frame with its clip of one frame, turned upright; packets pass with None."""
    for item in items:
        yield item, upright_clip(item) if isinstance(item, Frame) else None


def upright_clip(frame: Frame) -> Clip:
    """The clip of one frame, turned as it is displayed: rain falls downwards there."""
    turns = frame.rotation // 90
    planes = turned(frame.planes, turns)
    return Clip((planes,), frame.format.rotated(turns))


def turned(planes: tuple[Plane, ...], quarter_turns: int) -> tuple[Plane, ...]:
    """Planes turned counter-clockwise; views without a copy where nothing turns."""
    if quarter_turns % 4 == 0:
        return planes
    return tuple(np.ascontiguousarray(np.rot90(plane, quarter_turns)) for plane in planes)
