import threading
import time
from fractions import Fraction

import pytest

from tests.fakes import gray_frame
from tests.live.fakes import SlowEngine, scheduled_camera, until
from vderain.alignment import Aligner
from vderain.clips import Recent, Seen
from vderain.flow.future import Future
from vderain.live.scheduling.engines import LiveEngines
from vderain.live.scheduling.scheduler import Scheduler
from vderain.live.scheduling.tier_control import ControlOptions
from vderain.media.live.types import LiveFrame


@pytest.fixture
def station():
    """A scheduler over engines that ``make(rung)`` gives; stopped at the end."""
    made = []

    def build(make, **options):
        engines = LiveEngines(make)
        scheduler = Scheduler(engines, **options)
        scheduler.start()
        made.append((scheduler, engines))
        return scheduler

    yield build
    for scheduler, engines in made:
        scheduler.stop()
        engines.close()


def live(frame, recent, time_s):
    return LiveFrame(frame, time.monotonic(), time_s=time_s, recent=recent)


def show(scheduler, camera, count, *, rate=50, start=0):
    for index in range(start, start + count):
        frame = gray_frame(100, index)
        scheduler.put(camera, live(frame, (Seen(frame),), Fraction(index, rate)))
        time.sleep(1 / rate)


def test_frames_are_derained_in_order(station):
    camera, seen = scheduled_camera()
    scheduler = station(lambda rung: SlowEngine())
    scheduler.add(camera)
    show(scheduler, camera, 40)
    assert until(lambda: len(seen) >= 30)
    assert set(seen.levels[-20:]) == {95}
    times = [frame.time_s for frame in seen]
    assert times == sorted(set(times))
    assert camera.stats.snapshot().frames["derained"] == len(seen)


def test_a_slow_network_drops_frames_and_never_gets_late(station):
    camera, seen = scheduled_camera(passthrough=False)
    scheduler = station(lambda rung: SlowEngine(0.04, slots=1))
    scheduler.add(camera)
    show(scheduler, camera, 100)
    counts = camera.stats.snapshot()
    assert counts.drops["late"] >= 30
    assert len(seen) + sum(counts.drops.values()) >= 97
    assert (
        counts.latency["derained"].percentile(0.95) < 0.02 * 2 + 0.04 + 0.1
    )  # two frames, the network
    assert set(seen.levels) == {95}, "no rainy frame between dry ones"


@pytest.mark.slow
def test_the_tier_steps_down_under_load_and_up_again(station):
    engines = {}
    camera, seen = scheduled_camera(steps=ControlOptions(window_s=0.4, hold_s=1.0))

    def make(rung):
        engines[rung.name] = SlowEngine(0.06 if rung.scale == 1.0 else 0.001, slots=1)
        return engines[rung.name]

    scheduler = station(make)
    scheduler.add(camera)
    stop = threading.Event()

    def play():
        index = 0
        while not stop.is_set():
            show(scheduler, camera, 10, start=index)
            index += 10

    player = threading.Thread(target=play)
    player.start()
    try:
        assert until(lambda: camera.control.rung.name == "fast@0.5", 15)
        engines["fast"].seconds = 0.001
        assert until(lambda: camera.control.rung.name == "fast", 40)
    finally:
        stop.set()
        player.join()
    assert set(seen.levels) == {95}


def test_a_broken_engine_lets_the_image_through_flagged(station):
    camera, seen = scheduled_camera()
    engine = SlowEngine()
    scheduler = station(lambda rung: engine)
    scheduler.add(camera)
    show(scheduler, camera, 20)
    assert until(lambda: 95 in seen.levels)
    engine.fail = True
    show(scheduler, camera, 20, start=20)
    assert until(lambda: seen[-1].flag == "the network failed" and seen.levels[-1] == 100)
    assert camera.stats.snapshot().engine_failures >= 1
    assert engine.closed


def test_without_passthrough_nothing_is_sent_then(station):
    camera, seen = scheduled_camera(passthrough=False)

    def broken(rung):
        raise RuntimeError("no such device")

    scheduler = station(broken)
    scheduler.add(camera)
    show(scheduler, camera, 20)
    assert seen == [] and camera.stats.snapshot().drops["engine"] >= 10


