import numpy as np

from tests.training.rainy_clips import scene
from vderain.clips import Window
from vderain.training.adapt.retention import OtherRain, shipped_images


def rain(**options):
    return OtherRain(
        {"any": ([scene(), scene(1)], 1.0)}, patch=48, window=Window(3), seed=1, **options
    )


def test_clean_images_come_with_the_tool():
    shipped = shipped_images()
    assert len(shipped) >= 24
    assert all(min(image.shape[:2]) >= 256 and image.std() > 1 for image in shipped)


def test_probes_rain_and_are_the_same_again():
    probes, again = (rain(dry_share=0.0).probes(5) for _ in range(2))
    assert all(np.array_equal(one[0], other[0]) for one, other in zip(probes, again, strict=True))
    for rainy, truth in probes:
        assert rainy.shape == (48, 48, 5) and truth.shape == (48, 48, 3)
    wet = [not np.array_equal(rainy[..., :3], truth) for rainy, truth in probes]
    assert np.mean(wet) > 0.9  # a patch may lie between the streaks


def test_without_rain_the_middle_frame_is_the_truth():
    for rainy, truth in rain(dry_share=1.0).probes(5):
        assert np.array_equal(rainy[..., :3], truth)
