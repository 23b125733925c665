import threading
import time

import pytest

from vderain.flow.prefetch import prefetch


def alive():
    return [t for t in threading.enumerate() if t.name == "vderain-prefetch" and t.is_alive()]


def test_items_arrive_in_order_from_another_thread():
    seen = []

    def items():
        for index in range(20):
            seen.append(threading.current_thread().name)
            yield index

    assert list(prefetch(items(), 3)) == list(range(20))
    assert set(seen) == {"vderain-prefetch"}
    assert not alive()


def test_the_worker_runs_ahead_by_its_depth_and_no_more():
    made = []

    def items():
        for index in range(100):
            made.append(index)
            yield index

    ahead = prefetch(items(), 3)
    next(ahead)
    time.sleep(0.3)
    assert 3 <= len(made) <= 5  # one handed over, three queued, one waiting for its place
    ahead.close()
    assert not alive()


def test_an_error_of_the_worker_reaches_the_consumer_after_its_items():
    def items():
        yield 1
        raise ValueError("broken")

    ahead = prefetch(items(), 2)
    assert next(ahead) == 1
    with pytest.raises(ValueError, match="broken"):
        next(ahead)
    assert not alive()


def test_closing_early_closes_the_items_and_joins_the_worker():
    closed = threading.Event()

    def items():
        try:
            while True:
                yield 0
        finally:
            closed.set()

    ahead = prefetch(items(), 1)
    next(ahead)
    ahead.close()
    assert closed.is_set()
    assert not alive()


def test_none_is_an_item_like_any_other():
    assert list(prefetch([None, 1, None], 2)) == [None, 1, None]


def test_stopping_frees_a_worker_that_waits_for_an_earlier_stage():
    stop, release = threading.Event(), threading.Event()

    def stalled():
        yield 1
        release.wait(20)

    first = prefetch(stalled(), 2, stop)
    second = prefetch((item for item in first), 2, stop)
    assert next(second) == 1
    threading.Timer(0.3, release.set).start()
    since = time.monotonic()
    second.close()
    first.close()
    assert time.monotonic() - since < 10
    assert not alive()


def test_what_cannot_be_iterated_is_an_error_and_no_hang():
    with pytest.raises(TypeError):
        next(prefetch(5, 2))
