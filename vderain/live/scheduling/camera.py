"""A camera's state between capture and network: its ring of frames, its rung, its share of the engines."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from vderain.alignment import Aligner
from vderain.live.scheduling.ring_buffer import LatestRing
from vderain.live.scheduling.tier_control import TierControl
from vderain.live.stats import CameraStats
from vderain.media.live.types import LiveFrame


@dataclass(slots=True, eq=False)
class ScheduledCamera:
    """One camera in the scheduler.

    Attributes:
        emit: takes a finished frame; must not block.
        kept_frames: decoded frames kept for clips, the newest included: as many as a network sees.
        frame_s: time between two frames.
        used_s: engine time used, for fair shares; ``cost_s`` of a frame, averaged.
        seen_s: time of the last frame.
        aligner: of the one thread that submits.
        flag: why frames pass through at the moment; "" where they are derained.

    """

    name: str
    control: TierControl
    stats: CameraStats
    emit: Callable[[LiveFrame], None]
    kept_frames: int = 1
    passthrough: bool = True
    frame_s: float = 0.04
    used_s: float = 0.0
    cost_s: float = 0.0
    seen_s: float = 0.0
    flag: str = ""
    aligner: Aligner = field(default_factory=Aligner)
    ring: LatestRing[LiveFrame] = field(default_factory=LatestRing)
    last: LiveFrame | None = None  # for probes of a better rung
    missing_since_s: float | None = None  # since when no engine is ready
    probing: bool = False
