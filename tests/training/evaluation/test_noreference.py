import cv2
import numpy as np
import pytest

from tests.training.rainy_clips import scene, with_rain
from vderain.training.evaluation.noreference import RealScores, rain_direction, score_result
from vderain.training.rain.temporal import view

TRUTH = scene()
FRAMES = with_rain([TRUTH] * 7)
SEEN = view(FRAMES)


def scored(results):
    found = score_result(SEEN, results)
    assert found is not None
    return found


def test_a_dry_result_beats_a_half_derained_one_and_that_the_input():
    half = [np.rint((frame + TRUTH.astype(float)) / 2).astype(np.uint8) for frame in FRAMES]
    rainy, better, dry = scored(FRAMES), scored(half), scored([TRUTH] * 7)
    assert rainy.agreement_db < better.agreement_db < dry.agreement_db
    for name in ("residual", "flicker", "streaks"):
        values = [getattr(one, name) for one in (rainy, better, dry)]
        assert values == sorted(values, reverse=True) and values[0] > values[2], name


def test_structure_detects_blur_which_residual_and_flicker_do_not():
    blurred = scored([cv2.GaussianBlur(frame, (0, 0), 2.0) for frame in FRAMES])
    kept = scored(FRAMES)
    assert kept.structure == pytest.approx(1)
    assert blurred.structure < 0.8
    assert blurred.residual < kept.residual and blurred.flicker < kept.flicker


def test_the_direction_of_the_rain_is_found():
    x, y = rain_direction(SEEN)
    assert abs(x / y) == pytest.approx(4 / 16, abs=0.1) and x * y > 0


def test_where_nothing_can_be_trusted_nothing_is_said():
    rng = np.random.default_rng(0)
    noise = [rng.integers(0, 256, TRUTH.shape, np.uint8) for _ in range(7)]
    assert score_result(view(noise), noise) is None


def test_means():
    assert RealScores.mean([RealScores(*[1.0] * 5), RealScores(*[3.0] * 5)]).flicker == 2
