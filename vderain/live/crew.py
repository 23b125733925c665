"""Two threads between frames and engines, left behind together when an engine hangs.

A reason for each: one waits for frames and submits them, the other waits for answers. An engine that
does not answer thus blocks nothing but them, and another crew goes on with the next frames.
"""

from __future__ import annotations

import queue
import threading
import time
from dataclasses import dataclass
from typing import Protocol

from vderain.frames import Clip, Plane
from vderain.interfaces import Pending
from vderain.live.control import Rung
from vderain.live.feed import Feed, Waiting
from vderain.live.shelf import EngineShelf, Entry

IDLE_S = 0.2  # how soon a stop is noticed


@dataclass(slots=True, eq=False)
class Job:
    """A frame between submission and answer; a probe's answer is thrown away.

    ``network_s`` is the time from submission to answer, ``cost_s`` how much of it no other frame's
    answer was waited for: what the frame takes of the engine.
    """

    feed: Feed
    waiting: Waiting
    rung: Rung
    entry: Entry | None = None
    clip: Clip | None = None
    pending: Pending | None = None
    submitted_s: float = 0.0
    network_s: float = 0.0
    cost_s: float = 0.0
    flag: str = ""
    probe: bool = False


class Work(Protocol):
    """What a crew works for: where its jobs come from and go."""

    shelf: EngineShelf

    def next_job(self) -> Job | None:
        """The next frame to treat; None after a short wait without any."""

    def submit(self, job: Job) -> None:
        """Give the frame to an engine; raises what the engine raises."""

    def deliver(self, job: Job, change: tuple[Plane, ...] | None) -> None:
        """Take the answer; None for a frame that was not submitted."""

    def broken(self, job: Job, error: BaseException) -> None:
        """The engine failed on this frame."""

    def wake(self) -> None:
        """An engine has room again."""


class Crew:
    """The two threads, and what is in flight between them; left behind as a whole when one hangs."""

    def __init__(self, work: Work) -> None:
        self._work = work
        self._stop = threading.Event()
        self._jobs: queue.Queue[Job | None] = queue.Queue()
        self._since: dict[str, float | None] = {"submit": None, "answer": None}
        self._current: dict[str, Job | None] = {"submit": None, "answer": None}
        self._threads = [
            threading.Thread(target=run, name=f"vderain-{name}", daemon=True)
            for name, run in (("submit", self._submit), ("answer", self._answer))
        ]
        for thread in self._threads:
            thread.start()

    @property
    def busy_s(self) -> float:
        """How long the slower of the two has been in the engine."""
        now_s = time.monotonic()
        return max((now_s - since for since in self._since.values() if since), default=0.0)

    def stop(self) -> None:
        """End both threads."""
        self._stop.set()
        self._jobs.put(None)
        self._work.wake()
        for thread in self._threads:
            thread.join(timeout=2 * IDLE_S + 5.0)

    def abandon(self, reason: str) -> None:
        """Let go of both threads; what they hold is dropped."""
        self._stop.set()
        held = [job for job in self._current.values() if job is not None]
        while True:
            try:
                job = self._jobs.get_nowait()
            except queue.Empty:
                break
            if job is not None:
                held.append(job)
        self._jobs.put(None)
        for job in held:
            if job.entry is not None:
                self._work.shelf.fail(job.entry, reason, hung=True)
                job.feed.stats.engine_failures += 1
            job.feed.probing = False
            job.feed.stats.dropped("engine")

    def _submit(self) -> None:
        while not self._stop.is_set():
            job = self._work.next_job()
            if job is None:
                continue
            if job.entry is not None:
                self._enter("submit", job)
                try:
                    self._work.submit(job)
                except Exception as error:  # whatever it is, the picture goes on
                    if not self._stop.is_set():
                        self._work.broken(job, error)
                    continue
                finally:
                    self._enter("submit", None)
            if not self._stop.is_set():
                self._jobs.put(job)

    def _answer(self) -> None:
        idle_since_s = 0.0
        while (job := self._jobs.get()) is not None and not self._stop.is_set():
            self._enter("answer", job)
            try:
                change = job.pending.result() if job.pending is not None else None
                now_s = time.monotonic()
                if self._stop.is_set():  # left behind; another crew has gone on
                    return
                job.cost_s = now_s - max(job.submitted_s, idle_since_s)
                job.network_s = now_s - job.submitted_s
                self._work.deliver(job, change)
            except Exception as error:  # whatever it is, the picture goes on
                if not self._stop.is_set():
                    self._work.broken(job, error)
            finally:
                self._enter("answer", None)
                if job.entry is not None and not self._stop.is_set():
                    job.entry.in_flight = max(0, job.entry.in_flight - 1)
            idle_since_s = time.monotonic()
            self._work.wake()

    def _enter(self, place: str, job: Job | None) -> None:
        self._current[place] = job
        self._since[place] = None if job is None else time.monotonic()
