"""The network at work for all cameras: fair shares, bounded latency, and the picture goes on if it fails."""

from __future__ import annotations

import logging
import threading
import time
from dataclasses import replace

from vderain.clips import newest_clip, turned
from vderain.frames import Frame, Plane, PlaneFormat
from vderain.live.control import PASSTHROUGH
from vderain.live.crew import IDLE_S, Crew, Job
from vderain.live.feed import Emitted, Feed, Waiting
from vderain.live.shelf import EngineShelf, Entry
from vderain.network.change import apply_change

logger = logging.getLogger(__name__)

_OPENING_S = 2.0  # how long the picture waits for an engine before it passes through
_AWAY_S = 1.0
_COST_FRAMES = 25  # over which the cost of a frame is averaged


class Derainer:
    """Takes the newest frames of all feeds to the engines, the feed that used least first.

    Args:
        shelf: where engines come from; closed by the caller.
        strength: share of the rain to take out.
        timeout_s: an engine that does not answer for so long is left behind.

    """

    def __init__(
        self,
        shelf: EngineShelf,
        *,
        strength: float = 1.0,
        timeout_s: float = 10.0,
    ) -> None:
        self.shelf = shelf
        self.shelf.on_ready = self.wake
        self._strength = strength
        self._timeout_s = timeout_s
        self._feeds: list[Feed] = []
        self._work = threading.Condition()
        self._crew: Crew | None = None
        self.hangs = 0

    def add(self, feed: Feed) -> None:
        """Serve a camera from now on."""
        with self._work:
            self._feeds.append(feed)

    def remove(self, feed: Feed) -> None:
        """Serve it no more."""
        with self._work:
            if feed in self._feeds:
                self._feeds.remove(feed)

    def put(self, feed: Feed, waiting: Waiting) -> None:
        """A frame was decoded."""
        now_s = time.monotonic()
        if now_s - feed.seen_s > _AWAY_S:  # what it did not use while it was away is not owed to it
            others = [other.used_s for other in self._feeds if other is not feed]
            feed.used_s = max(feed.used_s, min(others, default=0.0))
        feed.seen_s = now_s
        feed.control.arrived()
        if feed.control.update(now_s):
            _log_rung(feed)
        feed.stats.dropped("late", feed.ring.put(waiting))
        self.wake()

    def wake(self) -> None:
        """There may be something to do."""
        with self._work:
            self._work.notify_all()

    def start(self) -> None:
        """Begin to work."""
        self._crew = Crew(self)

    def check(self) -> None:
        """Leave threads behind whose engine hangs, and begin anew; to be called now and then."""
        crew = self._crew
        if crew is None or crew.busy_s <= self._timeout_s:
            return
        self.hangs += 1
        self._crew = None
        crew.abandon(f"no answer for {self._timeout_s:g} s")
        self._crew = Crew(self)

    def stop(self) -> None:
        """End; frames in flight are dropped."""
        crew, self._crew = self._crew, None
        if crew is not None:
            crew.stop()

    # What the crew calls.

    def next_job(self) -> Job | None:
        """The next frame to treat; None after a short wait without any."""
        with self._work:
            job = self._pick()
            if job is None:
                self._work.wait(IDLE_S)
                job = self._pick()
            return job

    def submit(self, job: Job) -> None:
        """Give the frame to an engine; raises what the engine raises."""
        assert job.entry is not None
        engine = job.entry.engine
        if engine is None or job.entry.spec is None:
            raise RuntimeError("the engine was taken out")
        with job.feed.stats.busy("align"):
            job.clip = newest_clip(job.waiting.recent, job.entry.spec.frames)
        job.submitted_s = time.monotonic()
        job.entry.in_flight += 1
        job.pending = engine.submit(job.clip)

    def deliver(self, job: Job, change: tuple[Plane, ...] | None) -> None:
        """Emit a frame with its change, or as it came where there is none; or judge a probe."""
        feed, frame = job.feed, job.waiting.frame
        if change is None or job.clip is None:
            self._emit(job, frame)
            return
        if job.probe:
            self._judge(job, job.cost_s)
            return
        feed.stats.latency("network", job.network_s)
        feed.stats.add_busy("network", job.cost_s)
        clip, center = job.clip, job.clip.planes
        planes = apply_change(center, change, clip.format, strength=self._strength)
        self._emit(job, replace(frame, planes=turned(planes, -frame.rotation // 90)))
        feed.used_s += job.cost_s
        feed.cost_s += (job.cost_s - feed.cost_s) / _COST_FRAMES

    def broken(self, job: Job, error: BaseException) -> None:
        """The engine failed on this frame: the picture goes on without it, where that is allowed."""
        if job.entry is not None:
            self.shelf.fail(job.entry, str(error) or type(error).__name__)
        job.feed.stats.engine_failures += 1
        if job.probe:
            self._judge(job, float("inf"))
        elif job.feed.passthrough:
            job.rung, job.flag = PASSTHROUGH, "the network failed"
            self._emit(job, job.waiting.frame)
        else:
            job.feed.stats.dropped("engine")

    def _emit(self, job: Job, dry: Frame) -> None:
        feed, waiting = job.feed, job.waiting
        if feed.flag != job.flag:
            logger.warning(
                "%s %s", feed.name, f"passes through: {job.flag}" if job.flag else "is derained",
                extra={"camera": feed.name, "flag": job.flag},
            )  # fmt: skip
        feed.flag = job.flag
        feed.stats.frame("passed" if job.rung.tier is None else "derained")
        feed.stats.latency("derained", time.monotonic() - waiting.arrived_s)
        feed.emit(
            Emitted(
                *(waiting.frame, dry, job.rung, waiting.arrived_s, waiting.time_s),
                flag=job.flag,
                pixel_shape=waiting.pixel_shape,
            )
        )
        feed.control.done()
        feed.last = waiting

    def _judge(self, job: Job, cost_s: float) -> None:
        feed = job.feed
        feed.probing = False
        slots = job.entry.engine.slots if job.entry is not None and job.entry.engine else 1
        if feed.control.rung == job.rung:  # it has moved meanwhile
            return
        now_s = time.monotonic()
        # A single probe has the engine's other slots idle: that they help is not counted on.
        if feed.control.probed(cost_s, feed.frame_s, self._spare(feed, slots), now_s):
            _log_rung(feed)

    def _spare(self, feed: Feed, slots: int) -> float:
        """The share of the engines' time that other feeds leave."""
        others = [other for other in self._feeds if other is not feed]
        used = sum(other.stats.rate("derained") * other.cost_s for other in others)
        return max(0.0, 1.0 - used / slots)

    def _pick(self) -> Job | None:
        """The frame of the feed that used the least engine time, with what it is to get."""
        ready = sorted((feed for feed in self._feeds if len(feed.ring)), key=lambda f: f.used_s)
        for feed in ready:
            job = self._plan(feed)
            if job is not None:
                return job
        return self._probe()

    def _plan(self, feed: Feed) -> Job | None:
        """Take the feed's frame, if what it needs has room now."""
        now_s = time.monotonic()
        newest = feed.ring.newest
        if newest is None:
            return None
        entry = self._entry(feed, newest.frame)
        if entry is not None and not entry.has_room:
            return None
        waiting, late = feed.ring.take()
        feed.stats.dropped("late", late)
        if waiting is None:
            return None
        if entry is not None and entry.fmt != _upright(waiting.frame):
            entry = self._entry(feed, waiting.frame)  # the format has just changed
        if entry is not None and entry.has_room:
            feed.missing_since_s = None
            if entry.rung != feed.control.rung:  # a stand-in says nothing of the rung that opens
                feed.control.restart(now_s)
            return Job(feed, waiting, entry.rung, entry)
        if feed.control.rung.tier is None:
            return Job(feed, waiting, PASSTHROUGH, flag="the network is too slow")
        return self._without_engine(feed, waiting, now_s)

    def _without_engine(self, feed: Feed, waiting: Waiting, now_s: float) -> Job | None:
        """No engine is ready: wait a moment for one that opens, then let the picture through."""
        entry = self.shelf.get(feed.control.rung, _upright(waiting.frame))
        if entry.state == "ready":  # since a moment ago
            if entry.has_room:
                return Job(feed, waiting, entry.rung, entry)
            feed.stats.dropped("late")
            return None
        feed.missing_since_s = feed.missing_since_s or now_s
        feed.control.restart(now_s)
        opening = entry.state == "opening" and entry.failures == 0
        if opening and now_s - feed.missing_since_s < _OPENING_S:
            feed.stats.dropped("opening")
            return None
        if not feed.passthrough:
            feed.stats.dropped("opening" if opening else "engine")
            return None
        flag = "the network is being prepared" if opening else "the network failed"
        return Job(feed, waiting, PASSTHROUGH, flag=flag)

    def _entry(self, feed: Feed, frame: Frame) -> Entry | None:
        """The engine for a frame: of its rung, else of the nearest that is ready; None to pass through."""
        if feed.control.rung.tier is None:
            return None
        rungs, level = feed.control.rungs, feed.control.level
        fmt = _upright(frame)
        wanted = self.shelf.get(rungs[level], fmt)
        if wanted.state == "ready":
            return wanted
        for rung in (*rungs[level + 1 :], *reversed(rungs[:level])):
            if rung.tier is None:
                continue
            # A cheaper one is opened only where the wanted one failed; else two would build at once.
            opens = wanted.state == "failed"
            entry = self.shelf.get(rung, fmt) if opens else self.shelf.peek(rung, fmt)
            if entry is not None and entry.state == "ready":
                return entry
        return None

    def _probe(self) -> Job | None:
        """A frame that was treated already, for a rung that a camera may go back to."""
        now_s = time.monotonic()
        for feed in self._feeds:
            waiting = feed.last
            better = None if feed.probing else feed.control.wants_probe(now_s)
            if better is None or waiting is None:
                continue
            entry = self.shelf.get(better, _upright(waiting.frame))
            if entry.state == "ready" and entry.has_room:
                feed.probing = True
                return Job(feed, waiting, better, entry, probe=True)
        return None


def _upright(frame: Frame) -> PlaneFormat:
    return frame.format.rotated(frame.rotation // 90)


def _log_rung(feed: Feed) -> None:
    logger.warning(
        "%s goes to %s", feed.name, feed.control.rung.name,
        extra={"camera": feed.name, "tier": feed.control.rung.name},
    )  # fmt: skip
