import numpy as np
import pytest

from vderain.training.rain.close_drops import with_close_drops, with_soft_lights


def grey_clip(level=90, frames=9, height=90, width=110):
    return [np.full((height, width, 3), level, np.uint8) for _ in range(frames)]


@pytest.mark.parametrize("draw", [with_close_drops, with_soft_lights])
@pytest.mark.parametrize("level", [0, 90, 255])
def test_drops_and_lights_only_brighten(draw, level):
    for seed in range(4):
        dry = grey_clip(level)
        for before, after in zip(dry, draw(np.random.default_rng(seed), dry), strict=True):
            assert after.shape == before.shape and after.dtype == np.uint8
            assert (after >= before).all()


def test_a_close_drop_is_in_one_frame_and_not_in_the_next():
    overlaps = []
    for seed in range(8):
        wet = np.stack(with_close_drops(np.random.default_rng(seed), grey_clip()))[..., 0] > 93
        lit = wet.mean((1, 2))
        overlaps += [
            (wet[k] & wet[k + 1]).mean() / lit[k] for k in range(8) if lit[k] and lit[k + 1]
        ]
    assert np.mean(overlaps) < 0.5


def test_close_drops_are_wider_than_streaks_and_leave_most_frames_alone():
    widths, wet_frames = [], []
    for seed in range(12):
        wet = np.stack(with_close_drops(np.random.default_rng(seed), grey_clip()))[..., 0] > 90
        wet_frames.append(wet.any((1, 2)).mean())
        widths += [rows.sum(1).max() for rows in wet if rows.any()]
    assert np.median(widths) > 16
    assert 0.1 < np.mean(wet_frames) < 0.6


def test_drops_fall_and_soft_lights_lie():
    def steepness(draw):
        clips = [np.stack(draw(np.random.default_rng(seed), grey_clip(0))) for seed in range(10)]
        lit = np.concatenate(clips)[..., 0].astype(float)
        along, across = (np.abs(np.diff(lit, axis=axis)).mean() for axis in (1, 2))
        return across / along

    assert steepness(with_close_drops) > 2
    assert steepness(with_soft_lights) < 0.5


def test_the_same_state_draws_the_same_drops():
    one, other = (with_close_drops(np.random.default_rng(5), grey_clip()) for _ in range(2))
    assert all((a == b).all() for a, b in zip(one, other, strict=True))
