"""What stands between a camera's capture and the network: its ring, its rung, its share of the engine."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from fractions import Fraction

from vderain.clips import Seen
from vderain.frames import Frame
from vderain.live.control import Rung, TierControl
from vderain.live.ring import LatestRing
from vderain.live.stats import CameraStats

NEIGHBOURS = 5  # decoded frames kept for clips, the newest included


@dataclass(frozen=True, slots=True, eq=False)
class Waiting:
    """A decoded frame on its way to the network.

    Attributes:
        frame: what is to be derained.
        recent: the frame, last, and decoded neighbours before it, also such as were never derained;
            none from before a reconnection, a gap or a change of format.
        arrived_s: when its packet came, ``time.monotonic``.
        time_s: its place on the session's time line.
        pixel_shape: width of a pixel by its height.

    """

    frame: Frame
    recent: tuple[Seen, ...]
    arrived_s: float
    time_s: Fraction
    pixel_shape: Fraction = Fraction(1)


@dataclass(frozen=True, slots=True, eq=False)
class Emitted:
    """A frame on its way out; ``dry`` is ``rainy`` itself where it passed through, ``flag`` says why."""

    rainy: Frame
    dry: Frame
    rung: Rung
    arrived_s: float
    time_s: Fraction
    flag: str = ""
    pixel_shape: Fraction = Fraction(1)


@dataclass(slots=True, eq=False)
class Feed:
    """One camera as the derainer sees it.

    Attributes:
        emit: takes a frame that is done; must not block.
        frame_s: time between two frames.
        used_s: engine time used, for fair shares; ``cost_s`` of a frame, averaged.
        seen_s: when the last frame came.
        flag: why frames pass through at the moment, "" where they are derained.

    """

    name: str
    control: TierControl
    stats: CameraStats
    emit: Callable[[Emitted], None]
    passthrough: bool = True
    frame_s: float = 0.04
    used_s: float = 0.0
    cost_s: float = 0.0
    seen_s: float = 0.0
    flag: str = ""
    ring: LatestRing[Waiting] = field(default_factory=LatestRing)
    last: Waiting | None = None  # for probes of a better rung
    missing_since_s: float | None = None  # no engine is ready since then
    probing: bool = False
