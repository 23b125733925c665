import cv2
import numpy as np
import pytest

from vderain.errors import SourceError
from vderain.training.rain.mining import draw_mined, mine_streaks
from vderain.training.rain.streaks import Streaks, paint

SHAPE = (120, 160)
FRAMES = 7


def texture(seed=0, shape=SHAPE):
    noise = np.random.default_rng(seed).random((*shape, 3), np.float32) - 0.5
    smooth = cv2.GaussianBlur(noise, (0, 0), 2.0)
    return np.clip(70 + smooth * (20 / smooth.std()), 0, 255).astype(np.uint8)


def streaks(rng, slant_px):
    """Twenty streaks, either parallel or (``slant_px`` None) pointing anywhere."""
    starts = rng.uniform(0, (160, 120), (20, 2))
    if slant_px is None:
        angles = rng.uniform(0, np.pi, 20)
        vectors = 15 * np.stack([np.cos(angles), np.sin(angles)], 1)
    else:
        vectors = np.tile((slant_px, 15.0), (20, 1))
    return paint(SHAPE, Streaks(starts, vectors, np.full(20, 1.2), np.full(20, 0.35)))


def rainy_clip(slant_px=4):
    rng = np.random.default_rng(1)
    layers = [streaks(rng, slant_px) for _ in range(FRAMES)]
    frames = [
        np.clip(texture() + 255 * layer[..., None], 0, 255).astype(np.uint8) for layer in layers
    ]
    return frames, layers


def test_streaks_of_a_still_scene_are_recovered():
    frames, layers = rainy_clip()
    mined = mine_streaks(frames)
    assert len(mined) == FRAMES
    for found, true in zip(mined, layers, strict=True):
        assert found.shape == SHAPE and found.dtype == np.float32
        assert 0 <= found.min() and found.max() <= 1
        assert np.corrcoef(found.ravel(), true.ravel())[0, 1] > 0.85
        assert found[true == 0].max() < 0.02


def test_a_dry_scene_gives_nothing_still_or_moving():
    assert mine_streaks([texture()] * FRAMES) == []
    wide = texture(shape=(120, 260))
    assert mine_streaks([wide[:, 9 * i : 9 * i + 160] for i in range(FRAMES)]) == []


def test_a_moving_object_is_no_rain():
    frames = []
    for index in range(FRAMES):
        frame = texture()
        cv2.rectangle(frame, (10 + 12 * index, 40), (22 + 12 * index, 90), (250, 250, 250), -1)
        frames.append(frame)
    assert mine_streaks(frames) == []


def test_flashes_that_point_anywhere_are_no_rain():
    assert mine_streaks(rainy_clip(slant_px=None)[0]) == []


def test_as_many_dark_streaks_as_bright_ones_are_no_rain():
    frames, layers = rainy_clip()
    both = [
        np.clip(frame - 120 * np.roll(layer, 40, 1)[..., None], 0, 255).astype(np.uint8)
        for frame, layer in zip(frames, layers, strict=True)
    ]
    assert mine_streaks(both) == []


def test_nothing_is_mined_where_the_scene_moves():
    frames, _ = rainy_clip()
    levels = np.random.default_rng(3).permutation(np.linspace(0, 250, FRAMES))
    for frame, level in zip(frames, levels, strict=True):
        frame[40:80, 60:110:5] = (
            level  # a fence under a lamp that flickers: thin, parallel, upright
        )
    mined = mine_streaks(frames)
    assert mined
    assert all(not layer[44:76, 64:106].any() and layer.any() for layer in mined)


def test_a_camera_that_pans_is_followed():
    _, layers = rainy_clip()
    wide = texture(shape=(120, 240))
    frames = [
        np.clip(wide[:, 8 * i : 8 * i + 160] + 255 * layer[..., None], 0, 255).astype(np.uint8)
        for i, layer in enumerate(layers)
    ]
    mined = mine_streaks(frames)
    assert len(mined) >= FRAMES - 2
    seen = np.s_[:, 20:-20]
    assert np.corrcoef(mined[2][seen].ravel(), layers[2][seen].ravel())[0, 1] > 0.6


def test_too_few_frames_give_nothing_and_mixed_sizes_are_refused():
    frames, _ = rainy_clip()
    assert mine_streaks(frames[:4]) == []
    with pytest.raises(SourceError, match="several sizes"):
        mine_streaks([*frames, frames[0][:-1]])


@pytest.mark.parametrize("size", [(5, 7), (64, 64), (300, 200)])
def test_mined_layers_are_cut_to_any_size(size):
    rng = np.random.default_rng(0)
    grey, coloured = (
        rng.random(SHAPE).astype(np.float32),
        rng.random((30, 40, 3)).astype(np.float32),
    )
    for _ in range(10):
        assert draw_mined(rng, [grey], *size).shape == size
        assert draw_mined(rng, [coloured, grey], *size).shape[:2] == size
