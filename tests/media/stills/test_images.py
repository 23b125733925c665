import base64
import os
import struct
import zlib
from fractions import Fraction
from pathlib import Path

import cv2
import numpy as np
import pytest

from tests.media.synth import pictures, process, times
from tests.media.synth import write as write_video
from vderain.errors import OptionError, SinkError, SourceError
from vderain.frames import Frame, PlaneFormat
from vderain.media import open_sink, open_source
from vderain.media.stills.image_file import PngChunks
from vderain.media.stills.paths import is_image_path
from vderain.media.stills.sink import ImageSink
from vderain.media.stills.source import ImageSource
from vderain.options import EncodeOptions, RunOptions

# A header that libpng accepts (size, kind, colour space, signature, D50 white), no tags, and some
# filling, since libpng drops profiles that compress to very little.
ICC = struct.pack(
    ">I4xI4s4s4s12x4s28xIII48xI",
    *(388, 0x04400000, b"mntr", b"RGB ", b"XYZ ", b"acsp", 0xF6D6, 0x10000, 0xD32D, 0),
) + bytes(range(256))
CMYK_JPEG = base64.b64decode(
    "/9j/4AAQSkZJRgABAQAAAQABAAD/2wBDAP//////////////////////////////////////////////////"
    "////////////////////////////////////wAAUCAABAAEEQxEATREAWREASxEA/8QAHwAAAQUBAQEBAQEA"
    "AAAAAAAAAAECAwQFBgcICQoL/9oADgRDAE0AWQBLAAA/AA=="
)


def noise(shape, dtype=np.uint8, seed=0):
    return np.random.default_rng(seed).integers(0, np.iinfo(dtype).max, shape, dtype, endpoint=True)


def swapped(pixels):
    """R, G, B as B, G, R and back, with or without alpha."""
    return pixels[..., [2, 1, 0, 3][: pixels.shape[2]]] if pixels.ndim == 3 else pixels


def exif(orientation, order=">"):
    mark = b"MM\x00*" if order == ">" else b"II*\x00"
    return mark + struct.pack(order + "IHHHIHHI", 8, 1, 274, 3, 1, orientation, 0, 0)


def write(path, pixels, **blocks):
    """Write RGB(A) or gray samples with metadata blocks; the extension chooses the format."""
    stored = np.ascontiguousarray(swapped(pixels))
    names = {"exif": cv2.IMAGE_METADATA_EXIF, "icc": cv2.IMAGE_METADATA_ICCP}
    kinds = np.array([names[name] for name in blocks], np.int32)
    payloads = [np.frombuffer(block, np.uint8) for block in blocks.values()]
    parameters = [cv2.IMWRITE_WEBP_QUALITY, 101] if path.suffix == ".webp" else []
    assert cv2.imwriteWithMetadata(str(path), stored, kinds, payloads, parameters)


def tiff(path, pixels, tags):
    """Write 8 bit RGB samples as a little-endian TIFF with extra tags {tag: short or bytes}."""
    height, width = pixels.shape[:2]
    tags = {
        256: width,
        257: height,
        258: 8,
        259: 1,
        262: 2,
        277: pixels.shape[2],
        278: height,
    } | tags
    data = bytearray(b"II*\x00\x00\x00\x00\x00" + pixels.tobytes())
    entries = [struct.pack("<HHII", 273, 4, 1, 8), struct.pack("<HHII", 279, 4, 1, pixels.nbytes)]
    for tag, value in tags.items():
        if isinstance(value, bytes):
            entries.append(struct.pack("<HHII", tag, 7, len(value), len(data)))
            data += value
        else:
            entries.append(struct.pack("<HHIHH", tag, 3, 1, value, 0))
    struct.pack_into("<I", data, 4, len(data))
    path.write_bytes(
        data + struct.pack("<H", len(entries)) + b"".join(sorted(entries, key=_tag)) + bytes(4)
    )


def _tag(entry):
    return struct.unpack_from("<H", entry)


def chunk(kind, payload):
    return (
        struct.pack(">I", len(payload))
        + kind
        + payload
        + struct.pack(">I", zlib.crc32(kind + payload))
    )


def source(path, **run):
    return ImageSource(str(path), run=RunOptions(**run))


def copy(inputs, output, **options):
    """Send every image of ``inputs`` to ``output``; the report and the source."""
    frames = source(inputs)
    sink = ImageSink(str(output), frames, EncodeOptions(**options))
    for frame in frames:
        sink.write(frame)
    return sink.finish(), frames


def only_frame(path):
    (frame,) = source(path)
    return frame


def rgb(frame):
    return np.dstack(frame.planes)


def files(folder):
    return sorted(entry.name for entry in folder.iterdir())


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


def test_a_png_keeps_its_name_beside_a_jpeg_of_the_same(tmp_path):
    (tmp_path / "in").mkdir()
    for name in ("a.jpg", "a.png"):
        write(tmp_path / "in" / name, noise((4, 4, 3)))
    report, _ = copy(tmp_path / "in", tmp_path / "out")
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["a.jpg.png", "a.png"]
    assert (rgb(only_frame(tmp_path / "out" / "a.png")) == rgb(
        only_frame(tmp_path / "in" / "a.png"))).all()  # fmt: skip
    assert report.notes == ["a.jpg became a.jpg.png, because a.png became a.png"]


def test_names_that_become_equal_as_png_are_told_apart(tmp_path):
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
def test_a_image_goes_to_png_only(tmp_path, name):
    write(tmp_path / "in.png", noise((2, 2)))
    with pytest.raises(OptionError, match="PNG"):
        ImageSink(str(tmp_path / name), source(tmp_path / "in.png"), EncodeOptions())


def test_a_image_into_an_existing_folder_keeps_its_name(tmp_path):
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
    shown = pictures(tmp_path / "out.mkv")[1].to_ndarray(format="rgb24")
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
