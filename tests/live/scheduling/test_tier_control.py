from itertools import pairwise

import pytest

from vderain.live.scheduling.tier_control import ControlOptions, Rung, TierControl, ladder

OPTIONS = ControlOptions()


class Camera:
    """A camera of 25 fps and an engine that takes a known time for each rung."""

    def __init__(self, costs_s, *, passthrough=True, noise=0.0):
        self.costs_s = costs_s
        self.noise = noise
        self.now = 0.0
        self.control = TierControl(ladder(["fast"], 1.0, passthrough=passthrough), 0.0)
        self.levels = []

    def cost_s(self, rung):
        return self.costs_s.get(rung.name, 0.0)

    def run(self, seconds):
        """Frames arrive every 40 ms; of those, as many are derained as the engine has time for."""
        for _ in range(round(seconds)):
            share = min(1.0, 0.04 / max(self.cost_s(self.control.rung), 1e-9))
            for index in range(25):
                self.now += 0.04
                self.control.arrived()
                if int((index + 1) * share) > int(index * share):
                    self.control.done()
                self.control.update(self.now)
                better = self.control.wants_probe(self.now)
                if better is not None:
                    self.control.probed(self.cost_s(better), 0.04, 1.0, self.now)
            self.levels.append(self.control.level)
        return self.control.rung.name


def test_ladders():
    names = [rung.name for rung in ladder(["fast"], 1.0, passthrough=True)]
    assert names == ["fast", "fast@0.5", "passthrough"]
    assert [r.name for r in ladder(["fast"], 0.25, passthrough=False)] == ["fast@0.25"]
    assert [r.scale for r in ladder(["paper"], 0.4, passthrough=False)] == [0.4, 0.25]
    all_of_them = ladder(["best", "fast", "light"], 1.0, passthrough=True)
    assert [r.name for r in all_of_them] == ["best", "fast", "light", "light@0.5", "passthrough"]
    with pytest.raises(ValueError, match="at least one"):
        TierControl((), 0.0)


def test_it_stays_where_the_network_follows():
    assert Camera({"fast": 0.035}).run(120) == "fast"


def test_it_steps_down_when_frames_are_dropped_and_up_when_the_load_falls():
    camera = Camera({"fast": 0.08, "fast@0.5": 0.02})
    assert camera.run(10) == "fast@0.5"
    assert camera.run(120) == "fast@0.5"
    camera.costs_s = {"fast": 0.02, "fast@0.5": 0.01}
    assert camera.run(OPTIONS.hold_max_s + 20) == "fast"
    assert camera.run(120) == "fast"


def test_half_of_the_frames_dry_is_better_than_all_of_them_rainy():
    assert Camera({"fast": 0.2, "fast@0.5": 0.08}).run(60) == "fast@0.5"


def test_passthrough_is_the_last_resort_and_is_left_again():
    camera = Camera({"fast": 1.0, "fast@0.5": 0.5})
    assert camera.run(20) == "passthrough"
    camera.costs_s = {"fast": 0.01, "fast@0.5": 0.005}
    assert camera.run(2 * OPTIONS.hold_max_s + 60) == "fast"


def test_without_passthrough_the_cheapest_network_is_the_last():
    assert Camera({"fast": 1.0, "fast@0.5": 0.5}, passthrough=False).run(60) == "fast@0.5"


def test_at_the_edge_it_does_not_swing():
    camera = Camera({"fast": 0.05, "fast@0.5": 0.012})
    camera.run(900)
    changes = sum(a != b for a, b in pairwise(camera.levels))
    assert changes <= 1


def test_steps_up_that_do_not_last_come_ever_more_seldom():
    control = TierControl(ladder(["fast"], 1.0, passthrough=False), 0.0)
    ups, now = [], 0.0
    for _ in range(2000):
        for _ in range(25):
            now += 0.04
            control.arrived()
            if (
                control.level == 1 or int(now * 25) % 2
            ):  # on the better rung every other frame is late
                control.done()
            control.update(now)
            if control.wants_probe(now) and control.probed(0.001, 0.04, 1.0, now):
                ups.append(now)
    gaps = [b - a for a, b in pairwise(ups)]
    assert len(ups) >= 4 and gaps[0] < 60 and gaps[-1] >= 290
    assert all(b >= 0.9 * a for a, b in pairwise(gaps))


def test_a_probe_is_judged_by_what_other_cameras_leave():
    control = TierControl(ladder(["fast"], 1.0, passthrough=True), 0.0)
    control.level = 1
    assert not control.probed(0.02, 0.04, 0.5, 100.0)
    assert not control.probed(0.02, 0.04, 1.0, 200.0)  # the first good one
    assert control.probed(0.02, 0.04, 1.0, 300.0)
    assert control.rung == Rung("fast")


def test_a_silent_camera_changes_nothing():
    control = TierControl(ladder(["fast"], 1.0, passthrough=True), 0.0)
    assert not any(control.update(second) for second in range(1, 100))


def test_a_camera_of_one_frame_a_second_steps_down_and_up_again():
    control = TierControl(ladder(["fast"], 1.0, passthrough=False), 0.0)
    for second in range(60):
        control.arrived()
        if second % 2:
            control.done()
        control.update(float(second))
    assert control.rung.name == "fast@0.5"
    for second in range(60, 200):
        control.arrived()
        control.done()
        control.update(float(second))
        if control.wants_probe(float(second)):
            control.probed(0.1, 1.0, 1.0, float(second))
    assert control.rung.name == "fast"
