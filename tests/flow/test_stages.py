import threading

import pytest

from vderain.flow import stages as stages_module
from vderain.flow.stages import StageClock, Stages


class Clock:
    """Time that passes only where a test says so."""

    def __init__(self):
        self.now_s = 0.0

    def monotonic(self):
        return self.now_s

    def passes(self, seconds):
        self.now_s += seconds


@pytest.fixture
def clock(monkeypatch):
    clock = Clock()
    monkeypatch.setattr(stages_module, "time", clock)
    return clock


def test_a_stage_does_not_count_what_it_waits_for(clock):
    stage = StageClock()
    clock.passes(1)
    with stage.working():
        clock.passes(2)
        with stage.waiting():
            clock.passes(4)
            assert stage.work_s == 2
        clock.passes(8)
    clock.passes(16)
    assert stage.work_s == 10


def test_a_stage_that_fails_stands_still(clock):
    stage = StageClock()

    def fail():
        with stage.working():
            clock.passes(1)
            raise ValueError("broken")

    with pytest.raises(ValueError, match="broken"):
        fail()
    clock.passes(1)
    assert stage.work_s == 1


def test_every_stage_counts_its_own_work_alone(clock):
    """The stages take turns here, so that time is one for all."""

    def slow(items, seconds):
        for item in items:
            clock.passes(seconds)
            yield item

    stages = Stages(("first", "second", "third"), 1, lambda: None)
    first = stages_module._each(slow(range(3), 1), stages.clocks["first"].working)
    fed = stages_module._each(first, stages.clocks["second"].waiting)
    second = stages_module._each(slow(fed, 2), stages.clocks["second"].working)
    fed = stages_module._each(second, stages.clocks["third"].waiting)
    third = stages_module._each(slow(fed, 0), stages.clocks["third"].working)
    assert list(third) == [0, 1, 2]
    assert stages.work_s == {"first": 3, "second": 6, "third": 0}
    assert stages.limiting == "second"


def test_leaving_ends_every_thread_and_frees_a_read_that_is_blocked():
    free = threading.Event()

    def stalled():
        yield 1
        assert free.wait(20)

    before = set(threading.enumerate())
    with Stages(("read", "double"), 1, free.set) as stages:
        read = stages.first("read", stalled())
        doubled = stages.then("double", read, lambda items: (2 * item for item in items))
        assert next(doubled) == 2
    assert free.is_set() and set(threading.enumerate()) == before
