import numpy as np

from vderain.training.data.augment import draw_chart, recoloured
from vderain.training.data.sources import READERS

IMAGE = np.random.default_rng(0).integers(0, 256, (16, 20, 3), np.uint8)


def test_recolouring_is_seeded_keeps_the_shape_and_often_the_image():
    made = [recoloured(np.random.default_rng(seed), IMAGE) for seed in range(40)]
    again = [recoloured(np.random.default_rng(seed), IMAGE) for seed in range(40)]
    assert all(np.array_equal(*pair) for pair in zip(made, again, strict=True))
    assert {image.shape for image in made} == {IMAGE.shape}
    unchanged = sum(np.array_equal(image, IMAGE) for image in made)
    assert 10 < unchanged < 38


def test_charts_hold_saturated_colours(tmp_path):
    charts = [draw_chart(np.random.default_rng(seed)) for seed in range(20)]
    saturated = [((chart == 0) | (chart == 255)).all(-1).mean() for chart in charts]
    assert np.mean(saturated) > 0.2
    samples = list(READERS["charts"](tmp_path))
    assert all(sample.rainy is None for sample in samples)
    assert not np.array_equal(samples[0].background, samples[1].background)
