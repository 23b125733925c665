import cv2
import numpy as np
import pytest

from vderain.training.rain.overlays import (
    draw_curtain,
    draw_overlay,
    line_streaks,
    noise_streaks,
    soft_streaks,
)


@pytest.mark.parametrize("draw", [line_streaks, noise_streaks])
@pytest.mark.parametrize("slant_deg", [-45.0, 0.0, 45.0])
def test_streaks_run_along_their_slant(draw, slant_deg):
    along = across = 0.0
    for seed in range(8):
        layer = draw(np.random.default_rng(seed), (96, 128), slant_deg)
        assert layer.shape == (96, 128) and layer.dtype == np.float32
        assert layer.min() >= 0 and layer.max() <= 1
        step = 5 * np.array([np.sin(np.deg2rad(slant_deg)), np.cos(np.deg2rad(slant_deg))])
        dx, dy = np.rint(step).astype(int)
        along += np.abs(layer - np.roll(layer, (dy, dx), (0, 1))).mean()
        across += np.abs(layer - np.roll(layer, (-dx, dy), (0, 1))).mean()
    assert across > 1.3 * along


def test_overlays_are_seldom_empty_and_never_full():
    strengths = []
    for seed in range(60):
        (layer,) = draw_overlay(np.random.default_rng(seed), 64, 80)
        assert layer.shape == (64, 80)
        strengths.append(np.sqrt(np.square(layer).mean()))
    assert max(strengths) < 0.3
    assert np.percentile(strengths, 5) > 0.01


@pytest.mark.parametrize("slant_deg", [-30.0, 0.0, 30.0])
def test_soft_streaks_run_along_their_slant_and_have_unit_variance(slant_deg):
    along = across = 0.0
    for seed in range(8):
        layer = soft_streaks(np.random.default_rng(seed), (96, 128), slant_deg)
        assert layer.shape == (96, 128) and layer.dtype == np.float32
        assert abs(layer.mean()) < 1e-3 and layer.std() == pytest.approx(1, abs=1e-3)
        step = 3 * np.array([np.sin(np.deg2rad(slant_deg)), np.cos(np.deg2rad(slant_deg))])
        dx, dy = np.rint(step).astype(int)
        along += np.abs(layer - np.roll(layer, (dy, dx), (0, 1))).mean()
        across += np.abs(layer - np.roll(layer, (-dx, dy), (0, 1))).mean()
    assert across > 1.2 * along


def test_a_curtain_is_mostly_slow_light_with_streaks_in_it():
    slow_shares = []
    for seed in range(40):
        (layer,) = draw_curtain(np.random.default_rng(seed), 96, 128)
        assert layer.shape == (96, 128) and layer.dtype == np.float32
        assert layer.min() >= 0 and layer.max() <= 1 and layer.std() > 0
        slow = cv2.GaussianBlur(layer, (0, 0), 12)
        slow_shares.append(np.square(slow).mean() / np.square(layer).mean())
    assert np.median(slow_shares) > 0.6  # most of its energy is a veil
    assert min(slow_shares) < 0.95  # streaks show in some


def test_an_image_of_one_pixel_gets_light_that_is_a_number():
    for seed in range(100):
        (layer,) = draw_curtain(np.random.default_rng(seed), 1, 1)
        assert np.isfinite(layer).all()
