import os
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest

from tests.media.stills.files import copy, files, noise, only_frame, rgb, source, write
from tests.media.synth import decoded_frames, process, times
from tests.media.synth import write as write_video
from vderain.errors import OptionError, SinkError
from vderain.frames import Frame, PlaneFormat
from vderain.media import open_sink, open_source
from vderain.media.stills.image_file import PngChunks
from vderain.media.stills.paths import is_image_path
from vderain.media.stills.sink import ImageSink
from vderain.options import EncodeOptions, RunOptions


def test_a_png_keeps_its_name_next_to_a_jpeg_of_the_same(tmp_path):
    (tmp_path / "in").mkdir()
    for name in ("a.jpg", "a.png"):
        write(tmp_path / "in" / name, noise((4, 4, 3)))
    report, _ = copy(tmp_path / "in", tmp_path / "out")
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["a.jpg.png", "a.png"]
    assert (rgb(only_frame(tmp_path / "out" / "a.png")) == rgb(
        only_frame(tmp_path / "in" / "a.png"))).all()  # fmt: skip
    assert report.notes == ["a.jpg became a.jpg.png, because a.png became a.png"]


def test_names_that_become_equal_as_png_get_different_outputs(tmp_path):
    folder = tmp_path / "in"
    folder.mkdir()
    for name in ("a.bmp", "A.png", "a.png", "a.png.png"):
        write(folder / name, noise((2, 2, 3), seed=len(name)))
    report, _ = copy(folder, tmp_path / "out")
    written = files(tmp_path / "out")
    assert len({name.lower() for name in written}) == 4
    assert len(report.notes) == 3
    assert "a.bmp" in report.notes[0]


@pytest.mark.parametrize("name", ["a.jpg", "a.tiff", "a.mp4", "a"])
def test_an_image_goes_to_png_only(tmp_path, name):
    write(tmp_path / "in.png", noise((2, 2)))
    with pytest.raises(OptionError, match="PNG"):
        ImageSink(str(tmp_path / name), source(tmp_path / "in.png"), EncodeOptions())


def test_an_image_into_an_existing_folder_keeps_its_name(tmp_path):
    write(tmp_path / "in.jpg", noise((8, 8, 3)))
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "other.png").write_bytes(b"kept")
    report, _ = copy(tmp_path / "in.jpg", tmp_path / "out")
    assert files(tmp_path / "out") == ["in.png", "other.png"]
    assert report.path == str(tmp_path / "out" / "in.png")


def test_folder_into_a_file_is_refused(tmp_path):
    (tmp_path / "in").mkdir()
    write(tmp_path / "in" / "a.png", noise((2, 2)))
    with pytest.raises(OptionError, match="needs a folder"):
        ImageSink(str(tmp_path / "b.png"), source(tmp_path / "in"), EncodeOptions())


def test_existing_output_needs_overwrite(tmp_path):
    write(tmp_path / "a.png", noise((2, 2)))
    (tmp_path / "b.png").write_bytes(b"old")
    with pytest.raises(SinkError, match="exists already"):
        copy(tmp_path / "a.png", tmp_path / "b.png")
    assert (tmp_path / "b.png").read_bytes() == b"old"
    copy(tmp_path / "a.png", tmp_path / "b.png", overwrite=True)
    assert only_frame(tmp_path / "b.png").planes[0].shape == (2, 2)


def test_existing_folder_needs_overwrite_and_keeps_its_other_files(tmp_path):
    for folder in ("in", "out"):
        (tmp_path / folder).mkdir()
    write(tmp_path / "in" / "a.png", noise((2, 2)))
    copy(tmp_path / "in", tmp_path / "out")  # an empty folder may be filled
    (tmp_path / "out" / "other.txt").write_text("kept")
    with pytest.raises(SinkError, match="not empty"):
        copy(tmp_path / "in", tmp_path / "out")
    copy(tmp_path / "in", tmp_path / "out", overwrite=True)
    assert files(tmp_path / "out") == ["a.png", "other.txt"]


@pytest.mark.parametrize("names", [("", ""), ("a.png", "a.png"), ("a.png", "")])
def test_input_is_never_replaced(tmp_path, names):
    write(tmp_path / "a.png", noise((2, 2)))
    inputs, output = (tmp_path / name for name in names)
    with pytest.raises(SinkError, match="is the input itself"):
        copy(inputs, output, overwrite=True)


def test_missing_parent_is_named(tmp_path):
    write(tmp_path / "a.png", noise((2, 2)))
    with pytest.raises(SinkError, match="missing does not exist"):
        copy(tmp_path / "a.png", tmp_path / "missing" / "b.png")


def test_folder_without_permission_is_named(tmp_path, monkeypatch):
    write(tmp_path / "a.png", noise((2, 2)))
    monkeypatch.setattr(os, "access", lambda place, mode: False)  # root may write everywhere
    for inputs, output in (("a.png", "b.png"), ("", "out")):
        with pytest.raises(SinkError, match="no permission"):
            copy(tmp_path / inputs, tmp_path / output)


