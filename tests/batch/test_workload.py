"""How far a batch is."""

import pickle
from pathlib import Path

import pytest

from vderain.batch.manifest import ClipRow
from vderain.batch.workload import Workload


class Clock:
    now = 0.0

    def __call__(self):
        return self.now


def clip(number, size):
    return ClipRow(number, Path("a"), Path("a"), size, 0, "planned")


@pytest.fixture
def clock():
    return Clock()


def test_the_rest_takes_as_long_as_what_was_done(clock):
    workload = Workload(clock)
    workload.plan([clip(1, 100), clip(2, 300)])
    assert workload.eta_s is None and workload.share == 0
    workload.begin(clip(1, 100), 1.0)
    clock.now = 10.0
    workload.finish(1, 0, 1.0)
    workload.end(1)
    assert workload.share == pytest.approx(0.25) and workload.eta_s == pytest.approx(30.0)


def test_segments_in_work_count(clock):
    workload = Workload(clock)
    workload.plan([clip(1, 100)])
    workload.begin(clip(1, 100), 1.0)
    clock.now = 5.0
    workload.finish(1, 0, 0.25)
    workload.advance(1, 1, 0.25)
    assert workload.share == pytest.approx(0.5) and workload.eta_s == pytest.approx(5.0)


def test_what_is_copied_or_was_done_before_takes_no_time(clock):
    workload = Workload(clock)
    workload.plan([clip(1, 100), clip(2, 100)])
    workload.begin(clip(1, 100), 0.2)
    clock.now = 2.0
    workload.finish(1, 0, 1.0)
    workload.end(1)
    assert workload.eta_s == pytest.approx(2.0), "the other clip is taken to be as dry"


def test_clips_that_end_early_are_no_work_any_more(clock):
    workload = Workload(clock)
    workload.plan([clip(1, 100), clip(2, 100)])
    workload.begin(clip(1, 100), 1.0)
    workload.end(1)
    workload.end(2)
    assert workload.share == 1.0


def test_the_time_before_the_first_frame_is_not_expected_again(clock):
    workload = Workload(clock)
    workload.plan([clip(1, 100)])
    workload.begin(clip(1, 100), 1.0)
    clock.now = 30.0  # an engine was built
    workload.advance(1, 0, 0.01)
    clock.now = 39.0
    workload.advance(1, 0, 0.1)
    assert workload.eta_s == pytest.approx(90.0)
    workload.finish(1, 0, 0.1)
    assert workload.eta_s == pytest.approx(90.0)


@pytest.mark.parametrize(("first_s", "then_s"), [(4.0, 1.0), (1.0, 3.0)])
def test_what_a_machine_did_at_first_is_not_expected_of_the_rest(clock, first_s, then_s):
    workload = Workload(clock)
    workload.plan([clip(1, 100)])
    workload.begin(clip(1, 100), 1.0)
    for percent in range(1, 51):
        clock.now += first_s if percent <= 10 else then_s
        workload.advance(1, 0, percent / 100)
    assert workload.eta_s == pytest.approx(50 * then_s, rel=0.1)


def test_a_steady_rate_is_estimated_right_over_many_frames_and_little_is_kept(clock):
    workload = Workload(clock)
    workload.plan([clip(1, 100)])
    workload.begin(clip(1, 100), 1.0)
    frames = 200_000
    for frame in range(1, frames):
        clock.now += 0.1
        workload.advance(1, 0, frame / frames)
    assert workload.eta_s == pytest.approx(0.1, rel=0.01)
    assert len(pickle.dumps(workload._marks)) < 4000
