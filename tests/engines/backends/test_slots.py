"""The scheduler of frames in flight, over a device that delays, reorders and fails."""

import threading
import time

import numpy as np
import pytest

from tests.engines.fake_device import FakeDevice
from vderain.engines.backends.slots import fill_padded, first_line
from vderain.errors import EngineLoadError
from vderain.frames import Clip, PlaneFormat

FMT = PlaneFormat("gray", 6, 4, full_range=True)


def clip(level):
    return Clip((np.full((4, 6), level, np.uint8),), FMT)


def levels(pending):
    return [int(answer.result()[0][0, 0]) for answer in pending]


@pytest.mark.parametrize("slots", [1, 2, 3])
@pytest.mark.parametrize("delays_s", [(0.0,), (0.05, 0.0, 0.02), (0.0, 0.06)])
def test_answers_belong_to_their_clips_however_the_device_reorders(slots, delays_s):
    device = FakeDevice(slots, delays_s)
    engine = device.engine(FMT)
    waiting, answered = [], []
    for level in range(12):
        waiting.append(engine.change(clip(level)))
        if len(waiting) == engine.slots:
            answered += levels([waiting.pop(0)])
    assert answered + levels(waiting) == list(range(1, 13))
    assert device.most_in_flight <= slots
    engine.close()


def test_the_device_may_complete_a_later_clip_first():
    device = FakeDevice(3, (0.2, 0.0, 0.0))
    engine = device.engine(FMT)
    pending = [engine.change(clip(level)) for level in range(3)]
    assert levels(pending) == [1, 2, 3]
    assert device.done[-1] == 0


def test_clips_are_in_flight_together():
    device = FakeDevice(3, (0.2,))
    engine, since = device.engine(FMT), time.monotonic()
    pending = [engine.change(clip(level)) for level in range(3)]
    submitted_s = time.monotonic() - since
    assert levels(pending) == [1, 2, 3]
    assert device.most_in_flight == 3
    assert submitted_s < 0.2  # nothing waited for the device


def test_with_all_slots_taken_the_oldest_answer_is_kept():
    engine = FakeDevice(2, (0.05, 0.0)).engine(FMT)
    pending = [engine.change(clip(level)) for level in range(7)]
    assert levels(reversed(pending)) == [7, 6, 5, 4, 3, 2, 1]
    assert levels(pending) == [1, 2, 3, 4, 5, 6, 7]  # as often as it is asked


@pytest.mark.parametrize("call", ["upload", "launch", "download"])
def test_a_device_that_fails_at_submission_raises_there(call):
    error = RuntimeError("CUDA error: an illegal memory access was encountered\nCompile with ...")
    engine = FakeDevice(2, fail={(call, 1): error}).engine(FMT)
    first = engine.change(clip(4))
    with pytest.raises(EngineLoadError, match="fake on fake device failed: CUDA error: an illegal"):
        engine.change(clip(5))
    assert levels([first]) == [5]
    engine.close()


def test_a_device_that_fails_later_raises_with_the_answer_of_that_clip():
    engine = FakeDevice(2, fail={("wait", 1): MemoryError("out of memory")}).engine(FMT)
    pending = [engine.change(clip(level)) for level in range(2)]
    assert levels(pending[:1]) == [1]
    for _ in range(2):
        with pytest.raises(EngineLoadError, match="out of memory"):
            pending[1].result()
    engine.close()


def test_closing_fetches_what_is_in_flight_and_then_releases_every_slot():
    device = FakeDevice(3, (0.1,))
    engine = device.engine(FMT)
    pending = [engine.change(clip(level)) for level in range(2)]
    engine.close()
    engine.close()
    assert (device.live, device.in_flight) == (0, 0)
    assert levels(pending) == [1, 2]
    with pytest.raises(EngineLoadError, match="closed"):
        engine.change(clip(1))


def test_a_failed_device_is_closed_to_the_last_slot():
    device = FakeDevice(3, fail={("wait", 0): RuntimeError("gone"), ("close", 0): RuntimeError()})
    engine = device.engine(FMT)
    pending = [engine.change(clip(level)) for level in range(2)]
    engine.close()
    assert device.live == 0
    with pytest.raises(EngineLoadError, match="gone"):
        pending[0].result()
    assert levels(pending[1:]) == [2]


def test_one_thread_may_submit_while_another_fetches():
    engine = FakeDevice(2, (0.0, 0.004, 0.001)).engine(FMT)
    pending, seen, submitted = [], [], threading.Semaphore(0)

    def fetch():
        for index in range(60):
            submitted.acquire()
            seen.extend(levels([pending[index]]))

    thread = threading.Thread(target=fetch)
    thread.start()
    for level in range(60):
        pending.append(engine.change(clip(level)))
        submitted.release()
    thread.join(20)
    assert seen == list(range(1, 61))


def test_padding_repeats_the_last_row_and_column():
    padded = np.zeros((4, 5), np.uint8)
    fill_padded(padded, np.arange(6, dtype=np.uint8).reshape(2, 3))
    assert padded.tolist() == [[0, 1, 2, 2, 2], [3, 4, 5, 5, 5], [3, 4, 5, 5, 5], [3, 4, 5, 5, 5]]


def test_an_errors_first_line_says_what_happened():
    assert first_line(RuntimeError("\nException from src/x.cpp:1:\nno memory\nmore")) == "no memory"
    assert first_line(RuntimeError()) == "RuntimeError"
