import cv2
import numpy as np
import pytest

from tests.networks import TINY
from tests.training.evaluation.test_evaluate import Darkening, noise
from tests.training.rainy_clips import scene, with_rain, write_frames
from vderain.clips import Window
from vderain.errors import SourceError
from vderain.frames import rgb_luma
from vderain.interfaces import EngineSpec
from vderain.network.build import build_network
from vderain.training.evaluation.camera import LookingAhead
from vderain.training.evaluation.clips.crops import crops
from vderain.training.evaluation.clips.report import clip_lines, clip_summary, rows
from vderain.training.evaluation.clips.run import (
    PreparedClips,
    by_engine,
    by_network,
    read_clips,
    score_clips,
)
from vderain.training.evaluation.clips.static_rain import MEDIAN
from vderain.training.evaluation.shots import Timing, derain_rgb
from vderain.training.evaluation.suite import Results, make_clip_set

CLIP, WINDOW = 40, 24  # frames of a clip; those that methods see
FIRST = CLIP // 2 - WINDOW // 2


def rainy_frames(count=CLIP, grain=1.5):
    """A scene that stands still, with a little noise, and on its right side leaves that sway."""
    rng = np.random.default_rng(1)
    dry = [np.clip(scene() + rng.normal(0, grain, scene().shape), 0, 255) for _ in range(count)]
    for number, frame in enumerate(dry):
        frame[:, 100:] += 40 * (number % 2)
    return with_rain([np.rint(frame).astype(np.uint8) for frame in dry])


def static_clip(folder, frames=None):
    (clip,) = read_clips("static_rain", write_frames(folder, frames or rainy_frames()))
    return clip


def luma(image):
    return cv2.cvtColor(image, cv2.COLOR_RGB2GRAY).astype(np.float64)


def by_definition(frames, results, scored):
    """The scores of results, (dB in the rain, streaks left, darkened, kept), as they are defined."""
    lumas = np.stack([luma(frame) for frame in frames])
    median = np.median(lumas, axis=0)
    calm = np.median(np.abs(lumas - median), axis=0) < 4
    sums = np.zeros(7)
    for place in scored:
        own, result = lumas[place], luma(results[place])
        wet = cv2.dilate((own - median > 8).astype(np.uint8), np.ones((3, 3))) > 0
        rain, rest = calm & wet, calm & ~wet
        sums += [
            rain.sum(), rest.sum(), ((result - median) ** 2)[rain].sum(), ((result - own) ** 2)[rest].sum(),
            np.clip(result - median - 8, 0, None)[calm].sum(), np.clip(median - result - 8, 0, None)[calm].sum(),
            np.clip(own - median - 8, 0, None)[calm].sum(),
        ]  # fmt: skip
    in_rain, kept = (10 * np.log10(255**2 * sums[i] / sums[i + 2]) for i in (0, 1))
    return in_rain, sums[4] / sums[6], sums[5] / sums[6], kept


def figures(scores):
    return scores.in_rain_db, scores.streaks_left, scores.darkened, scores.kept_db


def test_static_rain_is_scored_against_the_median_of_all_frames(tmp_path):
    frames = rainy_frames()
    clip = static_clip(tmp_path / "clip", frames)
    results = [np.clip(frame.astype(int) * 0.8 + 10, 0, 255).astype(np.uint8) for frame in frames]
    window = results[FIRST : FIRST + WINDOW]
    scored = score_clips([clip], {"clip": window})["clip"]
    places = range(FIRST + 4, FIRST + WINDOW - 4)
    assert scored.places == tuple(places)
    assert figures(scored.scores["vderain"]) == pytest.approx(
        by_definition(frames, results, places)
    )
    fives = {i: np.median([luma(f) for f in frames[i - 2 : i + 3]], axis=0) for i in places}
    grey = {i: np.dstack([five] * 3).astype(np.uint8) for i, five in fives.items()}
    assert figures(scored.scores[MEDIAN]) == pytest.approx(by_definition(frames, grey, places))
    assert 0 < scored.rain_share < 0.5


def test_swaying_places_are_not_scored(tmp_path):
    clip = static_clip(tmp_path / "clip")
    assert not clip.calm[:, 100:].any() and clip.calm[:, :100].mean() > 0.9
    dry = [frame.copy() for frame in clip.window.frames]
    for frame in dry:
        frame[:, 100:] = 0
    kept = score_clips([clip], {"clip": dry})["clip"].scores["vderain"]
    assert kept.kept_db == np.inf and kept.streaks_left == pytest.approx(1)