def test_an_engine_that_hangs_is_left_behind_and_the_image_goes_on(station):
    camera, seen = scheduled_camera()
    engines = []

    def make(rung):
        engines.append(SlowEngine())
        return engines[-1]

    scheduler = station(make, timeout_s=0.3)
    scheduler.add(camera)
    show(scheduler, camera, 10)
    assert until(lambda: 95 in seen.levels)
    engines[0].hang.set()
    for round_ in range(12):
        show(scheduler, camera, 5, start=10 + 5 * round_)
        scheduler.check()
    assert scheduler.hangs == 1
    assert until(lambda: seen.flags[-1] == "the network failed")
    before = len(seen)
    engines[0].hang.clear()  # its late answers must not come out
    time.sleep(0.2)
    assert all(e.flag for e in seen[before:])
    times = [frame.time_s for frame in seen]
    assert times == sorted(times)


@pytest.mark.slow
def test_engine_time_is_shared_fairly(station):
    scheduler = station(lambda rung: SlowEngine(0.01, slots=1))
    cameras = [scheduled_camera(f"camera {number}", passthrough=False) for number in range(3)]
    for camera, _ in cameras:
        scheduler.add(camera)
    threads = [
        threading.Thread(target=show, args=(scheduler, camera, 150)) for camera, _ in cameras
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    counts = [len(seen) for _, seen in cameras]
    assert min(counts) > 0.7 * max(counts), counts


def test_a_better_network_waits_while_it_opens(station):
    camera, seen = scheduled_camera()
    opened = threading.Event()

    def make(rung):
        opened.wait(10)
        return SlowEngine()

    scheduler = station(make)
    scheduler.add(camera)
    show(scheduler, camera, 20)
    assert seen == [] and camera.stats.snapshot().drops["opening"] >= 10
    opened.set()
    until(lambda: scheduler.engines.entries()[0].state == "ready")
    show(scheduler, camera, 20, start=20)
    assert until(lambda: 95 in seen.levels) and set(seen.levels) == {95}


def test_a_network_of_several_frames_gets_neighbours_that_were_never_derained(station):
    engine = SlowEngine(0.06, slots=1)
    engine.frames, engine.offset = 3, -1.0  # no darker than its neighbours allow
    camera, seen = scheduled_camera(passthrough=False)
    scheduler = station(lambda rung: engine)
    scheduler.add(camera)
    recent = Recent(5)
    for index in range(60):
        frame = gray_frame(index, index)
        scheduler.put(camera, live(frame, recent.add(frame), Fraction(index, 50)))
        time.sleep(0.02)
    assert until(lambda: len(seen) >= 5)
    assert camera.stats.snapshot().drops["late"] > 10
    for frame in seen:
        assert frame.dry.planes[0][0, 0] == max(0, int(frame.rainy.planes[0][0, 0]) - 1)
    assert {len(clip.neighbours) for clip in engine.clips} == {2}


def test_each_camera_has_one_aligner_for_all_its_frames(station, monkeypatch):
    made = []
    make = Aligner.__init__
    monkeypatch.setattr(Aligner, "__init__", lambda self: (made.append(self), make(self))[1])
    engine = SlowEngine()
    engine.frames = 3
    scheduler = station(lambda rung: engine)
    cameras = [scheduled_camera(name) for name in ("gate", "yard")]
    for camera, seen in cameras:
        scheduler.add(camera)
        show(scheduler, camera, 20)
        assert until(lambda seen=seen: len(seen) >= 10)
    assert len(made) == 2


def test_an_engine_that_adds_the_change_itself_does_so_for_cameras(station):
    class Adds(SlowEngine):
        def submit(self, clip, *, strength=1.0, on_device=False):
            self.asked = strength, on_device
            return Future(lambda: [plane + 7 for plane in clip.planes])

    camera, seen = scheduled_camera()
    engine = Adds()
    scheduler = station(lambda rung: engine, strength=0.5)
    scheduler.add(camera)
    show(scheduler, camera, 20)
    assert until(lambda: 107 in seen.levels) and set(seen.levels) == {107}
    assert {frame.tier for frame in seen} == {"fast"}
    assert engine.asked == (0.5, False)
