"""A device in memory that delays, reorders and fails, behind the seam that CUDA and OpenVINO stand behind."""

import threading

import numpy as np

from vderain.engines.backends.slots import SlotEngine
from vderain.interfaces import EngineSpec

SPEC = EngineSpec("fake", "float16", "fake device", "tiny")


class FakeDevice:
    """Computes ``plane + 1`` in threads of its own.

    ``delays_s`` are taken by launches in turn, so that a later clip may be done before an earlier one.
    ``fail`` maps a call, (its name, how many of that name came before), to the exception it raises.
    """

    def __init__(self, slots=3, delays_s=(0.0,), fail=None):
        self.delays_s = delays_s
        self.fail = fail or {}
        self.calls = []
        self.done = []
        self.live = slots
        self.in_flight = self.most_in_flight = 0
        self.lock = threading.Lock()
        self.slots = [FakeSlot(self) for _ in range(slots)]

    def engine(self, fmt, spec=SPEC):
        return SlotEngine(self.slots, fmt, spec)

    def call(self, name):
        with self.lock:
            count = self.calls.count(name)
            self.calls.append(name)
        if (name, count) in self.fail:
            raise self.fail[name, count]
        return count


class FakeSlot:
    def __init__(self, device):
        self.device = device
        self.stage = "idle"
        self.event = None

    def upload(self, clip):
        assert self.stage == "idle", "a slot is used again before its answer was fetched"
        self.index = self.device.call("upload")
        self.planes = [plane.copy() for plane in clip.inputs]
        self.stage = "uploaded"

    def launch(self):
        assert self.stage == "uploaded"
        count = self.device.call("launch")
        self.event = threading.Event()
        with self.device.lock:
            self.device.in_flight += 1
            self.device.most_in_flight = max(self.device.most_in_flight, self.device.in_flight)
        delay = self.device.delays_s[count % len(self.device.delays_s)]
        threading.Timer(delay, self.compute, [self.event, self.planes]).start()
        self.stage = "launched"

    def compute(self, event, planes):
        self.answer = tuple(plane.astype(np.float32) + 1 for plane in planes)
        with self.device.lock:
            self.device.done.append(self.index)
            self.device.in_flight -= 1
        event.set()

    def download(self):
        assert self.stage == "launched"
        self.device.call("download")
        self.stage = "downloading"

    def wait(self):
        assert self.stage == "downloading"
        assert self.event.wait(20)
        self.stage = "idle"
        self.device.call("wait")
        return self.answer

    def close(self):
        assert self.stage != "closed", "closed twice"
        self.stage = "closed"
        self.device.live -= 1
        self.device.call("close")
