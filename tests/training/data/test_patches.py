import itertools

import numpy as np
import pytest

from tests.training.folders import noise, save, write_clip
from vderain.clips import Window
from vderain.errors import OptionError
from vderain.training.data import patches
from vderain.training.data.cache import ImageCache
from vderain.training.data.patches import PatchSampler, UnpairedSampler
from vderain.training.data.sources import Sample, load_sources

RNG = np.random.default_rng(0)
CLEAN = {"clean": [Sample(None, RNG.integers(0, 256, (50, 70, 3), np.uint8))]}
REAL = {"rain": [Sample(np.full((40, 90, 3), 200, np.uint8), None)]}


def sampler(sources, **changes):
    settings = {"patch": 32, "batch": 4, "dry_share": 0.0, "seed": 5, **changes}
    return PatchSampler(sources, dict.fromkeys(sources, 1.0), **settings)


def unpaired(rainy, clean, **changes):
    shares = dict.fromkeys(rainy, 1.0), dict.fromkeys(clean, 1.0)
    settings = {"patch": 32, "batch": 4, "seed": 5, **changes}
    return UnpairedSampler(rainy, clean, *shares, **settings)


def equal(one, two):
    return all(np.array_equal(*sides) for sides in zip(one, two, strict=True))


def ramp(height=50, width=70):
    """An image that tells its own row and column."""
    rows, columns = np.mgrid[:height, :width].astype(np.uint8)
    return np.dstack([rows, columns, np.full_like(rows, 7)])


def test_batches_are_seeded_patches_in_range():
    one, two, other = (next(iter(sampler(CLEAN, seed=seed))) for seed in (5, 5, 6))
    for rainy, background, weight in (one, two):
        assert rainy.shape == background.shape == (4, 3, 32, 32)
        assert weight.shape == (4, 1, 32, 32) and (weight == 1).all()
        assert rainy.dtype == np.float32 and rainy.min() >= 0 and rainy.max() <= 1
    assert equal(one, two) and not equal(one, other)
    assert not np.array_equal(one.rainy, one.background)


@pytest.mark.parametrize("make", [sampler, lambda sources: unpaired(REAL, sources)])
def test_a_resumed_run_draws_what_an_uninterrupted_one_would(make):
    whole = list(itertools.islice(make(CLEAN), 5))
    resumed = list(itertools.islice(make(CLEAN).batches(3), 2))
    assert all(equal(*pair) for pair in zip(whole[3:], resumed, strict=True))
    assert not equal(whole[3], whole[4])


def test_what_the_cache_holds_and_how_many_workers_draw_changes_nothing(tmp_path):
    for seed in range(3):
        save(tmp_path / "images" / f"{seed}.png", noise(seed))
    (tmp_path / "images" / "1.png").write_text("broken")
    write_clip(tmp_path / "clips" / "a.avi", range(0, 200, 20), size=(64, 48))
    tables = {name: {"path": name, "frames": 4} for name in ("images", "clips")}
    roomy, tight = (
        sampler(load_sources(tables, tmp_path, ImageCache(budget_mb))) for budget_mb in (10, 0)
    )
    expected = [roomy.batch(number) for number in range(2, 6)]
    assert all(equal(tight.batch(number), expected[number - 2]) for number in (5, 3, 2, 4))
    for made in (roomy, tight):
        from_workers = made.batches(2, workers=2)
        assert all(equal(batch, next(from_workers)) for batch in expected)


def test_pairs_stay_aligned_through_cropping_and_turning():
    sources = {"pairs": [Sample(ramp() + np.uint8(20), ramp(), upside_down=True)]}
    rainy, background, _ = next(iter(sampler(sources, batch=32)))
    assert np.allclose(rainy - background, 20 / 255, atol=1e-6)


def directions(batch):
    """Where rows and columns of the source ran in each patch."""
    red, green = batch[1][:, 0], batch[1][:, 1]
    down = np.sign(red[:, 1, 0] - red[:, 0, 0])
    right = np.sign(green[:, 0, 1] - green[:, 0, 0])
    return set(zip(down.tolist(), right.tolist(), strict=True))


def test_rain_that_falls_is_only_mirrored():
    sources = {"pairs": [Sample(ramp(), ramp())]}
    batch = next(iter(sampler(sources, batch=32)))
    assert directions(batch) == {(1, 1), (1, -1)}


def test_rain_at_any_angle_is_also_put_upside_down_and_never_laid_level():
    batch = next(iter(sampler({"pairs": [Sample(ramp(), ramp(), upside_down=True)]}, batch=64)))
    assert directions(batch) == {(1, 1), (1, -1), (-1, 1), (-1, -1)}


@pytest.mark.parametrize("shape", [(20, 10), (5, 90), (1, 1), (32, 32), (33, 31)])
def test_images_of_any_size_fill_a_patch(shape):
    image = RNG.integers(0, 256, (*shape, 3), np.uint8)
    sources = {
        "clean": [Sample(None, image)],
        "pairs": [Sample(image, image, upside_down=True)],
    }
    assert next(iter(sampler(sources, batch=8)))[1].shape == (8, 3, 32, 32)


