"""Decides which camera's frame is next, and how it is treated: fair shares, tiers, fallbacks and probes."""

from __future__ import annotations

import logging
import time
from dataclasses import dataclass

from vderain.frames import Frame, PlaneFormat
from vderain.live.scheduling.camera import ScheduledCamera
from vderain.live.scheduling.engines import Entry, LiveEngines
from vderain.live.scheduling.tier_control import PASSTHROUGH, Rung
from vderain.media.live.types import LiveFrame

logger = logging.getLogger(__name__)

_OPENING_S = 2.0  # for which frames are dropped while an engine opens; then they pass through


@dataclass(frozen=True, slots=True, eq=False)
class Task:
    """The treatment of a frame: the engine of ``entry`` derains it, or it passes through where that is None.

    The result of a probe is discarded: only its time counts.
    """

    camera: ScheduledCamera
    frame: LiveFrame
    rung: Rung
    entry: Entry | None = None
    flag: str = ""
    is_probe: bool = False


class Planner:
    """The decisions for all cameras; never waits. The caller guards it with a lock."""

    def __init__(self, engines: LiveEngines) -> None:
        self._engines = engines
        self.cameras: list[ScheduledCamera] = []

    def next_task(self) -> Task | None:
        """A frame of the camera that used the least engine time; None where there is no work now."""
        ready = sorted(
            (camera for camera in self.cameras if len(camera.ring)), key=lambda each: each.used_s
        )
        for camera in ready:
            task = self._task(camera)
            if task is not None:
                return task
        return self._probe()

    def judge(self, task: Task, cost_s: float) -> None:
        """Note that a probe took ``cost_s`` of engine time, infinity where the engine failed; may step up."""
        camera = task.camera
        camera.probing = False
        slots = task.entry.engine.slots if task.entry is not None and task.entry.engine else 1
        if camera.control.rung == task.rung:  # otherwise the rung has changed in the meantime
            return
        # During a single probe the engine's other slots are idle, so their gain is not assumed.
        spare = self._spare(camera, slots)
        if camera.control.probed(cost_s, camera.frame_s, spare, time.monotonic()):
            log_rung(camera)

    def _task(self, camera: ScheduledCamera) -> Task | None:
        """Take the camera's frame, if its engine has a free slot."""
        now_s = time.monotonic()
        newest = camera.ring.newest
        if newest is None:
            return None
        entry = self._entry(camera, newest.rainy)
        if entry is not None and not entry.has_room:
            return None
        frame, late = camera.ring.take()
        camera.stats.dropped("late", late)
        if frame is None:
            return None
        if entry is not None and entry.fmt != _upright(frame.rainy):
            entry = self._entry(camera, frame.rainy)  # the format has just changed
        if entry is not None and entry.has_room:
            camera.missing_since_s = None
            if entry.rung != camera.control.rung:  # a fallback, while the rung opens
                camera.control.restart(now_s)
            return Task(camera, frame, entry.rung, entry)
        if camera.control.rung.tier is None:
            return Task(camera, frame, PASSTHROUGH, flag="the network is too slow")
        return self._without_engine(camera, frame, now_s)

    def _without_engine(
        self, camera: ScheduledCamera, frame: LiveFrame, now_s: float
    ) -> Task | None:
        """Without a ready engine: wait briefly for one that opens, then let the frames pass through."""
        entry = self._engines.get(camera.control.rung, _upright(frame.rainy))
        if entry.state == "ready":  # it became ready a moment ago
            if entry.has_room:
                return Task(camera, frame, entry.rung, entry)
            camera.stats.dropped("late")
            return None
        camera.missing_since_s = camera.missing_since_s or now_s
        camera.control.restart(now_s)
        opening = entry.state == "opening" and entry.failures == 0
        if opening and now_s - camera.missing_since_s < _OPENING_S:
            camera.stats.dropped("opening")
            return None
        if not camera.passthrough:
            camera.stats.dropped("opening" if opening else "engine")
            return None
        flag = "the network is being prepared" if opening else "the network failed"
        return Task(camera, frame, PASSTHROUGH, flag=flag)

    def _entry(self, camera: ScheduledCamera, frame: Frame) -> Entry | None:
        """The engine for a frame: of its rung, else of the nearest that is ready; None to pass through."""
        if camera.control.rung.tier is None:
            return None
        rungs, level = camera.control.rungs, camera.control.level
        fmt = _upright(frame)
        wanted = self._engines.get(rungs[level], fmt)
        if wanted.state == "ready":
            return wanted
        for rung in (*rungs[level + 1 :], *reversed(rungs[:level])):
            if rung.tier is None:
                continue
            # A cheaper engine is opened only after the wanted one failed; otherwise two would be built at once.
            opens = wanted.state == "failed"
            entry = self._engines.get(rung, fmt) if opens else self._engines.peek(rung, fmt)
            if entry is not None and entry.state == "ready":
                return entry
        return None

    def _probe(self) -> Task | None:
        """A finished frame, for a probe of a better rung that the camera may return to."""
        now_s = time.monotonic()
        for camera in self.cameras:
            frame = camera.last
            better = None if camera.probing else camera.control.wants_probe(now_s)
            if better is None or frame is None:
                continue
            entry = self._engines.get(better, _upright(frame.rainy))
            if entry.state == "ready" and entry.has_room:
                camera.probing = True
                return Task(camera, frame, better, entry, is_probe=True)
        return None

    def _spare(self, camera: ScheduledCamera, slots: int) -> float:
        """The share of the engines' time that other cameras do not use."""
        others = [other for other in self.cameras if other is not camera]
        used = sum(other.stats.rate("derained") * other.cost_s for other in others)
        return max(0.0, 1.0 - used / slots)


def log_rung(camera: ScheduledCamera) -> None:
    """Log that a camera's rung has changed."""
    logger.warning(
        "%s goes to %s", camera.name, camera.control.rung.name,
        extra={"camera": camera.name, "tier": camera.control.rung.name},
    )  # fmt: skip


def _upright(frame: Frame) -> PlaneFormat:
    return frame.format.rotated(frame.rotation // 90)
