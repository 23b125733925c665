import numpy as np
import pytest

from vderain.training.overlays import draw_overlay, line_streaks, noise_streaks


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
        layer = draw_overlay(np.random.default_rng(seed), 64, 80)
        assert layer.shape == (64, 80)
        strengths.append(np.sqrt(np.square(layer).mean()))
    assert max(strengths) < 0.3
    assert np.percentile(strengths, 5) > 0.01
