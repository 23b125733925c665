import numpy as np
import pytest

from vderain.training.rain.scattering import (
    Mist,
    draw_mist,
    drop_light,
    is_dark,
    lamp_light,
    uneven,
)


def scene():
    """Sky above, a dark wall below."""
    image = np.full((60, 80, 3), 40, np.uint8)
    image[:30] = (180, 190, 210)
    return image


def test_night_is_distinguished_from_day():
    assert is_dark(np.full((9, 9, 3), 40, np.uint8))
    assert not is_dark(scene())


def test_drops_are_brighter_than_a_dark_wall():
    for seed in range(10):
        light = drop_light(np.random.default_rng(seed), scene())
        assert light.shape == (60, 80, 3) and light.dtype == np.float32
        assert light[30:].min() > 80


def test_drops_are_brightest_near_a_lamp():
    night = np.full((60, 80, 3), 15, np.uint8)
    night[10:20, 10:20] = 255
    light = sum(lamp_light(np.random.default_rng(seed), night).mean(2) for seed in range(20))
    assert light[15, 15] > 1.5 * light[55, 75]


def test_mist_grows_with_depth_and_hides_the_scene():
    for seed in range(20):
        thin, thick = (draw_mist(np.random.default_rng(seed), scene(), t) for t in (0.2, 0.8))
        assert (thick.transmission <= thin.transmission).all()
        assert thick.transmission.mean() < thin.transmission.mean() < 1
    above, below = (
        np.mean([draw_mist(np.random.default_rng(s), scene(), 0.8).transmission[r] for s in range(40)])
        for r in (slice(0, 20), slice(40, 60))
    )  # fmt: skip
    assert above < below - 0.05


def test_mist_takes_contrast():
    mist = Mist(np.full((60, 80, 1), 0.5, np.float32), np.full(3, 200, np.float32))
    misty = mist.over(scene().astype(np.float32))
    assert misty[0, 0, 0] - misty[59, 0, 0] == pytest.approx((180 - 40) / 2)
    assert misty.min() == pytest.approx(120)


def test_gusts_weaken_streaks_in_places():
    layer = uneven(np.random.default_rng(0), np.ones((60, 80), np.float32))
    assert 0 < layer.min() < 0.5 < layer.max() <= 1
