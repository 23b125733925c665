import json
from fractions import Fraction

import cv2
import numpy as np
import pytest
from click.testing import CliRunner

from tests.fakes import OffsetEngine
from tests.media.synth import write
from vderain.cli.info import info
from vderain.engines import open_engine
from vderain.errors import SourceError


@pytest.fixture(autouse=True)
def _quick_engine(monkeypatch):
    """What is said of a file needs no network, but for the estimate."""
    monkeypatch.setattr("vderain.cli.info.open_engine", lambda options: OffsetEngine(0))


def text(path):
    result = CliRunner().invoke(info, [str(path)], catch_exceptions=False)
    assert result.exit_code == 0
    lines = (line.partition(": ") for line in result.stdout.splitlines())
    return {name: value for name, _, value in lines}


def values(path):
    return json.loads(CliRunner().invoke(info, [str(path), "--json"]).stdout)


def test_video_is_described(tmp_path):
    rate = {"rate": Fraction(30000, 1001), "pts": tuple(range(0, 10 * 3003, 3003))}
    shown = text(write(tmp_path / "a.mp4", **rate))
    assert shown["video"] == "h264, 64x48, yuv420p"
    assert shown["frame rate"] == "29.970 fps (30000/1001)"
    assert shown["length"] == "0.334 s, 10 frames"
    assert shown["rotation"] == "none"
    assert "refused" not in shown


@pytest.mark.parametrize(
    ("attributes", "tags", "view"),
    [
        ({}, "range untagged, matrix untagged", "bt601 limited"),
        ({"colorspace": 1, "color_range": 2}, "range full, matrix bt709", "bt709 full"),
        ({"colorspace": 9, "color_primaries": 9}, "matrix bt2020nc, primaries bt2020", "bt2020"),
    ],
)
def test_colour_shows_tags_and_what_the_network_would_use(tmp_path, attributes, tags, view):
    shown = text(write(tmp_path / "a.mp4", attributes=attributes))
    assert tags in shown["colour tags"]
    assert view in shown["network sees"]


def test_the_time_to_derain_is_estimated_from_the_network(tmp_path, monkeypatch):
    monkeypatch.setattr("vderain.cli.info.open_engine", open_engine)
    path = write(tmp_path / "a.mp4")
    estimate = values(path)["estimate"]
    assert "openvino" in estimate["engine"]
    assert estimate["network_s"] == pytest.approx(10 / estimate["network_frames_per_s"], abs=0.1)
    assert "frames per second" in text(path)["time to derain"]


def test_rotation_is_shown(tmp_path):
    shown = text(write(tmp_path / "a.mp4", rotation=90))
    assert shown["rotation"] == "90 degrees counter-clockwise"
    assert shown["network sees"].startswith("48x64 ")


def test_tracks_are_judged_for_an_output_of_the_same_container(tmp_path):
    path = write(tmp_path / "a.mkv", languages=("eng", "deu"), subtitle="ass", attachment=True)
    fates = {fate["track"]: fate["copied"] for fate in values(path)["tracks"]}
    assert len(fates) == 4
    assert all(fates.values())
    shown = text(path)
    assert [value for name, value in shown.items() if "deu" in name] == ["copied (matroska)"]


def test_a_track_that_cannot_be_copied_is_named(tmp_path):
    """A container that is never written is judged as Matroska, which takes no data tracks."""
    path = write(tmp_path / "a.ts", data=True)
    other = tmp_path / "a.dat"
    other.write_bytes((tmp_path / "a.ts").read_bytes())
    assert [fate["copied"] for fate in values(path)["tracks"]] == [True]
    assert [fate["copied"] for fate in values(other)["tracks"]] == [False]
    assert sorted(entry.name for entry in tmp_path.iterdir()) == ["a.dat", "a.ts"]


def test_what_run_would_refuse_is_described_with_the_reason(tmp_path):
    path = write(
        tmp_path / "hdr.mkv", codec="libx265", pix_fmt="yuv420p10le", attributes={"color_trc": 16}
    )
    shown = text(path)
    assert "--hdr keep" in shown["refused"]
    assert "smpte2084" in shown["colour tags"]
    assert "10 bit" in shown["network sees"]


def test_images_are_described(tmp_path):
    cv2.imwrite(str(tmp_path / "a.png"), np.zeros((4, 6, 3), np.uint16))
    for path in (tmp_path, tmp_path / "a.png"):
        shown = text(path)
        assert shown["video"].startswith("png, 6x4")
        assert "rgb 16 bit" in shown["network sees"]


def test_missing_file_is_a_source_error(tmp_path):
    with pytest.raises(SourceError):
        text(tmp_path / "missing.mp4")


def test_json_holds_what_the_text_shows(tmp_path):
    found = values(write(tmp_path / "a.mp4", languages=("eng",)))
    assert found["info"]["width"] == 64
    assert found["info"]["frame_rate"] == "25"
    assert [track["kind"] for track in found["info"]["tracks"]] == ["video", "audio"]
