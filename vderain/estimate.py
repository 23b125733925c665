"""How long a run will take, measured on a few frames."""

from __future__ import annotations

import time
from collections import deque

import numpy as np

from vderain.clips import still_clip
from vderain.frames import PlaneFormat
from vderain.future import Future
from vderain.interfaces import Engine, StreamInfo

_FRAMES = 6


def network_frame_s(engine: Engine, fmt: PlaneFormat) -> float:
    """Seconds that the network takes for a frame with all slots in flight; opens the engine first."""
    planes = tuple(np.full(shape, fmt.peak // 2, fmt.dtype) for shape in fmt.plane_shapes)
    clip = still_clip(planes, fmt, engine.window.seen_frames)
    engine.submit(clip).result()  # the first one also allocates
    since = time.monotonic()
    waiting: deque[Future] = deque()
    for _ in range(_FRAMES):
        waiting.append(engine.submit(clip))
        if len(waiting) == engine.slots:
            waiting.popleft().result()
    while waiting:
        waiting.popleft().result()
    return (time.monotonic() - since) / _FRAMES


def frames_of(info: StreamInfo) -> int | None:
    """Frames of an input by what its container says; None where it does not."""
    if info.frames is not None:
        return info.frames
    if info.duration_s is not None and info.frame_rate:
        return round(info.duration_s * info.frame_rate)
    return None
