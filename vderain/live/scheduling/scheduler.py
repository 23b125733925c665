"""Takes the newest frames of all cameras to the engines, in two threads: one submits, one collects.

An engine that hangs blocks only these two threads. They are abandoned with their tasks, and two new ones continue
with the next frames.
"""

from __future__ import annotations

import logging
import queue
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace

from vderain.alignment import Aligner
from vderain.clips import newest_clip, turned
from vderain.flow.future import Future
from vderain.frames import Plane
from vderain.live.scheduling.camera import ScheduledCamera
from vderain.live.scheduling.engines import LiveEngines
from vderain.live.scheduling.planner import Planner, Task, log_rung
from vderain.media.live.types import LiveFrame

logger = logging.getLogger(__name__)

_IDLE_S = 0.2  # after which a stop is noticed
_AWAY_S = 1.0
_COST_FRAMES = 25  # over which the cost of a frame is averaged
_JOIN_S = 5.0


@dataclass(frozen=True, slots=True, eq=False)
class _InFlight:
    """A task between submission and result; a frame that passes through has no result."""

    task: Task
    future: Future | None = None
    submitted_s: float = 0.0


@dataclass(slots=True, eq=False)
class _Threads:
    """The two threads and their tasks, by the name of the thread."""

    stop: threading.Event = field(default_factory=threading.Event)
    submitted: queue.Queue[_InFlight | None] = field(default_factory=queue.Queue)
    held: dict[str, tuple[Task, float]] = field(default_factory=dict)
    threads: list[threading.Thread] = field(default_factory=list)

    @contextmanager
    def holding(self, name: str, task: Task) -> Iterator[None]:
        """Note that a thread works on a task."""
        self.held[name] = task, time.monotonic()
        try:
            yield
        finally:
            self.held.pop(name, None)

    @property
    def busy_s(self) -> float:
        """How long the slower thread has worked on its task."""
        now_s = time.monotonic()
        return max((now_s - since_s for _, since_s in list(self.held.values())), default=0.0)

    def abandon(self) -> list[Task]:
        """Abandon both threads; returns their tasks, and those between them."""
        self.stop.set()
        tasks = [task for task, _ in list(self.held.values())]
        while not self.submitted.empty():
            item = self.submitted.get_nowait()
            tasks += [] if item is None else [item.task]
        self.submitted.put(None)
        return tasks


