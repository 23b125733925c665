"""How far a batch is."""

import pickle
from pathlib import Path

import pytest

from vderain.batch.manifest import ClipRow
from vderain.batch.pace import Pace


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
    pace = Pace(clock)
    pace.plan([clip(1, 100), clip(2, 300)])
    assert pace.eta_s is None and pace.share == 0
    pace.begin(clip(1, 100), 1.0)
    clock.now = 10.0
    pace.finish(1, 0, 1.0)
    pace.end(1)
    assert pace.share == pytest.approx(0.25) and pace.eta_s == pytest.approx(30.0)


def test_segments_in_work_count(clock):
    pace = Pace(clock)
    pace.plan([clip(1, 100)])
    pace.begin(clip(1, 100), 1.0)
    clock.now = 5.0
    pace.finish(1, 0, 0.25)
    pace.work(1, 1, 0.25)
    assert pace.share == pytest.approx(0.5) and pace.eta_s == pytest.approx(5.0)


def test_what_is_copied_or_was_done_before_takes_no_time(clock):
    pace = Pace(clock)
    pace.plan([clip(1, 100), clip(2, 100)])
    pace.begin(clip(1, 100), 0.2)
    clock.now = 2.0
    pace.finish(1, 0, 1.0)
    pace.end(1)
    assert pace.eta_s == pytest.approx(2.0), "the other clip is taken to be as dry"


def test_clips_that_end_early_are_no_work_any_more(clock):
    pace = Pace(clock)
    pace.plan([clip(1, 100), clip(2, 100)])
    pace.begin(clip(1, 100), 1.0)
    pace.end(1)
    pace.end(2)
    assert pace.share == 1.0


def test_the_time_before_the_first_frame_is_not_expected_again(clock):
    pace = Pace(clock)
    pace.plan([clip(1, 100)])
    pace.begin(clip(1, 100), 1.0)
    clock.now = 30.0  # an engine was built
    pace.work(1, 0, 0.01)
    clock.now = 39.0
    pace.work(1, 0, 0.1)
    assert pace.eta_s == pytest.approx(90.0)
    pace.finish(1, 0, 0.1)
    assert pace.eta_s == pytest.approx(90.0)


@pytest.mark.parametrize(("first_s", "then_s"), [(4.0, 1.0), (1.0, 3.0)])
def test_what_a_machine_did_at_first_is_not_expected_of_the_rest(clock, first_s, then_s):
    pace = Pace(clock)
    pace.plan([clip(1, 100)])
    pace.begin(clip(1, 100), 1.0)
    for percent in range(1, 51):
        clock.now += first_s if percent <= 10 else then_s
        pace.work(1, 0, percent / 100)
    assert pace.eta_s == pytest.approx(50 * then_s, rel=0.1)


def test_a_steady_pace_is_told_right_over_many_frames_and_little_is_kept(clock):
    pace = Pace(clock)
    pace.plan([clip(1, 100)])
    pace.begin(clip(1, 100), 1.0)
    frames = 200_000
    for frame in range(1, frames):
        clock.now += 0.1
        pace.work(1, 0, frame / frames)
    assert pace.eta_s == pytest.approx(0.1, rel=0.01)
    assert len(pickle.dumps(pace._marks)) < 4000
