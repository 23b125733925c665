import os
import struct
import zlib
from fractions import Fraction

import cv2
import numpy as np
import pytest

from tests.media.stills.files import (
    CMYK_JPEG,
    ICC,
    chunk,
    copy,
    exif,
    files,
    noise,
    only_frame,
    rgb,
    source,
    swapped,
    tiff,
    write,
)
from vderain.errors import SourceError
from vderain.frames import Frame, PlaneFormat
from vderain.media.stills.sink import ImageSink
from vderain.options import EncodeOptions


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
@pytest.mark.parametrize("shape", [(5, 7), (5, 7, 3), (5, 7, 4), (1, 1, 3), (1, 1)])
def test_png_round_trip_is_exact(tmp_path, shape, dtype):
    pixels = noise(shape, dtype)
    write(tmp_path / "a.png", pixels)
    copy(tmp_path / "a.png", tmp_path / "b.png")
    read = cv2.imread(str(tmp_path / "b.png"), cv2.IMREAD_UNCHANGED)
    assert read.dtype == dtype
    np.testing.assert_array_equal(swapped(read), pixels)


def test_frame_carries_planes_in_rgb_order_with_alpha_and_name(tmp_path):
    pixels = noise((4, 6, 4), np.uint16)
    write(tmp_path / "a.png", pixels)
    frame = only_frame(tmp_path / "a.png")
    assert frame.format == PlaneFormat("rgb", 6, 4, 16, full_range=True)
    np.testing.assert_array_equal(rgb(frame), pixels[..., :3])
    np.testing.assert_array_equal(frame.alpha, pixels[..., 3])
    assert (frame.name, frame.pts, frame.discontinuity) == ("a.png", 0, True)


@pytest.mark.parametrize("name", ["a.bmp", "a.webp", "a.tiff", "a.TIF"])
def test_lossless_formats_are_read_exactly(tmp_path, name):
    pixels = noise((9, 8, 3))
    write(tmp_path / name, pixels)
    np.testing.assert_array_equal(rgb(only_frame(tmp_path / name)), pixels)


