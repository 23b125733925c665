import threading
import time
from itertools import pairwise

import numpy as np
import pytest

from tests.fakes import gray_frame
from tests.live.fakes import FakeCamera, SlowEngine, scheduled_camera, until
from vderain.errors import LoginError, SourceError, UnusableError
from vderain.live.options import LiveOptions
from vderain.live.scheduling.engines import LiveEngines
from vderain.live.scheduling.scheduler import Scheduler
from vderain.live.session import CameraSession, SessionParts
from vderain.live.states import State


@pytest.fixture
def run():
    """Start a session over a list of connections, each a FakeCamera or an exception; the last stays."""
    made = []

    def start(*connections, engine=None, kept_frames=1, **options):
        waiting = list(connections)

        def connect():
            step = waiting.pop(0) if len(waiting) > 1 else waiting[0]
            if isinstance(step, Exception):
                raise step
            return step

        engines = LiveEngines(lambda rung: engine or SlowEngine())
        scheduler = Scheduler(engines)
        scheduler.start()
        camera, _ = scheduled_camera()
        camera.kept_frames = kept_frames
        live = LiveOptions(**{"timeout_s": 0.5, "backoff_max_s": 1.0, **options})
        session = CameraSession("gate", SessionParts(connect, None, None, camera, scheduler), live)
        session.start()
        made.append((session, scheduler, engines))
        return session

    yield start
    for session, scheduler, engines in made:
        session.stop()
        scheduler.stop()
        engines.close()


def test_frames_flow_and_a_file_ends(run):
    session = run(FakeCamera([30], is_live=False))
    assert until(lambda: session.connection.state is State.ENDED)
    assert session.stats.snapshot().frames["decoded"] == 30
    pair = session.preview.pair
    assert pair.frame.rainy.planes[0][0, 0] == 100 and pair.frame.dry.planes[0][0, 0] == 95


def test_a_network_of_nine_frames_gets_eight_that_went_before(run):
    engine = SlowEngine()
    engine.frames = 9
    camera = FakeCamera([40], is_live=False, make_frame=lambda i: gray_frame(100 + i % 2, i))
    session = run(camera, engine=engine, kept_frames=9)
    assert until(lambda: session.connection.state is State.ENDED)
    assert until(lambda: len(engine.clips) > 9)
    clip = engine.clips[-1]  # a frame that is missing would be the current one instead
    others = [plane[0, 0] != clip.planes[0][0, 0] for plane in clip.neighbours]
    assert len(others) == 8 and sum(others) == 4


def test_a_camera_that_breaks_off_is_connected_again(run):
    first = FakeCamera([20, SourceError("connection reset")])
    second = FakeCamera([10**6])
    session = run(first, SourceError("no answer"), second)
    assert until(lambda: session.connection.connects == 2)
    assert first.closed
    assert (session.connection.failures, session.connection.reconnects) == (2, 1)
    assert session.connection.state is State.RUNNING


def test_the_end_of_a_live_stream_is_a_failure_to_try_again(run):
    session = run(FakeCamera([5]), FakeCamera([10**6]))
    assert until(lambda: session.connection.connects == 2)


def test_a_silent_camera_is_stalled_until_it_goes_on(run):
    camera = FakeCamera([10, "hang", 10**6])
    session = run(camera)
    assert until(lambda: session.connection.state is State.RUNNING)

    def stalled():
        session.tick()
        return session.connection.state is State.STALLED

    assert until(stalled)
    camera.released.set()
    assert until(lambda: session.connection.state is State.RUNNING)
    assert session.connection.connects == 1


def test_a_read_that_never_returns_is_left_behind(run, monkeypatch):
    monkeypatch.setattr("vderain.live.session._HANG_S", 0.5)
    hanging = FakeCamera([10, "hang", 20])
    session = run(hanging, FakeCamera([10**6]))

    def back():
        session.tick()
        return session.connection.connects == 2 and session.connection.state is State.RUNNING

    assert until(back)
    hanging.released.set()
    time.sleep(0.3)
    assert hanging.closed and session.connection.state is State.RUNNING


def test_a_refused_password_fails_with_the_reason(run):
    session = run(LoginError("gate: refuses the password"), login_tries=2)
    assert until(lambda: session.connection.state is State.FAILED)
    assert session.connection.reason == "gate: refuses the password (2 tries)"


def test_what_cannot_be_read_at_all_fails_at_once(run):
    session = run(FakeCamera([UnusableError("gate: is interlaced")]))
    assert until(lambda: session.connection.state is State.FAILED)


def test_an_unexpected_error_is_survived(run):
    session = run(FakeCamera([5, ZeroDivisionError("oops")]), FakeCamera([10**6]))
    assert until(lambda: session.connection.connects == 2)


def test_stopping_is_quick_and_leaves_no_thread(run):
    session = run(FakeCamera([10**6]))
    assert until(lambda: session.preview.pair is not None)
    since = time.monotonic()
    session.stop()
    assert time.monotonic() - since < 2
    assert session.connection.state is State.ENDED
    assert not [t for t in threading.enumerate() if t.name == "vderain-capture"]


def test_times_go_on_over_a_reconnection(run):
    # The second connection's times begin at zero again.
    session = run(FakeCamera([20, SourceError("gone")]), FakeCamera([10**6]))
    seen = []
    take = session.scheduled.emit
    session.scheduled.emit = lambda frame: (seen.append(frame.time_s), take(frame))
    assert until(lambda: session.connection.connects == 2)
    until(lambda: len(seen) > 30)
    assert seen == sorted(seen) and max(b - a for a, b in pairwise(seen)) > 0.25


def test_another_size_gets_another_engine(run):
    def frames(index):
        planes = (np.full((8, 12), 100, np.uint8),) if index >= 20 else None
        if planes is None:
            return gray_frame(100, index)
        from vderain.frames import Frame, PlaneFormat

        big = PlaneFormat("gray", 12, 8, full_range=True)
        return Frame(planes, big, pts=index, time_base=gray_frame(0, 0).time_base)

    session = run(FakeCamera([10**6], make_frame=frames))
    assert until(lambda: session.preview.pair and session.preview.pair.frame.dry.format.width == 12)
    formats = {entry.fmt.width for entry in session._parts.scheduler.engines.entries()}
    assert formats == {6, 12}
