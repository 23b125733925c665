"""Sources of real rain: static cameras, their rain on dry footage, and plates."""

import cv2
import numpy as np
import pytest

from tests.training.rainy_clips import scene, with_rain, write_frames
from vderain.clips import Window
from vderain.errors import OptionError, SourceError
from vderain.training.data.cache import ImageCache
from vderain.training.data.patches import PatchSampler
from vderain.training.data.sources import Sample, load_sources

SIZE = (180, 200)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    root = tmp_path_factory.mktemp("data")
    write_frames(root / "static", with_rain([scene(0, SIZE)] * 30, streaks=40))
    black = [np.zeros((*SIZE, 3), np.uint8)] * 26
    write_frames(root / "plates", with_rain(black, streaks=40))
    write_frames(root / "short", [scene(0, SIZE)] * 8)
    return root


def drawn(folder, reader, path, count=6, frames=5, dry=True):
    table = {"reader": reader, "path": path, "share": 1.0}
    sources = dict(load_sources({"rain": table}, folder, ImageCache(), reach=frames - 1))
    if dry:
        sources["dry"] = [Sample(None, scene(5, (300, 300)))]
    shares = {"rain": 1.0, "dry": 1e-9}
    sampler = PatchSampler(
        sources, shares, patch=64, batch=count, dry_share=0.0, seed=1, window=Window.of(frames)
    )
    return sampler.batch(0)


def test_static_rain_gives_frames_with_neighbours_and_their_dry_target(folder):
    rainy, target, weight = drawn(folder, "static_rain", "static", dry=False)
    assert rainy.shape == (6, 7, 64, 64) and target.shape == (6, 3, 64, 64)
    assert weight.shape == (6, 1, 64, 64) and weight.mean() > 0.8 and weight.max() == 1
    change = (rainy[:, :3] - target) * weight
    assert change.min() > -0.02 and (change > 0.1).any((1, 2, 3)).all()  # rain adds light
    neighbours_differ = (np.abs(rainy[:, 3:]) > 0.05).any((1, 2, 3))
    assert 3 <= neighbours_differ.sum() <= 6  # few see themselves alone


@pytest.mark.parametrize(("reader", "path"), [("mined_clips", "static"), ("plates", "plates")])
def test_rain_of_clips_falls_on_dry_footage_and_its_neighbours(folder, reader, path):
    rainy, target, weight = drawn(folder, reader, path)
    assert (weight == 1).all()
    wet = rainy[:, :3].mean(1) - target.mean(1) > 0.06
    share = wet.mean((1, 2))
    assert (share > 0.002).sum() >= 5 and share.max() < 0.5
    assert (np.abs(rainy[:, 3:]) > 0.05).any((1, 2, 3)).sum() >= 3


@pytest.mark.parametrize("reader", ["static_rain", "mined_clips"])
def test_a_network_of_one_frame_gets_single_images(folder, reader):
    rainy, target, _ = drawn(folder, reader, "static", frames=1)
    assert rainy.shape == target.shape == (6, 3, 64, 64)


def test_the_same_number_draws_the_same_batch(folder):
    for first, second in zip(
        *(drawn(folder, "mined_clips", "static") for _ in range(2)), strict=True
    ):
        np.testing.assert_array_equal(first, second)


def test_what_cannot_be_used_is_named(folder):
    with pytest.raises(OptionError, match="clean images or clips too"):
        drawn(folder, "plates", "plates", dry=False)
    with pytest.raises(SourceError, match="8 frames"):
        drawn(folder, "static_rain", "short")
    table = {"reader": "plates", "path": "plates", "share": 1.0}
    with pytest.raises(OptionError, match=r"is for \[sources\]"):
        load_sources({"x": table}, folder, ImageCache(), "real")


def test_video_is_scaled_and_gives_its_first_and_last_seconds(tmp_path):
    path = tmp_path / "rain.avi"
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter_fourcc(*"MJPG"), 25, (64, 48))
    for number in range(245):
        writer.write(np.full((48, 64, 3), number, np.uint8))
    writer.release()
    table = {"reader": "static_rain", "path": str(path), "share": 1.0}
    first, last = load_sources({"x": table}, tmp_path, ImageCache())["x"]
    assert first.segment.frames.shape == last.segment.frames.shape == (120, 48, 64, 3)
    means = [part.segment.frames[k].mean() for part in (first, last) for k in (0, -1)]
    assert means == pytest.approx([0, 119, 125, 244], abs=2)
