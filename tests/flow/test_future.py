import threading

import numpy as np
import pytest

from vderain.errors import EngineFailedError
from vderain.flow.future import Future

PLANES = (np.zeros((2, 2), np.uint8),)


def test_it_is_computed_once_when_it_is_first_asked_for_and_lets_go_of_its_inputs():
    asked = []

    def compute():
        asked.append(True)
        return PLANES

    future = Future(compute)
    assert not asked
    assert future.result() is future.result() is PLANES
    assert len(asked) == 1 and future._compute is None


def test_threads_that_ask_together_get_the_same_answer():
    begun, free, found = threading.Event(), threading.Event(), []

    def compute():
        begun.set()
        assert free.wait(20)
        return (object(),)

    future = Future(compute)
    threads = [threading.Thread(target=lambda: found.append(future.result())) for _ in range(3)]
    for thread in threads:
        thread.start()
    assert begun.wait(20)
    free.set()
    for thread in threads:
        thread.join(20)
    assert len(found) == 3 and found[0] is found[1] is found[2]


def test_an_error_is_raised_for_everyone_who_asks_and_not_before():
    def fail():
        raise EngineFailedError("gone")

    future = Future(fail)
    future.settle()
    for asked in (future, future, future.then(lambda planes: planes)):
        with pytest.raises(EngineFailedError, match="gone"):
            asked.result()


def test_a_step_is_taken_once_the_planes_are_asked_for():
    future = Future(lambda: PLANES)
    brighter = future.then(lambda planes: tuple(plane + 1 for plane in planes))
    assert future._compute is not None
    assert int(brighter.result()[0].max()) == 1 and int(future.result()[0].max()) == 0
