import numpy as np
import pytest

from tests.training.rainy_clips import SIZE, pan, scene, with_rain
from vderain.errors import SourceError
from vderain.metrics import psnr
from vderain.training.rain.temporal import view


def test_the_median_of_a_still_scene_is_dry_and_its_rain_is_found():
    truth = scene()
    frames = with_rain([truth] * 7)
    seen = view(frames)
    assert seen.valid.mean() > 0.9
    assert psnr(seen.median, truth) > psnr(frames[3], truth) + 10
    assert psnr(seen.target(), truth) > psnr(frames[3], truth) + 10
    rain = frames[3].astype(int) - truth
    assert np.corrcoef(seen.light()[seen.valid].ravel(), rain[seen.valid].ravel())[0, 1] > 0.9


def test_frames_of_a_moving_camera_are_aligned():
    truth = pan(7)
    frames = with_rain(truth)
    seen = view(frames)
    assert seen.alignment.motion_px == pytest.approx(2, abs=0.5)
    inner = seen.valid.copy()
    inner[:, :16] = inner[:, -16:] = False
    assert inner.mean() > 0.4
    assert psnr(seen.target()[inner], truth[3][inner]) > psnr(frames[3][inner], truth[3][inner]) + 3


def test_what_moves_through_is_not_taken_for_rain():
    frames = []
    for index in range(7):
        frame = scene()
        frame[30:60, 15 * index : 15 * index + 40] = 230  # in the middle frame, 45 to 85
        frames.append(frame)
    seen = view(frames)
    assert seen.valid[35:55, 50:80].mean() < 0.25
    assert seen.light()[30:60].max() < 0.2
    assert seen.valid[75:].mean() > 0.8


def test_a_dry_frame_is_its_own_target_grain_and_all():
    rng = np.random.default_rng(0)
    frames = [
        np.clip(scene() + rng.normal(0, 3, (*SIZE, 3)), 0, 255).astype(np.uint8) for _ in range(7)
    ]
    seen = view(frames)
    changed = np.abs(seen.target().astype(int) - frames[3])
    assert (changed <= 1).mean() > 0.9
    assert seen.noise == pytest.approx(3, abs=1.5)


def test_in_a_downpour_derained_frames_help():
    truth = scene()
    frames = with_rain([truth] * 7, streaks=160)
    half = [np.rint((frame + truth.astype(float)) / 2).astype(np.uint8) for frame in frames]
    assert psnr(view(frames, half).median, truth) > psnr(view(frames).median, truth) + 2


def test_frames_of_several_sizes_are_refused():
    with pytest.raises(SourceError, match=r"several sizes \(100x90, 128x96\)"):
        view([scene(), scene(0, (90, 100)), scene()])
