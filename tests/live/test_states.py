import random

import pytest

from vderain.live.states import Backoff, Connection, RetryOptions, State


class Clock:
    def __init__(self):
        self.now = 100.0

    def __call__(self):
        return self.now


@pytest.fixture
def clock():
    return Clock()


def connection(clock, **retry):
    return Connection("gate", RetryOptions(**retry), clock=clock, rng=random.Random(1))


def test_delays_double_up_to_the_maximum_and_vary():
    backoff = Backoff(RetryOptions(first_s=1, max_s=30, jitter=0.2), random.Random(1))
    delays = [backoff.next_delay_s() for _ in range(2000)]
    for delay, middle in zip(delays, [1, 2, 4, 8, 16, 30, 30, 30], strict=False):
        assert 0.8 * middle <= delay <= 1.2 * middle
    assert 24 <= min(delays[10:]) < max(delays[10:]) <= 36
    backoff.reset()
    assert backoff.next_delay_s() <= 1.2


def silence(clock, camera, seconds):
    """As the one who looks after it sees it."""
    for _ in range(round(seconds / 0.25)):
        clock.now += 0.25
        camera.check()


def test_a_life_with_a_stall_and_a_failure(clock):
    camera = connection(clock)
    assert camera.state is State.CONNECTING
    camera.alive()
    assert camera.state is State.RUNNING
    silence(clock, camera, 2.5)
    assert camera.state is State.STALLED
    camera.alive()
    assert (camera.state, camera.connects, camera.reconnects) == (State.RUNNING, 1, 0)
    assert camera.failed("gone") > 0
    assert (camera.state, camera.reason) == (State.BACKOFF, "gone")
    camera.connecting()
    assert (camera.state, camera.reason) == (State.CONNECTING, "")
    camera.alive()
    assert (camera.connects, camera.reconnects, camera.failures) == (2, 1, 1)


def test_a_process_that_stood_still_does_not_blame_the_camera(clock):
    camera = connection(clock)
    camera.alive()
    silence(clock, camera, 1.0)
    clock.now += 30.0
    camera.check()
    assert camera.state is State.RUNNING
    silence(clock, camera, 1.0)
    assert camera.state is State.RUNNING
    silence(clock, camera, 0.25)
    assert camera.state is State.STALLED, "two seconds in which something could have come"


def test_delays_grow_until_a_healthy_minute(clock):
    camera = connection(clock, max_s=30, jitter=0)
    delays = []
    for healthy_s in (0, 10, 59, 60, 0):
        camera.connecting()
        camera.alive()
        clock.now += healthy_s
        delays.append(camera.failed("gone"))
    assert delays == [1, 2, 4, 1, 2]


def test_it_goes_on_forever_by_default(clock):
    camera = connection(clock, jitter=0, max_s=5)
    assert [camera.failed("no answer") for _ in range(5000)][-1] == 5
    assert camera.state is State.BACKOFF


def test_it_fails_after_the_tries_that_were_set(clock):
    camera = connection(clock, tries=3)
    assert [camera.failed("no answer") is None for _ in range(3)] == [False, False, True]
    assert (camera.state, camera.reason) == (State.FAILED, "no answer (3 tries)")
    camera.alive()
    assert camera.failed("again") is None and camera.state is State.FAILED


def test_tries_count_in_a_row(clock):
    camera = connection(clock, tries=2)
    for _ in range(10):
        camera.connecting()
        camera.alive()
        assert camera.failed("gone") is not None


def test_a_refused_password_has_tries_of_its_own(clock):
    camera = connection(clock, login_tries=2)
    camera.failed("no answer")
    assert camera.failed("wrong password", login=True) is not None
    assert camera.failed("wrong password", login=True) is None
    assert (camera.state, camera.reason) == (State.FAILED, "wrong password (2 tries)")


def test_what_cannot_be_helped_fails_at_once(clock):
    camera = connection(clock)
    assert camera.failed("is interlaced", final=True) is None
    assert (camera.state, camera.reason) == (State.FAILED, "is interlaced")


def test_stopping_does_not_hide_a_failure(clock):
    camera = connection(clock)
    camera.failed("is interlaced", final=True)
    camera.ended()
    assert camera.state is State.FAILED


def test_stopping_what_has_ended_keeps_the_reason(clock):
    camera = connection(clock)
    camera.ended("the end of the video")
    camera.ended()
    assert (camera.state, camera.reason) == (State.ENDED, "the end of the video")


def test_changes_are_logged_with_fields(clock, caplog):
    caplog.set_level("INFO", "vderain.live.states")
    camera = connection(clock)
    camera.alive()
    camera.failed("gone")
    assert [(r.camera, r.state, r.was) for r in caplog.records] == [
        ("gate", "running", "connecting"),
        ("gate", "backoff", "running"),
    ]
    assert caplog.records[1].getMessage() == "gate is backoff: gone; it is tried again"


def test_the_same_failure_is_reported_once(clock, caplog):
    caplog.set_level("INFO", "vderain.live.states")
    camera = connection(clock)
    for reason in ("no answer", "no answer", "no answer", "refused"):
        camera.connecting()
        camera.failed(reason)
    camera.alive()
    camera.failed("refused")
    told = [record.getMessage() for record in caplog.records]
    assert told == [
        "gate is backoff: no answer; it is tried again",
        "gate is backoff: refused; it is tried again",
        "gate is running",
        "gate is backoff: refused; it is tried again",
    ]
