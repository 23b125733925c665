"""Steps one camera between rungs, by the share of its frames that are derained in time.

A ladder has the best rung first and passthrough (no network) last. A camera steps down when frames are dropped
for a while, and up after a probe of the better rung on a real frame has shown that it fits. A step up that does
not last doubles the wait for the next one.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Rung:
    """A treatment of frames: a tier at a scale, or passthrough where ``tier`` is None."""

    tier: str | None
    scale: float = 1.0

    @property
    def name(self) -> str:
        """The name for metrics and people: ``fast``, ``fast@0.5``, ``passthrough``."""
        if self.tier is None:
            return "passthrough"
        return self.tier if self.scale == 1.0 else f"{self.tier}@{self.scale:g}"


PASSTHROUGH = Rung(None)


@dataclass(frozen=True, slots=True)
class ControlOptions:
    """When to step; shares are frames derained of frames that arrived, chosen by trials on CPUs."""

    window_s: float = 1.0
    down_share: float = 0.85  # below, for ``down_windows``: the next cheaper network
    last_share: float = 0.34  # below, for ``down_windows``, on the cheapest network: passthrough
    down_windows: int = 3
    up_share: float = 0.97  # at least, for ``up_windows``: the better rung is probed
    up_windows: int = 5
    up_load: float = 0.7  # of the free time that the better rung may take
    up_probes: int = 2  # good probes in a row before a step up
    hold_s: float = 10.0  # after a step, before the next probe
    hold_max_s: float = 300.0
    trial_s: float = 30.0  # a step down within this time after a step up makes the hold longer


class TierControl:
    """The rung of one camera; every call gets the time, in monotonic seconds.

    Attributes:
        level: index of the rung in use, 0 the best.

    """

    def __init__(
        self, rungs: tuple[Rung, ...], now_s: float, options: ControlOptions | None = None
    ) -> None:
        if not rungs:
            raise ValueError("a ladder needs at least one rung")
        self.rungs = rungs
        self.level = 0
        self._options = options or ControlOptions()
        self._hold_s = self._options.hold_s
        self._window_s = now_s
        self._arrived = self._derained = 0
        self._bad = self._good = self._worst = 0
        self._probes = 0
        self._may_probe_s = now_s + self._hold_s
        self._stepped_up_s: float | None = None

    @property
    def rung(self) -> Rung:
        """The rung in use."""
        return self.rungs[self.level]

    def arrived(self) -> None:
        """Note a frame from the camera."""
        self._arrived += 1

    def done(self) -> None:
        """Note an emitted frame, derained or passed through."""
        self._derained += 1

    def restart(self, now_s: float) -> None:
        """Forget the current window, as after a reconnection or while an engine opens."""
        self._window_s = now_s
        self._arrived = self._derained = 0
        self._bad = self._good = self._worst = 0

    def update(self, now_s: float) -> bool:
        """Close a window that is over; returns whether the rung changed (downwards)."""
        if now_s - self._window_s < self._options.window_s or self._arrived < 2:
            return False  # a camera of one frame a second gets longer windows
        arrived, derained = self._arrived, self._derained
        self._window_s, self._arrived, self._derained = now_s, 0, 0
        share = derained / arrived
        options = self._options
        self._bad = self._bad + 1 if share < options.down_share else 0
        self._worst = self._worst + 1 if share < options.last_share else 0
        self._good = self._good + 1 if share >= options.up_share else 0
        if share < options.up_share:
            self._probes = 0
        below = self.rungs[self.level + 1] if self.level + 1 < len(self.rungs) else None
        if below is None:
            return False
        count = self._worst if below.tier is None else self._bad
        if count < options.down_windows:
            return False
        self._step(+1, now_s)
        return True

    def wants_probe(self, now_s: float) -> Rung | None:
        """The better rung, where it is time to probe it on one frame."""
        ready = self._good >= self._options.up_windows and now_s >= self._may_probe_s
        return self.rungs[self.level - 1] if self.level > 0 and ready else None

    def probed(self, cost_s: float, frame_s: float, spare: float, now_s: float) -> bool:
        """Judge a probe; returns whether the rung changed (upwards).

        Args:
            cost_s: what a frame takes on the better rung, infinity where that failed.
            frame_s: time between two frames of the camera.
            spare: share of the engine's time that other cameras do not use, 0 to 1.
            now_s: the time.

        """
        fits = cost_s <= self._options.up_load * spare * frame_s
        self._probes = self._probes + 1 if fits else 0
        if not fits:
            self._lengthen_hold()
            self._may_probe_s = now_s + self._hold_s
            return False
        if self._probes < self._options.up_probes:
            self._may_probe_s = now_s + self._options.window_s
            return False
        self._step(-1, now_s)
        return True

    def _step(self, by: int, now_s: float) -> None:
        options = self._options
        if by < 0:
            self._stepped_up_s = now_s
        elif self._stepped_up_s is not None and now_s - self._stepped_up_s < options.trial_s:
            self._lengthen_hold()
        else:
            self._hold_s = options.hold_s
        self.level += by
        self._probes = 0
        self._may_probe_s = now_s + self._hold_s
        self.restart(now_s)

    def _lengthen_hold(self) -> None:
        self._hold_s = min(2 * self._hold_s, self._options.hold_max_s)


def ladder(tiers: Sequence[str], scale: float, *, passthrough: bool) -> tuple[Rung, ...]:
    """The rungs: each of the tiers at a scale, the last one at half of it, passthrough if allowed.

    No rung has a scale below 0.25, at which little of a streak is left.
    """
    rungs = [Rung(tier, scale) for tier in tiers]
    if scale > 0.25:
        rungs.append(Rung(tiers[-1], max(0.25, scale / 2)))
    return (*rungs, PASSTHROUGH) if passthrough else tuple(rungs)