def test_nothing_appears_before_finish_and_nothing_stays_after_abort(tmp_path):
    for folder in ("in", "out"):
        (tmp_path / folder).mkdir()
    for name in ("a.png", "b.png"):
        write(tmp_path / "in" / name, noise((2, 2)))
    (tmp_path / "out" / "a.png").write_bytes(b"old")
    for target in ("out", "new"):
        sink = ImageSink(
            str(tmp_path / target), source(tmp_path / "in"), EncodeOptions(overwrite=True)
        )
        for frame in source(tmp_path / "in"):
            sink.write(frame)
        assert not (tmp_path / "new").exists()
        sink.abort()
        sink.abort()
    assert files(tmp_path) == ["in", "out"]
    assert files(tmp_path / "out") == ["a.png"]
    assert (tmp_path / "out" / "a.png").read_bytes() == b"old"


def test_abort_of_a_single_image_leaves_nothing(tmp_path):
    write(tmp_path / "a.png", noise((2, 2)))
    frames = source(tmp_path / "a.png")
    sink = ImageSink(str(tmp_path / "b.png"), frames, EncodeOptions())
    for frame in frames:
        sink.write(frame)
    assert not (tmp_path / "b.png").exists()
    sink.abort()
    assert files(tmp_path) == ["a.png"]


def test_full_disk_is_a_sink_error(tmp_path, monkeypatch):
    def fail(self, data):
        raise OSError(28, "No space left on device")

    write(tmp_path / "a.png", noise((2, 2)))
    monkeypatch.setattr(Path, "write_bytes", fail)
    with pytest.raises(SinkError, match="No space left on device"):
        copy(tmp_path / "a.png", tmp_path / "b.png")


def test_yuv_frames_and_empty_runs_are_refused(tmp_path):
    write(tmp_path / "a.png", noise((2, 2)))
    sink = ImageSink(str(tmp_path / "b.png"), source(tmp_path / "a.png"), EncodeOptions())
    planes = tuple(np.zeros((2, 2), np.uint8) for _ in range(3))
    with pytest.raises(OptionError, match="yuv444"):
        sink.write(Frame(planes, PlaneFormat("yuv444", 2, 2), 0, Fraction(1)))
    with pytest.raises(SinkError, match="nothing was written"):
        sink.finish()


def test_frames_without_a_name_are_numbered(tmp_path):
    (tmp_path / "in").mkdir()
    write(tmp_path / "in" / "a.png", noise((2, 2)))
    sink = ImageSink(str(tmp_path / "out"), source(tmp_path / "in"), EncodeOptions())
    fmt = PlaneFormat("gray", 2, 2, full_range=True)
    for pts in range(2):
        sink.write(Frame((noise((2, 2)),), fmt, pts, Fraction(1), metadata=PngChunks()))
    sink.finish()
    assert files(tmp_path / "out") == ["000001.png", "000002.png"]


def test_image_paths_are_known_by_extension(tmp_path):
    (tmp_path / "recording").write_bytes(b"a video without extension")
    for path in ("a.png", "b.JPEG", "c.tif", "frames/", "frames.new/", "frames", str(tmp_path)):
        assert is_image_path(path)
    for path in ("a.mp4", "rtsp://camera/still.png", "-", str(tmp_path / "recording")):
        assert not is_image_path(path)


def test_video_into_a_folder_is_refused_before_the_first_frame(tmp_path):
    frames = open_source(write_video(tmp_path / "a.mp4"), run=RunOptions(), encode=EncodeOptions())
    with pytest.raises(OptionError, match=r"are yuv420p; a video needs .* ends in \.mp4"):
        open_sink(str(tmp_path / "out"), frames, EncodeOptions())
    frames.close()


def test_folder_of_images_becomes_a_video_and_a_folder(tmp_path):
    (tmp_path / "in").mkdir()
    for index in range(3):
        write(tmp_path / "in" / f"{index}.png", noise((16, 32, 3), seed=index))
    process(tmp_path / "in", tmp_path / "out")
    assert files(tmp_path / "out") == ["0.png", "1.png", "2.png"]
    process(tmp_path / "in", tmp_path / "out.mkv", codec="ffv1")
    assert times(tmp_path / "out.mkv") == [0, Fraction(1, 25), Fraction(2, 25)]
    shown = decoded_frames(tmp_path / "out.mkv")[1].to_ndarray(format="rgb24")
    np.testing.assert_array_equal(shown, noise((16, 32, 3), seed=1))


def test_a_video_that_becomes_images_names_every_track_it_drops(tmp_path):
    clip = write_video(
        tmp_path / "a.mkv",
        codec="ffv1",
        pix_fmt="gray",
        languages=("eng", "deu"),
        subtitle="subrip",
    )
    _, report = process(clip, tmp_path / "out")
    assert len(files(tmp_path / "out")) == report.frames == 10
    assert [loss.split(" (")[0] for loss in report.losses[:2]] == ["#1 audio aac", "#2 audio aac"]
    assert report.losses[2] == "#3 subtitle subrip (eng): dropped, images cannot hold it"
    assert len(report.losses) == 3