class Scheduler:
    """Shares the engines among the cameras; emits each frame derained or passed through.

    Args:
        engines: opens the engines; closed by the caller.
        strength: scales the change.
        timeout_s: after which an engine counts as hanging and is abandoned.

    """

    def __init__(
        self, engines: LiveEngines, *, strength: float = 1.0, timeout_s: float = 10.0
    ) -> None:
        self.engines = engines
        self.engines.on_ready = self.wake
        self.hangs = 0
        self._strength = strength
        self._timeout_s = timeout_s
        self._planner = Planner(engines)
        self._work = threading.Condition()
        self._threads: _Threads | None = None

    def add(self, camera: ScheduledCamera) -> None:
        """Add a camera."""
        with self._work:
            self._planner.cameras.append(camera)

    def remove(self, camera: ScheduledCamera) -> None:
        """Remove a camera."""
        with self._work:
            if camera in self._planner.cameras:
                self._planner.cameras.remove(camera)

    def put(self, camera: ScheduledCamera, frame: LiveFrame) -> None:
        """Note a decoded frame."""
        now_s = time.monotonic()
        if now_s - camera.seen_s > _AWAY_S:  # while away it saved no engine time for later
            others = [other.used_s for other in self._planner.cameras if other is not camera]
            camera.used_s = max(camera.used_s, min(others, default=0.0))
        camera.seen_s = now_s
        camera.control.arrived()
        if camera.control.update(now_s):
            log_rung(camera)
        camera.stats.dropped("late", camera.ring.put(frame))
        self.wake()

    def wake(self) -> None:
        """Wake the thread that submits."""
        with self._work:
            self._work.notify_all()

    def start(self) -> None:
        """Start the threads."""
        threads = self._threads = _Threads()
        for run, name in ((self._submit, "submit"), (self._collect, "collect")):
            threads.threads.append(
                threading.Thread(target=run, args=(threads,), name=f"vderain-{name}", daemon=True)
            )
        for thread in threads.threads:
            thread.start()

    def check(self) -> None:
        """Replace the threads where an engine hangs; call it several times a second."""
        threads = self._threads
        if threads is None or threads.busy_s <= self._timeout_s:
            return
        self.hangs += 1
        for task in threads.abandon():
            if task.entry is not None:
                reason = f"no result for {self._timeout_s:g} s"
                self.engines.fail(task.entry, reason, hung=True)
                task.camera.stats.engine_failures += 1
            task.camera.probing = False
            task.camera.aligner = Aligner()  # an abandoned thread may still use the old one
            task.camera.stats.dropped("engine", not task.is_probe)
        self.start()

    def stop(self) -> None:
        """End; frames in flight are dropped."""
        threads, self._threads = self._threads, None
        if threads is None:
            return
        threads.stop.set()
        threads.submitted.put(None)
        self.wake()
        for thread in threads.threads:
            thread.join(timeout=2 * _IDLE_S + _JOIN_S)

    def _submit(self, threads: _Threads) -> None:
        while not threads.stop.is_set():
            task = self._next_task()
            if task is None:
                continue
            with threads.holding("submit", task):
                try:
                    item = self._started(task)
                except Exception as error:  # after any error the other frames continue
                    if not threads.stop.is_set():
                        self._failed(task, error)
                    continue
            if not threads.stop.is_set():
                threads.submitted.put(item)

    def _next_task(self) -> Task | None:
        """The next task; None after a short wait without one."""
        with self._work:
            task = self._planner.next_task()
            if task is None:
                self._work.wait(_IDLE_S)
                task = self._planner.next_task()
            return task

    def _started(self, task: Task) -> _InFlight:
        """Align a frame's neighbours and submit the clip; raises what the engine raises."""
        camera, entry = task.camera, task.entry
        if entry is None:
            return _InFlight(task)
        engine = entry.engine
        if engine is None or entry.spec is None:
            raise RuntimeError("the engine was taken out")
        with camera.stats.busy("align"):
            window = engine.window.looking_ahead(0)
            clip = newest_clip(task.frame.recent, window, camera.aligner)
        submitted_s = time.monotonic()
        entry.begin()
        return _InFlight(task, engine.submit(clip, strength=self._strength), submitted_s)

    def _collect(self, threads: _Threads) -> None:
        idle_since_s = 0.0
        while (item := threads.submitted.get()) is not None and not threads.stop.is_set():
            task = item.task
            with threads.holding("collect", task):
                try:
                    planes = None if item.future is None else item.future.result()
                    if threads.stop.is_set():  # abandoned; two other threads have taken the frames
                        return
                    network_s = time.monotonic() - item.submitted_s
                    # The engine time of the frame, without the time for which it waited for an earlier frame.
                    cost_s = min(network_s, time.monotonic() - idle_since_s)
                    self._deliver(task, planes, network_s, cost_s)
                except Exception as error:  # after any error the other frames continue
                    if not threads.stop.is_set():
                        self._failed(task, error)
            if task.entry is not None and not threads.stop.is_set():
                task.entry.end()
            idle_since_s = time.monotonic()
            self.wake()

    def _deliver(
        self, task: Task, planes: Sequence[Plane] | None, network_s: float, cost_s: float
    ) -> None:
        """Emit a frame with its planes, or passed through where there are none; or judge a probe."""
        camera, rainy = task.camera, task.frame.rainy
        if planes is None:
            self._emit(task, replace(task.frame, flag=task.flag))
            return
        if task.is_probe:
            with self._work:
                self._planner.judge(task, cost_s)
            return
        camera.stats.latency("network", network_s)
        camera.stats.add_busy("network", cost_s)
        dry = replace(rainy, planes=turned(planes, -rainy.rotation // 90))
        self._emit(task, replace(task.frame, derained=dry, tier=task.rung.name, flag=task.flag))
        camera.used_s += cost_s
        camera.cost_s += (cost_s - camera.cost_s) / _COST_FRAMES

    def _failed(self, task: Task, error: BaseException) -> None:
        """Handle an engine's failure: the frame passes through, where that is allowed."""
        camera = task.camera
        if task.entry is not None:
            self.engines.fail(task.entry, str(error) or type(error).__name__)
        camera.stats.engine_failures += 1
        if task.is_probe:
            with self._work:
                self._planner.judge(task, float("inf"))
        elif camera.passthrough:
            self._emit(task, replace(task.frame, flag="the network failed"))
        else:
            camera.stats.dropped("engine")

    def _emit(self, task: Task, frame: LiveFrame) -> None:
        camera = task.camera
        if camera.flag != frame.flag:
            logger.warning(
                "%s %s", camera.name, f"passes through: {frame.flag}" if frame.flag else "is derained",
                extra={"camera": camera.name, "flag": frame.flag},
            )  # fmt: skip
        camera.flag = frame.flag
        camera.stats.frame("passed" if frame.derained is None else "derained")
        camera.stats.latency("derained", time.monotonic() - frame.arrived_s)
        camera.emit(replace(frame, recent=()))  # encoders need no neighbours
        camera.control.done()
        camera.last = task.frame
