"""Cameras and engines in memory, for sessions without a network."""

import threading
import time
from collections import deque
from fractions import Fraction

import numpy as np

from tests.fakes import OffsetEngine, gray_frame
from vderain.flow.future import Future
from vderain.interfaces import EngineSpec, SourceStats, StreamInfo
from vderain.live.scheduling.camera import ScheduledCamera
from vderain.live.scheduling.tier_control import TierControl, ladder
from vderain.live.stats import CameraStats
from vderain.media.live.types import LiveFrame

RATE = 50


def until(condition, timeout_s=10.0):
    """Wait for something to be true; the last value."""
    end_s = time.monotonic() + timeout_s
    while not (value := condition()) and time.monotonic() < end_s:
        time.sleep(0.01)
    return value


class FakeCamera:
    """Yields what a script says: a number of frames at RATE, an exception to raise, "hang" or "silence"."""

    def __init__(self, script, *, is_live=True, make_frame=None):
        self.script = list(script)
        self.is_live = is_live
        self.audio = None
        self.stats = SourceStats()
        self.info = StreamInfo("fake://camera", 6, 4, Fraction(1, RATE), Fraction(RATE))
        self.released = threading.Event()
        self.cancelled = threading.Event()
        self.closed = False
        self.make_frame = make_frame or (lambda index: gray_frame(100, index))

    def __iter__(self):
        index = 0
        for step in self.script:
            if isinstance(step, Exception):
                raise step
            if step == "hang":
                self.released.wait(60)
                continue
            if step == "silence":
                self.cancelled.wait(60)
                return
            for _ in range(step):
                if self.cancelled.wait(1 / RATE):
                    return
                frame = self.make_frame(index)
                index += 1
                yield LiveFrame(frame, time.monotonic())

    def cancel(self):
        self.cancelled.set()

    def close(self):
        self.closed = True


class SlowEngine(OffsetEngine):
    """Takes ``seconds`` for an answer, one after the other; hangs while ``hang`` is set."""

    def __init__(self, seconds=0.0, slots=2):
        super().__init__(slots=slots)
        self.seconds = seconds
        self.hang = threading.Event()
        self.fail = False
        self.closed = False
        self.times = []
        self.clips = deque(maxlen=50)
        self.frames = 1

    def open(self, fmt):
        return EngineSpec("slow", "float32", "cpu", "fast", self.frames)

    def change(self, clip):
        if self.fail:
            raise RuntimeError("out of memory")
        self.times.append(time.monotonic())
        self.clips.append(clip)
        return Future(lambda: self.computed(clip))

    def computed(self, clip):
        while self.hang.is_set():
            time.sleep(0.01)
        time.sleep(self.seconds)
        # Luma alone, so that images get darker and keep their colours.
        levels = (self.offset, 0.0, 0.0)
        return tuple(
            np.full(p.shape, v, np.float32) for p, v in zip(clip.planes, levels, strict=False)
        )

    def close(self):
        self.closed = True


class Sightings(list):
    """What a camera emitted."""

    @property
    def levels(self):
        return [int(frame.dry.planes[0][0, 0]) for frame in self]

    @property
    def flags(self):
        return list(dict.fromkeys(frame.flag for frame in self))


def scheduled_camera(name="gate", *, passthrough=True, frame_s=0.02, steps=None):
    seen = Sightings()
    control = TierControl(ladder(["fast"], 1.0, passthrough=passthrough), time.monotonic(), steps)
    made = ScheduledCamera(
        name, control, CameraStats(), seen.append, passthrough=passthrough, frame_s=frame_s
    )
    made.ring.max_age_s = frame_s
    return made, seen


def shown(station):
    """Wait until a page of this station has frames to show."""
    return until(lambda: station.sessions[0].preview.pair is not None)