def test_gray_with_alpha_is_written_as_rgb_with_alpha(tmp_path):
    write(tmp_path / "a.png", noise((3, 3)))
    gray = only_frame(tmp_path / "a.png").planes
    sink = ImageSink(str(tmp_path / "b.png"), source(tmp_path / "a.png"), EncodeOptions())
    fmt = PlaneFormat("gray", 3, 3, full_range=True)
    sink.write(Frame(gray, fmt, 0, Fraction(1), alpha=gray[0] // 2))
    sink.finish()
    frame = only_frame(tmp_path / "b.png")
    np.testing.assert_array_equal(rgb(frame), np.dstack(gray * 3))
    np.testing.assert_array_equal(frame.alpha, gray[0] // 2)


@pytest.mark.parametrize("suffix", [".jpg", ".webp", ".png"])
def test_exif_and_icc_reach_the_png(tmp_path, suffix):
    inputs, output = tmp_path / f"a{suffix}", tmp_path / "b.png"
    write(inputs, noise((6, 4, 3)), exif=exif(6), icc=ICC)
    frame = only_frame(inputs)
    assert (frame.rotation, frame.planes[0].shape) == (270, (6, 4))
    copy(inputs, output)
    _, kinds, blocks = cv2.imreadWithMetadata(str(output), flags=cv2.IMREAD_UNCHANGED)
    found = {int(kind): block.tobytes() for kind, block in zip(kinds, blocks, strict=True)}
    assert found == {cv2.IMAGE_METADATA_EXIF: exif(6), cv2.IMAGE_METADATA_ICCP: ICC}
    assert only_frame(output).rotation == 270


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_rotation_turns_the_stored_image_upright(tmp_path, orientation, order):
    """The oracle is OpenCV's own turning; a mirror, which it applies as well, is undone."""
    pixels = noise((3, 5))
    path = tmp_path / "a.png"
    write(path, pixels, exif=exif(orientation, order))
    frame = only_frame(path)
    upright = cv2.imread(str(path), cv2.IMREAD_GRAYSCALE)
    if orientation in (2, 4, 5, 7):
        upright = upright[:, ::-1]
    np.testing.assert_array_equal(np.rot90(frame.planes[0], frame.rotation // 90), upright)


@pytest.mark.parametrize("orientation", [1, 3, 6, 8])
def test_tiff_keeps_orientation_icc_and_xmp(tmp_path, orientation):
    pixels = noise((3, 5, 3))
    tiff(tmp_path / "a.tif", pixels, {274: orientation, 34675: ICC, 700: b"<x:xmpmeta/>"})
    copy(tmp_path / "a.tif", tmp_path / "b.png")
    np.testing.assert_array_equal(rgb(only_frame(tmp_path / "b.png")), pixels)
    assert only_frame(tmp_path / "b.png").rotation == {1: 0, 3: 180, 6: 270, 8: 90}[orientation]
    data = (tmp_path / "b.png").read_bytes()
    assert chunk(b"iCCP", b"ICC profile\x00\x00" + zlib.compress(ICC)) in data
    assert b"XML:com.adobe.xmp" in data
    assert b"<x:xmpmeta/>" in data


def test_png_chunks_that_opencv_drops_are_kept(tmp_path):
    write(tmp_path / "plain.png", noise((4, 4, 3)))
    data = (tmp_path / "plain.png").read_bytes()
    extra = chunk(b"gAMA", struct.pack(">I", 45455)) + chunk(b"tEXt", b"Author\x00somebody")
    (tmp_path / "a.png").write_bytes(data[:33] + extra + data[33:])
    copy(tmp_path / "a.png", tmp_path / "b.png")
    assert extra in (tmp_path / "b.png").read_bytes()


def test_rotation_of_a_frame_without_metadata_is_written_as_exif(tmp_path):
    write(tmp_path / "a.png", noise((4, 4)))
    sink = ImageSink(str(tmp_path / "b.png"), source(tmp_path / "a.png"), EncodeOptions())
    fmt = PlaneFormat("gray", 4, 2, full_range=True)
    sink.write(Frame((noise((2, 4)),), fmt, 0, Fraction(1), rotation=90))
    sink.finish()
    assert only_frame(tmp_path / "b.png").rotation == 90


def test_folder_in_natural_order_with_mixed_sizes(tmp_path):
    folder = tmp_path / "in"
    folder.mkdir()
    for name, shape in {"f10.png": (2, 3), "f2.jpg": (4, 4, 3), "f1.bmp": (5, 2, 3)}.items():
        write(folder / name, noise(shape))
    report, frames = copy(folder, tmp_path / "out")
    assert files(tmp_path / "out") == ["f1.png", "f10.png", "f2.png"]
    assert (report.frames, frames.stats.frames, frames.info.frames) == (3, 3, 3)
    read = list(source(folder))
    assert [frame.name for frame in read] == ["f1.bmp", "f2.jpg", "f10.png"]
    assert [frame.pts for frame in read] == [0, 1, 2]
    assert files(tmp_path) == ["in", "out"]


def test_start_and_duration_choose_images(tmp_path):
    for index in range(6):
        write(tmp_path / f"{index}.png", noise((2, 2)))
    chosen = source(tmp_path, start_s=0.08, duration_s=0.08)
    assert [(frame.pts, frame.name) for frame in chosen] == [(0, "2.png"), (1, "3.png")]
    assert chosen.info.frames == 6 and chosen.info.duration_s == pytest.approx(0.24)
    with pytest.raises(SourceError, match="none of its 6 images"):
        source(tmp_path, start_s=1.0)


def test_images_that_cannot_be_read_are_skipped_counted_and_named(tmp_path):
    folder = tmp_path / "in"
    (folder / "subfolder").mkdir(parents=True)
    write(folder / "b.png", noise((20, 20, 3)))
    (folder / "a_cut.png").write_bytes((folder / "b.png").read_bytes()[:-200])
    (folder / "c_cmyk.jpg").write_bytes(CMYK_JPEG)
    tiff(folder / "d_cmyk.tif", noise((3, 3, 4)), {262: 5})
    (folder / "e.heic").write_bytes(b"x")
    (folder / "f.png").write_bytes(b"")
    cv2.imwrite(str(folder / "g_float.tiff"), np.zeros((2, 2), np.float32))
    (folder / "readme.txt").write_text("no image")
    report, frames = copy(folder, tmp_path / "out")
    assert files(tmp_path / "out") == ["b.png"]
    assert report.frames == 1
    assert frames.stats.decode_failures == 6
    named = "\n".join(frames.stats.losses)
    for name in ("a_cut.png", "c_cmyk.jpg", "d_cmyk.tif", "e.heic", "f.png", "g_float.tiff"):
        assert name in named
    assert named.count("CMYK") == 2
    assert "readme.txt" in frames.stats.notes[0]
    assert "subfolder" in frames.stats.notes[0]


def test_only_files_that_can_hold_several_images_are_read_again_to_count(tmp_path, monkeypatch):
    counted = []

    def count(name, flags):
        assert cv2.utils.logging.getLogLevel() == cv2.utils.logging.LOG_LEVEL_SILENT
        counted.append(os.path.basename(name).decode())
        return 1

    monkeypatch.setattr(cv2, "imcount", count)
    for extension in ("bmp", "jpg", "png", "tiff", "webp"):
        cv2.imwrite(str(tmp_path / f"a.{extension}"), noise((8, 8, 3)))
    assert len(list(source(tmp_path))) == 5
    assert counted == ["a.tiff"]


@pytest.mark.parametrize("extension", ["png", "webp"])
def test_further_images_of_an_animation_are_named(tmp_path, extension):
    animation = cv2.Animation()
    animation.frames = [noise((8, 8, 4), seed=seed) for seed in range(3)]
    animation.durations = [40] * 3
    assert cv2.imwriteanimation(str(tmp_path / f"a.{extension}"), animation)
    frames = source(tmp_path)
    assert len(list(frames)) == 1
    assert "only the first of 3 images" in frames.stats.losses[0]


def test_a_file_of_several_images_may_have_any_name(tmp_path):
    name = os.fsdecode(b"\xff.tiff")
    cv2.imwritemulti(str(tmp_path / "pages.tiff"), [noise((3, 3)), noise((3, 3))])
    (tmp_path / "pages.tiff").rename(tmp_path / name)
    frames = source(tmp_path)
    assert len(list(frames)) == 1
    assert "only the first of 2 images" in frames.stats.losses[0]


def test_further_pages_and_exif_of_tiff_are_named_as_losses(tmp_path):
    cv2.imwritemulti(str(tmp_path / "pages.tiff"), [noise((3, 3)), noise((3, 3))])
    tiff(tmp_path / "tags.tif", noise((3, 3, 3)), {34665: 0})
    frames = source(tmp_path)
    assert len(list(frames)) == 2
    assert "first of 2 images" in frames.stats.losses[0]
    assert "EXIF" in frames.stats.losses[1]


@pytest.mark.parametrize("content", [b"", b"garbage", CMYK_JPEG])
def test_unreadable_single_image_is_a_source_error(tmp_path, content):
    (tmp_path / "a.jpg").write_bytes(content)
    with pytest.raises(SourceError, match=r"a\.jpg"):
        source(tmp_path / "a.jpg")
    with pytest.raises(SourceError, match="no image in it can be read"):
        source(tmp_path)


def test_missing_image_and_empty_folder_are_source_errors(tmp_path):
    with pytest.raises(SourceError, match="No such file"):
        source(tmp_path / "a.png")
    (tmp_path / "notes.txt").write_text("")
    with pytest.raises(SourceError, match="no image in it"):
        source(tmp_path)
