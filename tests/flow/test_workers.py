import threading
from itertools import islice

import pytest

from vderain.flow.stages import StageClock
from vderain.flow.workers import Workers


def alive():
    return [t for t in threading.enumerate() if t.name.startswith("vderain-worker")]


@pytest.mark.parametrize("threads", [1, 2, 5])
def test_what_is_made_comes_in_the_order_of_the_jobs_and_items_without_one_pass(threads):
    pairs = [(number, None if number % 3 == 0 else number) for number in range(40)]
    made = list(Workers(threads).in_order(pairs, lambda job: 10 * job))
    assert made == [(number, None if number % 3 == 0 else 10 * number) for number in range(40)]
    assert not alive()


def test_jobs_are_done_at_once_and_a_slow_first_one_still_comes_first():
    second_done = threading.Event()

    def work(job):
        if job == 0:
            assert second_done.wait(20)
        elif job == 1:
            second_done.set()
        return job

    jobs = [(number, number) for number in range(6)]
    assert list(Workers(2).in_order(jobs, work)) == jobs


@pytest.mark.parametrize("threads", [1, 2, 3])
def test_no_more_jobs_are_begun_than_there_are_threads(threads):
    begun = []
    pairs = ((number, number) for number in range(50))
    ahead = Workers(threads).in_order(pairs, begun.append)
    assert next(ahead) == (0, None)
    ahead.close()
    assert len(begun) <= threads
    assert not alive()


def test_items_without_a_job_take_no_worker_from_the_others():
    both = threading.Barrier(2, timeout=20)
    pairs = [("frame", 1), ("sound", None), ("sound", None), ("frame", 1)]
    made = list(Workers(2).in_order(pairs, lambda _: both.wait() is not None))
    assert [found for _, found in made] == [True, None, None, True]


@pytest.mark.parametrize("threads", [1, 3])
def test_an_error_comes_where_its_item_would(threads):
    def work(job):
        if job == 4:
            raise ValueError("broken")
        return job

    made = Workers(threads).in_order(((n, n) for n in range(20)), work)
    assert [item for item, _ in islice(made, 4)] == [0, 1, 2, 3]
    with pytest.raises(ValueError, match="broken"):
        next(made)
    assert not alive()


@pytest.mark.parametrize("threads", [1, 3])
def test_an_error_of_the_items_reaches_the_consumer(threads):
    def pairs():
        yield 0, 0
        raise OSError("gone")

    with pytest.raises(OSError, match="gone"):
        list(Workers(threads).in_order(pairs(), lambda job: job))
    assert not alive()


def test_closing_early_waits_for_jobs_under_way_and_leaves_no_thread():
    begun, free, ended = threading.Barrier(3, timeout=20), threading.Event(), []

    def work(job):
        if job:
            begun.wait()
            assert free.wait(20)
            ended.append(job)

    ahead = Workers(2).in_order(((n, n) for n in (0, 1, 2, 3)), work)
    releasing = threading.Thread(target=lambda: (begun.wait(), free.set()))
    releasing.start()
    assert next(ahead)[0] == 0
    assert next(ahead)[0] == 1
    ahead.close()
    releasing.join(20)
    assert {1, 2} <= set(ended)
    assert not alive()


class Clock:
    def __init__(self):
        self.now_s = threading.local()

    def monotonic(self):
        return getattr(self.now_s, "value", 0.0)


def test_a_stage_counts_the_work_of_its_threads_not_its_wait(monkeypatch):
    clock = Clock()
    monkeypatch.setattr("vderain.flow.workers.time", clock)

    def work(_):
        clock.now_s.value = clock.monotonic() + 6

    stage = StageClock()
    for _ in Workers(2, stage).in_order([(0, 0), (1, 1), (2, None)], work):
        pass
    assert stage.work_s == pytest.approx(6, abs=0.5)
