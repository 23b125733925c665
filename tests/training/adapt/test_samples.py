from functools import partial

import numpy as np
import pytest
import torch

from tests.training.rainy_clips import save_unchanging, scene, with_rain
from vderain.clips import Window
from vderain.training.adapt.retention import OtherRain
from vderain.training.adapt.samples import (
    DRY,
    KEPT,
    MADE,
    REAL,
    DryPool,
    Lesson,
    LessonSampler,
)
from vderain.training.config.adapt import adapt_config
from vderain.training.data.footage import Piece, read_lessons

TRUTH = scene()


def read(count):
    """Lessons for a network of ``count`` frames."""
    pieces = [Piece(f"{seed}", tuple(with_rain([TRUTH] * 7, seed))) for seed in range(2)]
    found = read_lessons(pieces, lambda frames: frames)
    return [
        Lesson.of(seen, piece.frames, Window(count, count // 2))
        for piece, (seen, _) in zip(pieces, found, strict=True)
    ]


@pytest.fixture(scope="module")
def lessons():
    return read(1)


@pytest.fixture
def sampler(lessons, tmp_path):
    def make(*settings, pool=None, footage=lessons, frames=1):
        weights = tmp_path / "tiny.safetensors"
        if not weights.exists():
            save_unchanging(weights)
        config = adapt_config("tiny", str(weights), {}, ["patch=64", "batch=6", *settings])
        pool = pool or DryPool(footage)
        other = OtherRain(
            {"any": ([TRUTH, *pool.other], 1.0)},
            patch=64,
            window=Window(frames),
            seed=1,
            dry_share=0.2,
        )
        return LessonSampler(config, footage, pool, other, Window(frames))

    return make


def only(name):
    """Settings for samples of one kind."""
    names = ("median_share", "mined_share", "kept_share")
    return [f"{one}={float(one == name)}" for one in names]


def test_batches_depend_on_their_number_alone(sampler):
    one, other = sampler().batch(5), next(sampler().batches(5))
    for name in ("rainy", "target", "weight", "kinds"):
        assert torch.equal(getattr(one, name), getattr(other, name))
    assert not torch.equal(one.rainy, sampler().batch(6).rainy)


def test_the_footage_itself_is_held_against_its_dry_median(sampler):
    batch = sampler(*only("median_share")).batch(0)
    assert batch.rainy.shape == (6, 3, 64, 64) and batch.weight.shape == (6, 1, 64, 64)
    assert set(batch.kinds.tolist()) == {REAL}
    rain = (batch.rainy - batch.target) * batch.weight
    assert rain.max() > 0.2 and rain.mean() > 0
    assert 0.3 <= batch.weight.mean() <= 1


def test_the_footages_own_rain_is_laid_on_dry_images(sampler):
    batch = sampler(*only("mined_share")).batch(1)
    assert set(batch.kinds.tolist()) == {MADE}
    assert (batch.rainy >= batch.target - 1e-6).all() and (batch.rainy - batch.target).max() > 0.1


@pytest.mark.parametrize("kind", ["median_share", "mined_share", "kept_share", "none"])
def test_a_network_of_several_frames_sees_rain_that_moves(sampler, kind):
    batch = sampler(*only(kind), footage=read(3), frames=3).batch(0)
    assert batch.rainy.shape == (6, 5, 64, 64) and batch.target.shape == (6, 3, 64, 64)
    current, differences = batch.rainy.split([3, 2], 1)
    alone = [not one.any() for one in differences]
    if kind == "none":
        assert all(alone) and torch.equal(current, batch.target)
    elif kind == "kept_share":
        assert any(alone) and not all(alone)  # some as a single image is seen
    else:
        assert not any(alone)


def test_what_no_share_is_left_for_stays_dry(sampler):
    batch = sampler(*only("none")).batch(0)
    assert set(batch.kinds.tolist()) == {DRY}
    assert torch.equal(batch.rainy, batch.target)


def test_samples_to_be_kept_are_named_as_such(sampler):
    batch = sampler(*only("kept_share")).batch(0)
    assert set(batch.kinds.tolist()) == {KEPT}
    assert (batch.weight == 1).all()


def test_images_smaller_than_a_patch_are_mirrored_up_to_it(sampler, lessons):
    small = np.full((20, 300, 3), 7, np.uint8)
    drawn = sampler(*only("none"), pool=DryPool(lessons, own=[small], other=[small]))
    assert drawn.batch(0).target.shape == (6, 3, 64, 64)


def test_derained_frames_come_with_each_view(lessons):
    piece = Piece("a", tuple(with_rain([TRUTH] * 7)))
    darker = partial(np.multiply, np.uint8(1))
    ((seen, derained),) = read_lessons([piece], darker)
    assert len(derained) == 7 and seen.frame is piece.frames[3]