def test_a_dry_prediction_leaves_no_streaks_and_a_dark_one_is_reported(tmp_path):
    clip = static_clip(tmp_path / "clip")
    dry = {"clip": [scene()] * WINDOW}
    best = score_clips([clip], dry)["clip"].scores["vderain"]
    assert best.in_rain_db > 40 and best.streaks_left < 0.01 and best.darkened < 0.01
    dark = score_clips([clip], by_engine(Darkening(40)))["clip"].scores["vderain"]
    assert dark.darkened > 1 and dark.kept_db == pytest.approx(20 * np.log10(255 / 40), abs=0.1)


def test_every_fourth_frame_alone_is_derained(tmp_path):
    clip = static_clip(tmp_path / "clip")
    engine = Darkening(3)
    thin = score_clips([clip], by_engine(engine), every=4)["clip"]
    assert thin.places == tuple(range(FIRST + 4, FIRST + 20, 4)) and engine.predictions == 4
    full = score_clips([clip], by_engine(Darkening(3)))["clip"]
    assert thin.by_frame["vderain"] == full.by_frame["vderain"][::4]


def test_a_network_is_scored_without_an_engine(tmp_path):
    clip = static_clip(tmp_path / "clip")
    network = build_network(TINY).eval()
    scored = score_clips([clip], by_network(network), every=8)["clip"]
    assert len(scored.places) == 2 and np.isfinite(scored.scores["vderain"].in_rain_db)


@pytest.mark.parametrize(
    ("frames", "says"),
    [
        (lambda: rainy_frames(23), "needs at least 24"),
        (lambda: [scene()] * 30, "shows no rain"),
    ],
)
def test_clips_that_cannot_be_scored_are_named(tmp_path, frames, says):
    write_frames(tmp_path / "clip", frames())
    with pytest.raises(SourceError, match=says) as caught:
        score_clips(read_clips("static_rain", tmp_path / "clip"), by_engine(Darkening()))
    assert "clip" in str(caught.value)


def test_video_is_decoded_and_scaled_to_540_lines(tmp_path):
    path = tmp_path / "wide.avi"
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter_fourcc(*"FFV1"), 25, (1002, 600))
    ramp = np.tile(np.linspace(0, 200, 1002).astype(np.uint8)[None, :, None], (600, 1, 3))
    frames = [ramp + np.uint8(number) for number in range(26)]
    for frame in frames:
        writer.write(frame[..., ::-1])
    writer.release()
    (clip,) = read_clips("dry_motion", path)
    assert clip.window.first == 1 and len(clip.window.frames) == 24
    wanted = cv2.resize(frames[1], (900, 540), interpolation=cv2.INTER_AREA)
    np.testing.assert_array_equal(clip.window.frames[0], wanted)


def test_the_middle_of_the_first_90_frames_of_a_dry_clip_stays_as_it_was(tmp_path):
    frames = [noise(number) for number in range(100)]
    (clip,) = read_clips("dry_motion", write_frames(tmp_path / "clip", frames))
    results = [frame.copy() for frame in frames[33:57]]
    results[5] -= np.uint8(9)
    results[5][0, 0] += np.uint8(1)
    scored = score_clips([clip], {"clip": results})["clip"]
    assert scored.places == tuple(range(33, 57))
    one = scored.scores["vderain"]
    assert one.worst_frame_db == pytest.approx(20 * np.log10(255 / 9), abs=0.01)
    assert one.psnr_db == pytest.approx((23 * 100 + one.worst_frame_db) / 24)
    height, width = frames[0].shape[:2]
    assert one.changed_share == pytest.approx((height * width - 1) / (height * width) / 24)


def prepared(tmp_path, results=None):
    frames = rainy_frames()
    write_frames(tmp_path / "rain" / "one", frames)
    write_frames(tmp_path / "rain" / "two", with_rain([scene(2)] * CLIP, seed=3))
    write_frames(tmp_path / "dry", [noise(0)] * 30)
    sets = [
        make_clip_set("static_rain", tmp_path / "rain"),
        make_clip_set("dry_motion", tmp_path / "dry"),
    ]
    return frames, PreparedClips(sets, results or [])


