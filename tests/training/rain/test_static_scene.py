import cv2
import numpy as np
import pytest

from tests.training.rainy_clips import scene, with_rain
from vderain.training.rain.plates import black_of, plate_light
from vderain.training.rain.static_scene import rain_of, static_scene

CLIP = 40


def noisy(count=CLIP, grain=1.0):
    rng = np.random.default_rng(2)
    return [
        np.rint(np.clip(scene() + rng.normal(0, grain, scene().shape), 0, 255)).astype(np.uint8)
        for _ in range(count)
    ]


@pytest.fixture(scope="module")
def clip():
    dry = noisy()
    rainy = with_rain(dry)
    return dry, rainy, static_scene(rainy)


def test_the_scene_of_a_rainy_clip_is_dry_and_its_noise_is_that_of_the_frames(clip):
    _, _, seen = clip
    error = seen.median.astype(float) - scene()
    assert np.abs(error).mean() < 0.5 and seen.calm.mean() > 0.97
    assert 1.0 < np.median(seen.noise) < 2.5


def test_the_target_is_the_dry_frame_with_its_noise_and_the_light_is_the_rain(clip):
    dry, rainy, scene_ = clip
    found = rain_of(scene_, rainy[20])
    added = rainy[20].astype(float) - dry[20]
    wet = added.max(2) > 12
    assert wet.mean() > 0.01
    known = found.known & wet
    assert known.mean() > 0.8 * wet.mean()
    left = np.abs(found.target.astype(float) - dry[20]).mean(2)
    assert left[known].mean() < 2.5 < 10 < added.mean(2)[known].mean()
    untouched = found.known & (
        cv2.dilate((added.max(2) > 0).astype(np.uint8), np.ones((5, 5))) == 0
    )
    same = (found.target == rainy[20]).all(2)
    assert same[untouched].mean() > 0.9
    assert found.light[known] == pytest.approx(added.mean(2)[known], abs=9)
    assert (found.light[untouched] > 0).mean() < 0.01


def test_nothing_is_said_of_what_is_thick_dark_or_sways(clip):
    dry, _, _ = clip
    frames = [frame.copy() for frame in dry]
    for number, frame in enumerate(frames):
        frame[:, 90:100] = 60 + 60 * (number % 2)  # sways
    seen = static_scene(frames)
    assert not seen.calm[:, 92:98].any()
    frame = frames[10].copy()
    frame[20:50, 20:50] += np.uint8(60)  # a thing
    frame[60:64, 20:60] -= np.uint8(50)  # its shadow
    found = rain_of(seen, frame)
    assert not found.known[22:48, 22:48].any() and not found.known[61:63, 22:58].any()
    assert found.light.max() == 0 and found.known[70:, :80].mean() > 0.95


def test_a_plates_light_is_what_its_rain_adds_to_its_black():
    rng = np.random.default_rng(0)
    black = rng.integers(0, 12, (20, 30)).astype(np.uint8)
    frames = np.repeat(black[None], 20, axis=0)
    frames[7, 5:15, 8] += np.uint8(80)
    np.testing.assert_array_equal(black_of(frames), black)
    light = plate_light(frames[7], black)
    assert light[5:15, 8] == pytest.approx(78) and light.sum() == pytest.approx(780)
