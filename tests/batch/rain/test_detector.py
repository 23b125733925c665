import json
from dataclasses import dataclass, replace
from fractions import Fraction

import cv2
import numpy as np
import pytest

from tests.fakes import FakeEngine
from vderain.batch.rain.detector import Opinion, RainTimeline, dry_gops, rain_timeline
from vderain.batch.rain.meter import RainMeter
from vderain.errors import OptionError
from vderain.flow.future import Future
from vderain.frames import Frame, PlaneFormat
from vderain.training.rain.render import render_kind

RATE = 10


def timeline(scores, opinions=()):
    return RainTimeline(
        tuple(range(0, 100 * len(scores), 100)), Fraction(1, 100 * RATE),
        np.asarray(scores, np.float32), tuple(opinions),
    )  # fmt: skip


def dry_images(count=6, size=(320, 180), moves=2, seed=0):
    rng = np.random.default_rng(seed)
    wide = cv2.resize(rng.integers(40, 190, (9, 24, 3), np.uint8), (size[0] + 120, size[1]))
    return [np.ascontiguousarray(wide[:, moves * n : moves * n + size[0]]) for n in range(count)]


def frames(images, bits=8, rotation=0, **changes):
    made = []
    for number, image in enumerate(images):
        luma = cv2.cvtColor(image, cv2.COLOR_RGB2GRAY)
        if bits > 8:
            luma = luma.astype(np.uint16) << (bits - 8)
        luma = np.ascontiguousarray(np.rot90(luma, -rotation // 90))
        fmt = PlaneFormat("gray", luma.shape[1], luma.shape[0], bits)
        made.append(Frame((luma,), fmt, number, Fraction(1, 25), rotation=rotation, **changes))
    return made


def rainy_images(**dry):
    return render_kind(np.random.default_rng(3), dry_images(**dry), "additive")


def scores(made):
    return list(RainMeter().measure(made))


def test_rain_scores_and_a_panned_dry_scene_does_not():
    assert min(scores(frames(rainy_images()))) > 1
    assert max(scores(frames(dry_images()))) < 1


@pytest.mark.parametrize("bits", [10, 16])
def test_deep_samples_score_as_shallow_ones(bits):
    shallow, deep = (scores(frames(rainy_images(), bits=b)) for b in (8, bits))
    assert deep == pytest.approx(shallow)


def test_a_turned_recording_scores_as_an_upright_one():
    assert scores(frames(rainy_images(), rotation=90)) == pytest.approx(
        scores(frames(rainy_images()))
    )


@pytest.mark.parametrize("count", [0, 1, 2])
def test_too_few_frames_prove_nothing_and_count_as_rainy(count):
    told = rain_timeline(frames(dry_images(count)))
    assert len(told.scores) == count and np.isnan(told.scores).all() and told.wet().all()


def test_scores_are_as_many_as_frames_across_cuts_and_repeats():
    rainy = frames(rainy_images())
    cut = [*rainy, replace(rainy[0], discontinuity=True), *rainy[1:]]
    assert scores(cut) == pytest.approx(scores(rainy) * 2)
    repeated = [frame for frame in rainy for _ in range(2)]
    assert scores(repeated) == pytest.approx([s for s in scores(rainy) for _ in range(2)])


@pytest.mark.parametrize("level", [0, 128, 255])
def test_a_still_image_is_dry(level):
    still = [np.full((60, 80, 3), level, np.uint8)] * 30
    told = rain_timeline(frames(still))
    assert len(told.scores) == 30 and not told.wet().any()


def test_a_flash_is_no_rain():
    images = dry_images(7, moves=0)
    images[3] = np.full_like(images[3], 250)
    assert max(scores(frames(images))) < 1


@pytest.mark.parametrize("size", [(1, 1), (3, 2), (37, 21), (2000, 900)])
def test_any_size_is_measured(size):
    images = [np.full((size[1], size[0], 3), 40 + 20 * n, np.uint8) for n in range(4)]
    assert np.isfinite(scores(frames(images))).all()


def test_rain_holds_over_dips_and_is_widened_by_a_second():
    wet = timeline([0] * 50 + [2] * 20 + [0.9] * 20 + [0] * 60).wet()
    assert list(np.flatnonzero(np.diff(wet.astype(int))) + 1) == [40, 100]
    assert not timeline([0.9] * 50).wet().any()


def test_short_dry_gaps_are_taken_along_and_long_ones_are_not():
    def dips(count):
        return len(timeline([2] * 30 + [0] * count + [2] * 30).wet_spans())

    assert (dips(50), dips(80)) == (1, 2)


def test_a_single_bright_frame_does_not_make_a_clip_wet():
    assert timeline([0] * 20 + [9] + [0] * 20).wet_spans() == []


def test_spans_end_after_the_last_frame():
    assert timeline([2] * 20).wet_spans() == [(0, 2000)]


@dataclass
class Cut:
    start_pts: int
    end_pts: int


def test_a_gop_is_dry_only_with_all_its_frames_and_never_without_any():
    told = timeline([0] * 60 + [2] * 20)  # wet from frame 50
    gops = [Cut(0, 4000), Cut(4000, 5000), Cut(4000, 5100), Cut(90_000, 91_000)]
    assert dry_gops(told, gops) == [True, True, False, False]


def test_opinions_overrule_doubt_but_not_rain():
    dry, wet = Opinion(1000, 0.2), Opinion(1500, 3.0)
    assert not timeline([1.5] * 20, [dry]).wet().any()
    assert timeline([1.5] * 20, [dry, wet]).wet().all()
    assert timeline([5] * 20, [dry]).wet().all()
    assert timeline([float("nan")] * 20, [dry]).wet().all()


class Network(FakeEngine):
    """Changes every sample by ``levels``."""

    def __init__(self, levels):
        self.levels = levels
        self.asked = 0

    def change(self, clip):
        self.asked += 1
        planes = tuple(np.full(p.shape, self.levels, np.float32) for p in clip.planes)
        return Future(lambda: planes)


def test_the_network_is_asked_of_doubtful_frames_only_and_seldom(monkeypatch):
    monkeypatch.setattr("vderain.batch.rain.meter.rain_score", lambda *_: 1.5)
    made = frames(dry_images(60, size=(40, 30)))
    network = Network(-0.6)
    told = rain_timeline(made, engine=network)
    assert [o.pts for o in told.opinions] == [0, 50] and told.opinions[0].score == pytest.approx(2)
    monkeypatch.setattr("vderain.batch.rain.meter.rain_score", lambda *_: 9.0)
    assert rain_timeline(made, engine=network).opinions == () and network.asked == 2


def test_a_timeline_survives_json():
    told = timeline([0.5, float("nan"), 2], [Opinion(100, 0.25)])
    again = RainTimeline.from_dict(json.loads(json.dumps(told.to_dict(), allow_nan=False)))
    assert again.to_dict() == told.to_dict() and again.time_base == told.time_base
    np.testing.assert_array_equal(again.scores, told.scores)


@pytest.mark.parametrize("entry", [{}, {"pts": 3}])
def test_what_is_no_timeline_is_refused(entry):
    with pytest.raises(OptionError):
        RainTimeline.from_dict(entry)