def test_results_of_whole_clips_and_of_the_window_alone_score_the_same(tmp_path):
    frames = rainy_frames()
    write_frames(tmp_path / "whole" / "one", frames)
    write_frames(tmp_path / "part" / "rain" / "one", frames[FIRST : FIRST + WINDOW])
    others = [Results(name, tmp_path / name) for name in ("whole", "part")]
    _, sets = prepared(tmp_path, others)
    assert sets.predicting == {"whole", "part"}
    rain, dry = sets.evaluate(by_engine(Darkening(2)), every=5)
    one, two = rain.clips
    assert one.scores["whole"] == one.scores["part"] == one.scores["input"]
    assert list(two.scores) == ["input", MEDIAN, "vderain"] == list(rain.methods)
    assert list(dry.clips[0].scores) == ["vderain"]


def test_results_of_another_length_or_size_are_refused(tmp_path):
    for name, made in {
        "short": rainy_frames()[:13],
        "small": [frame[:90] for frame in rainy_frames()],
    }.items():
        write_frames(tmp_path / name / "one", made)
    for name, says in {"short": "holds 13 frames", "small": "128x90"}.items():
        _, sets = prepared(tmp_path, [Results(name, tmp_path / name)])
        with pytest.raises(SourceError, match=says):
            sets.evaluate(None)


def test_the_table_has_a_mean_and_the_worst_clip(tmp_path):
    _, sets = prepared(tmp_path)
    scored = sets.evaluate(by_engine(Darkening(12)), every=5)
    text = "\n".join(clip_lines(scored))
    for label in ("one", "two", "mean of rain", "worst of rain", "static rain", "dry motion"):
        assert label in text
    found = {(row.label, row.method): row.figures for row in rows(scored[0])}
    own = [found[name, "vderain"] for name in ("one", "two")]
    worst = found["worst of rain", "vderain"]
    assert worst["gain_db"] == min(one["gain_db"] for one in own)
    assert worst["darkened_more"] == max(one["darkened_more"] for one in own) > 0
    assert found["one", MEDIAN]["gain_db"] == 0
    summary = clip_summary(scored)
    assert summary["rain/one"]["in_rain_db"] == pytest.approx(own[0]["in_rain_db"], abs=1e-4)
    assert summary["dry/dry"]["changed_share"] == 1


def test_crops_show_every_method_at_full_size_and_no_place_twice(tmp_path):
    big = [cv2.resize(frame, (480, 360)) for frame in rainy_frames(24)]
    clip = static_clip(tmp_path / "clip", big)
    frames = clip.scored(5)
    results = {"vderain": {frame: clip.window.frames[frame] // 2 for frame in frames}}
    found = crops(clip, results, frames, 2)
    assert len(found) == 2 and len({crop.label for crop in found}) == 2
    for crop in found:
        assert list(crop.images) == ["input", MEDIAN, "vderain", "temporal median"]
        assert {image.shape for image in crop.images.values()} == {(240, 320, 3)}
        np.testing.assert_array_equal(crop.images["vderain"], crop.images["input"] // 2)
    assert crops(clip, {}, frames, 2) == crops(clip, results, frames, 0) == []


class Watching(Darkening):
    """An engine of three frames that notes how much brighter than the frame a neighbour is at most."""

    window = Window(3, 1)

    def __init__(self):
        super().__init__()
        self.brighter = []

    def open(self, fmt):
        return EngineSpec("watching", "float32", "here", "none", frames=3, lookahead=1)

    def change(self, clip):
        luma = rgb_luma(clip.planes)
        self.brighter.append(max(float((p - luma).max()) for p in clip.neighbours))
        return super().change(clip)


@pytest.mark.parametrize(("lookahead", "future_frames"), [(None, 1), (1, 1), (0, 0)])
def test_a_camera_shows_the_network_no_future_frame(lookahead, future_frames):
    images = [noise(0, (64, 64))] * 3 + [noise(0, (64, 64)) + np.uint8(15)]
    watching, timing = Watching(), Timing()
    engine = watching if lookahead is None else LookingAhead(watching, lookahead)
    derain_rgb(images, engine, timing, [2])
    assert watching.brighter == pytest.approx([15 * future_frames], abs=1)
    assert [spec.lookahead for spec in timing.engines] == [future_frames]
