import cv2
import numpy as np
import pytest

from vderain.errors import SourceError
from vderain.training.datasets import PatchSampler, Sample, read_clean, read_halves, read_pairs

RNG = np.random.default_rng(0)


def save(path, picture):
    path.parent.mkdir(parents=True, exist_ok=True)
    assert cv2.imwrite(str(path), picture[..., ::-1])


def test_halves_are_clean_on_the_left_and_rainy_on_the_right(tmp_path):
    both = np.concatenate(
        [np.full((8, 10, 3), 10, np.uint8), np.full((8, 10, 3), 200, np.uint8)], 1
    )
    save(tmp_path / "a.png", both)
    (sample,) = read_halves(tmp_path)
    assert np.all(sample.background == 10) and np.all(sample.rainy == 200)


def test_pairs_share_their_names(tmp_path):
    for name, level in (("a", 50), ("b", 90)):
        save(tmp_path / "input" / f"{name}.png", np.full((8, 8, 3), level + 5, np.uint8))
        save(tmp_path / "target" / f"{name}.png", np.full((8, 8, 3), level, np.uint8))
    for sample in read_pairs(tmp_path):
        assert np.all(sample.rainy == sample.background + 5)


def test_a_folder_without_pictures_and_a_broken_picture_are_named(tmp_path):
    with pytest.raises(SourceError, match=str(tmp_path)):
        list(read_clean(tmp_path))
    (tmp_path / "broken.png").write_text("not a picture")
    with pytest.raises(SourceError, match=r"broken\.png"):
        list(read_clean(tmp_path))


def sampler(sources, **changes):
    settings = {"patch": 32, "batch": 4, "dry_share": 0.0, "seed": 5, **changes}
    return PatchSampler(sources, dict.fromkeys(sources, 1.0), **settings)


def test_batches_are_seeded_patches_in_range():
    picture = RNG.integers(0, 256, (50, 70, 3), np.uint8)
    sources = {"clean": [Sample(None, picture)]}
    one, two = (next(iter(sampler(sources))) for _ in range(2))
    for rainy, background in (one, two):
        assert rainy.shape == background.shape == (4, 3, 32, 32)
        assert rainy.dtype == np.float32 and rainy.min() >= 0 and rainy.max() <= 1
    assert np.array_equal(one[0], two[0])
    assert not np.array_equal(*one)


def test_pairs_stay_aligned_through_cropping_and_flipping():
    background = RNG.integers(0, 200, (50, 70, 3), np.uint8)
    sources = {"pairs": [Sample(background + np.uint8(20), background)]}
    rainy, clean = next(iter(sampler(sources, batch=16)))
    assert np.allclose(rainy - clean, 20 / 255, atol=1e-6)


def test_pictures_smaller_than_a_patch_are_mirrored_up_to_it():
    sources = {"clean": [Sample(None, RNG.integers(0, 256, (20, 10, 3), np.uint8))]}
    assert next(iter(sampler(sources)))[1].shape == (4, 3, 32, 32)


def test_dry_samples_ask_for_no_change():
    picture = np.full((40, 40, 3), 77, np.uint8)
    rainy, background = next(iter(sampler({"clean": [Sample(None, picture)]}, dry_share=1.0)))
    assert np.array_equal(rainy, background)