def test_small_images_are_mirrored_up_to_a_patch():
    rows = np.arange(4, dtype=np.uint8)[:, None, None] + np.zeros((1, 32, 3), np.uint8)
    sources = {"pairs": [Sample(rows, rows)]}
    (background,) = next(iter(sampler(sources, batch=1)))[1]
    assert (background[0, :9, 0] * 255).round().tolist() == [0, 1, 2, 3, 3, 2, 1, 0, 0]


def test_clean_images_are_also_seen_from_farther_away():
    steps = (np.arange(400) // 40 * 20).astype(np.uint8)
    image = np.broadcast_to(steps[None, :, None], (400, 400, 3))
    drawn = next(iter(sampler({"clean": [Sample(None, image)]}, batch=48, dry_share=1.0)))[1]
    levels = [len(np.unique((row * 255).round() // 20)) for row in drawn[:, 0, 16]]
    assert max(levels) > 2  # 32 columns of the image itself see two steps at most


def test_dry_samples_ask_for_no_change():
    image = np.full((40, 40, 3), 77, np.uint8)
    rainy, background, _ = next(iter(sampler({"clean": [Sample(None, image)]}, dry_share=1.0)))
    assert np.array_equal(rainy, background)


def test_the_model_of_rain_and_mined_layers_reach_the_renderer(monkeypatch):
    seen = []

    def add_rain(rng, frames, *, model, mined):
        seen.append((model, mined))
        return frames

    monkeypatch.setattr(patches, "add_rain", add_rain)
    mined = [np.zeros((8, 8), np.float32)]
    next(iter(sampler(CLEAN, rain_model="simple", mined=mined)))
    assert seen == [("simple", mined)] * 4


@pytest.mark.parametrize("share", [0.0, 1.0])
def test_drops_close_to_the_lens_fall_on_their_share_of_rainy_clips(monkeypatch, share):
    wet = []

    def with_close_drops(rng, frames):
        wet.append(len(frames))
        return frames

    monkeypatch.setattr(patches, "with_close_drops", with_close_drops)
    sampler(CLEAN, window=Window(3), batch=20, close_drops=share).batch(0)
    assert set(wet) == ({3} if share else set())
    assert 5 <= len(wet) < 20 or not share  # single images have none


def test_a_share_of_what_several_frames_are_trained_on_is_single_rainy_images():
    rainy, background, _ = sampler(CLEAN, window=Window(3), batch=40).batch(0)
    alone = [sample for sample in range(40) if (rainy[sample, 3:] == 0).all()]
    assert 8 < len(alone) < 32
    assert any(not np.array_equal(rainy[sample, :3], background[sample]) for sample in alone)


LEVELS = {"often": 10, "seldom": 20}


def test_sources_are_drawn_by_their_shares():
    flat = {name: np.full((32, 32, 3), value, np.uint8) for name, value in LEVELS.items()}
    sources = {name: [Sample(image, image)] for name, image in flat.items()}
    made = PatchSampler(
        sources, {"often": 3, "seldom": 1}, patch=32, batch=400, dry_share=0.0, seed=1
    )
    drawn = (next(iter(made))[1][:, 0, 0, 0] * 255).round()
    assert 0.68 < (drawn == 10).mean() < 0.82 and set(drawn.tolist()) == {10, 20}


def test_unpaired_batches_hold_real_rain_and_other_clean_images():
    dark = {"clean": [Sample(None, np.full((60, 60, 3), 20, np.uint8))]}
    rainy, clean = next(iter(unpaired(REAL, dark)))
    assert rainy.shape == clean.shape == (4, 3, 32, 32)
    assert np.allclose(rainy, 200 / 255) and np.allclose(clean, 20 / 255)


def test_rain_may_be_rendered_for_the_rainy_side(monkeypatch):
    flat = {"clean": [Sample(None, np.full((60, 60, 3), 20, np.uint8))]}
    monkeypatch.setattr(patches, "add_rain", lambda rng, frames: [frame + 90 for frame in frames])
    rainy, clean = next(iter(unpaired(flat, flat, renders=True)))
    assert np.allclose(rainy, 110 / 255, atol=0.01) and np.allclose(clean, 20 / 255, atol=0.01)


def test_compression_does_not_distinguish_rendered_rain_from_clean_images(monkeypatch):
    busy = {
        "clean": [Sample(None, np.random.default_rng(1).integers(0, 256, (60, 60, 3), np.uint8))]
    }
    pairs = {"clean": [Sample(busy["clean"][0].background, busy["clean"][0].background)]}
    seen = []
    monkeypatch.setattr(patches, "perhaps_recompressed", lambda rng, one: seen.append(1) or one)
    next(iter(unpaired(busy, busy, renders=True)))
    assert len(seen) == 8  # four patches of each side
    next(iter(unpaired(pairs, pairs, renders=True)))
    next(iter(unpaired(pairs, busy)))
    assert len(seen) == 8  # photographs are as they are


def test_sources_in_the_wrong_place_are_an_error():
    with pytest.raises(OptionError, match=r"under \[real\]"):
        next(iter(sampler(REAL)))
    with pytest.raises(OptionError, match="use reader real"):
        next(iter(unpaired(CLEAN, CLEAN)))
    with pytest.raises(OptionError, match="use reader clean"):
        next(iter(unpaired(REAL, REAL)))
    with pytest.raises(OptionError, match="source none: has no samples"):
        sampler({"none": []})
