"""Sources, engines and sinks in memory, for tests of what lies between them."""

from dataclasses import replace
from fractions import Fraction

import numpy as np

from vderain.clips import Window
from vderain.engines.engine import added
from vderain.flow.future import Future
from vderain.frames import Frame, PassedPacket, PlaneFormat
from vderain.interfaces import EngineSpec, SinkReport, SourceStats, StreamInfo

GRAY = PlaneFormat("gray", 6, 4, full_range=True)


def gray_frame(level, pts, **changes):
    planes = (np.full((4, 6), level, np.uint8),)
    return replace(Frame(planes, GRAY, pts=pts, time_base=Fraction(1, 25)), **changes)


class ListSource:
    """Yields prepared items; raises one that is an exception."""

    def __init__(self, items, **info):
        self.items = items
        self.stats = SourceStats()
        self.template = None
        self.ended = self.cancelled = False
        known = {"path": "rainy.mp4", "width": 6, "height": 4, "time_base": Fraction(1, 25)}
        self.info = StreamInfo(**{**known, "frame_rate": Fraction(25), **info})

    def __iter__(self):
        try:
            for item in self.items:
                if isinstance(item, Exception):
                    raise item
                self.stats.frames += isinstance(item, Frame)
                yield item
        finally:
            self.ended = True

    def cancel(self):
        self.cancelled = True

    def close(self):
        self.ended = True


class ListSink:
    takes_device_planes = False

    def __init__(self, fail_at=None):
        self.items = []
        self.state = "open"
        self.fail_at = fail_at

    def write(self, item):
        if len(self.items) == self.fail_at:
            raise OSError("sink is full")
        self.items.append(item)

    def finish(self):
        self.state = "finished"
        frames = sum(isinstance(item, Frame) for item in self.items)
        return SinkReport(path="dry.mp4", frames=frames, codec="list")

    def abort(self):
        self.state = "aborted"


class FakeEngine:
    """What engines of the tests share: one frame a clip, changes that are added on the host."""

    slots = frames = 1

    @property
    def window(self):
        return Window.of(self.frames)

    def open(self, fmt):
        return EngineSpec("fake", "float32", "cpu", "fast", self.frames)

    def submit(self, clip, *, strength=1.0, on_device=False):
        return added(self.change(clip), clip, strength)

    def close(self):
        pass


class OffsetEngine(FakeEngine):
    """Answers with a change of ``offset`` everywhere, and checks that it is used as the contract says."""

    def __init__(self, offset=-5.0, slots=2, fail_at=None):
        self.offset, self.slots, self.fail_at = offset, slots, fail_at
        self.submitted = []
        self.answered = 0

    def open(self, fmt):
        return EngineSpec("offset", "float32", "cpu", "fast")

    def change(self, clip):
        assert len(self.submitted) - self.answered < self.slots
        if len(self.submitted) == self.fail_at:
            raise ValueError("engine is broken")
        self.submitted.append(clip)
        number = len(self.submitted) - 1
        return Future(lambda: self.answer(number))

    def answer(self, number):
        assert number == self.answered, "answers are asked for in order"
        self.answered += 1
        planes = self.submitted[number].planes
        return tuple(np.full(plane.shape, self.offset, np.float32) for plane in planes)


def packet(index):
    return PassedPacket(index, payload=f"packet {index}")
