"""The shipped weights on the shipped sample: floors that a broken build would miss, not a claim of quality."""

import runpy
import sys
from pathlib import Path

import av
import cv2
import numpy as np
import pytest

import vderain
from tests.command import vderain as run_command
from vderain.cli import cli
from vderain.metrics import psnr

SAMPLES = Path(__file__).parents[2] / "samples"


def frames(path, every):
    with av.open(str(path)) as container:
        images = [frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)]
    return images[::every]


@pytest.fixture(scope="module")
def derained(tmp_path_factory):
    path = tmp_path_factory.mktemp("sample") / "dry.mp4"
    beginning = vderain.RunOptions(duration_s=1.64)
    report = vderain.derain_file(SAMPLES / "rainy_road.mp4", path, run=beginning)
    assert (report.frames_in, report.frames_out, report.losses) == (41, 41, [])
    return path


def test_it_rains_less(derained):
    triples = zip(
        frames(SAMPLES / "rainy_road.mp4", 20)[:3],
        frames(derained, 20),
        frames(SAMPLES / "dry_road.mp4", 20)[:3],
        strict=True,
    )
    gains = [psnr(after, truth) - psnr(before, truth) for before, after, truth in triples]
    assert min(gains) > 4.0


def test_dry_footage_stays_as_it_was():
    with vderain.Derainer() as derainer:
        moved = [psnr(derainer(p), p) for p in frames(SAMPLES / "dry_road.mp4", 25)]
    assert min(moved) > 42.0


@pytest.mark.slow
@pytest.mark.parametrize("colour", ["0000ff", "000080", "ff00ff", "00ff00", "ff0000", "ffffff"])
def test_flat_and_saturated_colours_are_no_rain(colour):
    """As on screens, signs and overlays; weights trained on photographs alone turned blue into white."""
    flat = np.full((120, 160, 3), tuple(bytes.fromhex(colour)), np.uint8)
    with vderain.Derainer() as derainer:
        assert np.abs(derainer(flat).astype(int) - flat).max() <= 24


def test_colours_do_not_drift(derained):
    after = np.mean(frames(derained, 20), (0, 1, 2))
    truth = np.mean(frames(SAMPLES / "dry_road.mp4", 20)[:3], (0, 1, 2))
    assert np.abs((after - after.mean()) - (truth - truth.mean())).max() < 2.0


@pytest.mark.slow
def test_the_sample_scripts_run(tmp_path, monkeypatch, capsys):
    image = frames(SAMPLES / "rainy_road.mp4", 100)[0]
    cv2.imwrite(str(tmp_path / "rainy.png"), image[..., ::-1])
    monkeypatch.setattr(sys, "argv", ["", str(tmp_path / "rainy.png"), str(tmp_path / "dry.png")])
    runpy.run_path(str(SAMPLES / "derain_frames.py"), run_name="__main__")
    assert cv2.imread(str(tmp_path / "dry.png")).shape == image.shape
    runpy.run_path(str(SAMPLES / "derain_file.py"), run_name="__main__")
    assert "fps" in capsys.readouterr().out


def test_a_new_user_sees_help_for_every_command():
    for command in cli.list_commands(None):
        done = run_command(command, "--help")
        assert done.returncode == 0
        assert "Usage" in done.stdout
