import numpy as np

from vderain.training.rain import add_rain, recompress, streak_layer

GREY = np.full((96, 128, 3), 90, np.uint8)


def test_the_same_seed_renders_the_same_rain():
    one, two, other = (add_rain(np.random.default_rng(seed), GREY) for seed in (3, 3, 4))
    assert np.array_equal(one, two)
    assert not np.array_equal(one, other)


def test_streaks_are_an_opacity_of_falling_lines():
    layers = [streak_layer(np.random.default_rng(seed), 96, 128) for seed in range(12)]
    assert all(layer.shape == (96, 128) and layer.dtype == np.float32 for layer in layers)
    assert all(layer.min() >= 0 and layer.max() <= 1 for layer in layers)
    down = sum(np.abs(np.diff(layer, axis=0)).mean() for layer in layers)
    across = sum(np.abs(np.diff(layer, axis=1)).mean() for layer in layers)
    assert across > 1.3 * down  # streaks run down the picture more often than across it


def test_rain_brightens_a_dark_picture():
    dark = np.full((96, 128, 3), 30, np.uint8)
    assert all(add_rain(np.random.default_rng(seed), dark).mean() >= 30 for seed in range(12))


def test_recompression_keeps_the_picture_and_its_colours():
    picture = np.zeros((64, 64, 3), np.uint8)
    picture[..., 0] = 200  # red: swapped channels would show
    again = recompress(np.random.default_rng(0), picture)
    assert again.shape == picture.shape
    assert np.abs(again.astype(int) - picture).max() < 12
