from fractions import Fraction

import cv2
import numpy as np
import pytest
from click.testing import CliRunner

from tests.media.synth import (
    LOSSLESS,
    STEP,
    decoded_frames,
    payloads,
    process,
    samples,
    times,
    write,
)
from vderain.cli.compare import compare
from vderain.errors import OptionError, SinkError, SourceError
from vderain.frames import Frame, PlaneFormat
from vderain.media.compare import compose

EVEN = tuple(range(0, 8 * STEP, STEP))


def call(*arguments):
    """Run the command; what it raised is raised again."""
    result = CliRunner().invoke(compare, [str(argument) for argument in arguments])
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result


def clip(path, seed=0, **changes):
    """Write lossless noise, another for every frame; the frames' planes by their time in seconds."""
    settings = {"codec": "ffv1", "pts": EVEN} | changes
    plain = path.with_name("plain_" + path.name)
    write(plain, **settings)
    rng = np.random.default_rng(seed)
    expected = {}

    def noisy(item):
        if not isinstance(item, Frame):
            return item
        planes = tuple(rng.integers(30, 200, plane.shape, plane.dtype) for plane in item.planes)
        expected[item.pts * item.time_base] = planes
        return with_planes(item, planes)

    process(plain, path, change=noisy, codec="ffv1")
    return expected


def with_planes(frame, planes):
    return Frame(
        planes, frame.format, frame.pts, frame.time_base, tags=frame.tags, rotation=frame.rotation
    )


def still(path):
    return cv2.imread(str(path))[..., ::-1]


def frame_of(fmt, value=None, seed=0, **changes):
    rng = np.random.default_rng(seed)
    peak = 200 << (fmt.bit_depth - 8)
    planes = tuple(
        rng.integers(0, peak, shape).astype(fmt.dtype)
        if value is None
        else np.full(shape, value, fmt.dtype)
        for shape in fmt.plane_shapes
    )
    return Frame(planes, fmt, 0, Fraction(1), **changes)


@pytest.mark.parametrize("lacking", ["rainy", "dry"])
@pytest.mark.parametrize("missing", [0, 3])
def test_frames_are_paired_by_time_not_by_number(tmp_path, missing, lacking):
    """One video lacks frame ``missing``: every other one still meets its own."""
    shorter = tuple(pts for index, pts in enumerate(EVEN) if index != missing)
    of = {
        name: clip(tmp_path / f"{name}.mkv", seed, pts=shorter if name == lacking else EVEN)
        for seed, name in enumerate(("rainy", "dry"))
    }
    out = tmp_path / "out.mkv"
    result = call(tmp_path / "rainy.mkv", tmp_path / "dry.mkv", "-o", out, "--codec", "ffv1")
    assert result.exit_code == 0
    assert "1 frames have no partner" in result.stderr
    assert (f"the {lacking} video begins 0.040 s after" in result.stderr) == (missing == 0)
    assert times(out) == sorted(of[lacking])
    for image in decoded_frames(out):
        time = image.pts * image.time_base
        for number in range(3):
            composed = samples(image, number)
            rainy, dry = (of[name][time][number] for name in ("rainy", "dry"))
            np.testing.assert_array_equal(composed[:, : rainy.shape[1]], rainy)
            np.testing.assert_array_equal(composed[:, -dry.shape[1] :], dry)


def test_times_rounded_by_another_container_still_pair(tmp_path):
    rate = {"time_base": Fraction(1, 90_000), "rate": 30}
    pts = tuple(range(0, 8 * 3003, 3003))
    clip(tmp_path / "rainy.mkv", pts=pts, **rate)
    write(tmp_path / "dry.mp4", pts=pts, options=LOSSLESS, **rate)
    out = tmp_path / "out.mkv"
    result = call(tmp_path / "rainy.mkv", tmp_path / "dry.mp4", "-o", out)
    assert len(decoded_frames(out)) == 8
    assert "partner" not in result.stderr


def test_sound_is_that_of_the_rainy_video(tmp_path):
    write(tmp_path / "rainy.mp4", languages=("eng",))
    write(tmp_path / "dry.mp4", languages=("deu", "fra"))
    out = tmp_path / "out.mp4"
    assert call(tmp_path / "rainy.mp4", tmp_path / "dry.mp4", "-o", out).exit_code == 0
    assert payloads(out, 1) == payloads(tmp_path / "rainy.mp4", 1)
    assert samples(decoded_frames(out)[0]).shape == (48, 64 + 2 + 64)


def test_split_line_moves_between_rainy_and_dry(tmp_path):
    rainy = clip(tmp_path / "rainy.mkv", pts=(0, 15 * STEP, 110 * STEP))
    dry = clip(tmp_path / "dry.mkv", seed=1, pts=(0, 15 * STEP, 110 * STEP))
    out = tmp_path / "out.mkv"
    call(*(tmp_path / f"{name}.mkv" for name in ("rainy", "dry")), "-o", out, "--mode", "split",
         "--codec", "ffv1")  # fmt: skip
    seams = []
    for image in decoded_frames(out):
        time = image.pts * image.time_base
        luma = samples(image)
        seam = int(np.argmax((luma == 235).all(axis=0)))
        np.testing.assert_array_equal(luma[:, :seam], rainy[time][0][:, :seam])
        np.testing.assert_array_equal(luma[:, seam + 2 :], dry[time][0][:, seam + 2 :])
        seams.append(seam)
    assert seams[0] == 32
    assert seams[1] > 40
    assert seams[2] < 25


@pytest.mark.parametrize("layout", ["yuv420", "yuv422", "yuv440", "yuv444", "gray", "rgb"])
@pytest.mark.parametrize("size", [(1, 1), (5, 3), (64, 48)])
@pytest.mark.parametrize("rotation", [0, 90, 180, 270])
def test_any_format_composes_side_by_side_and_split(layout, size, rotation):
    fmt = PlaneFormat(layout, *size, 10, full_range=layout == "rgb")
    rainy, dry = frame_of(fmt, rotation=rotation), frame_of(fmt, seed=1, rotation=rotation)
    side = compose(rainy, dry, "side")
    width, height = fmt.rotated(rotation // 90).width, fmt.rotated(rotation // 90).height
    upright = [np.rot90(frame.planes[0], rotation // 90) for frame in (rainy, dry, side)]
    np.testing.assert_array_equal(upright[2][:, :width], upright[0])
    np.testing.assert_array_equal(
        upright[2][:, upright[2].shape[1] // 2 + 1 :][:, :width], upright[1]
    )
    assert upright[2].shape[0] == height
    for position in (0.0, 0.5, 1.0):
        assert compose(rainy, dry, "split", position=position).format == fmt


def test_line_is_white_and_colourless():
    fmt = PlaneFormat("yuv420", 8, 8)
    side = compose(frame_of(fmt, 50), frame_of(fmt, 60), "side")
    assert [plane[0].tolist() for plane in side.planes] == [
        [50] * 8 + [235] * 2 + [60] * 8, *[[50] * 4 + [128] + [60] * 4] * 2,
    ]  # fmt: skip


def test_alpha_is_composed_too():
    fmt = PlaneFormat("rgb", 4, 2, full_range=True)
    alpha = [np.full((2, 4), value, np.uint8) for value in (10, 20)]
    side = compose(frame_of(fmt, alpha=alpha[0]), frame_of(fmt, alpha=alpha[1]), "side")
    assert side.alpha[0].tolist() == [10] * 4 + [255] * 2 + [20] * 4
    assert compose(frame_of(fmt, alpha=alpha[0]), frame_of(fmt), "side").alpha is None


@pytest.mark.parametrize("rotation", [None, 90])
def test_a_row_and_column_that_the_encoder_added_are_cropped(tmp_path, rotation):
    write(tmp_path / "a.mkv", codec="ffv1", pts=EVEN, size=(63, 47), rotation=rotation)
    process(tmp_path / "a.mkv", tmp_path / "b.mkv")
    assert decoded_frames(tmp_path / "b.mkv")[0].width == 64
    result = call(tmp_path / "a.mkv", tmp_path / "b.mkv", "-o", tmp_path / "c.mkv")
    assert "the dry images, 64x48, were cropped to 63x47" in result.output
    assert len(decoded_frames(tmp_path / "c.mkv")) == len(EVEN)


def test_different_size_and_format_are_refused(tmp_path):
    write(tmp_path / "a.mp4", pts=EVEN)
    write(tmp_path / "small.mp4", pts=EVEN, size=(32, 48))
    write(tmp_path / "full.mkv", pts=EVEN, codec="ffv1", pix_fmt="yuv444p")
    with pytest.raises(OptionError, match="64x48 and 32x48"):
        call(tmp_path / "a.mp4", tmp_path / "small.mp4", "-o", tmp_path / "out.mp4")
    with pytest.raises(OptionError, match="format"):
        call(tmp_path / "a.mp4", tmp_path / "full.mkv", "-o", tmp_path / "out.mp4")
    assert not (tmp_path / "out.mp4").exists()


def test_videos_without_a_common_time_are_refused(tmp_path):
    write(tmp_path / "a.mp4", pts=EVEN)
    write(tmp_path / "b.mkv", pts=tuple(pts + 20 * STEP for pts in EVEN))
    with pytest.raises(SourceError, match="same time"):
        call(tmp_path / "a.mp4", tmp_path / "b.mkv", "-o", tmp_path / "out.mp4")


@pytest.mark.parametrize("name", ["a.mp4", "b.mp4"])
def test_inputs_are_never_replaced(tmp_path, name):
    for path in ("a.mp4", "b.mp4"):
        write(tmp_path / path, pts=EVEN)
    before = (tmp_path / name).read_bytes()
    with pytest.raises(SinkError, match="replace an input"):
        call(tmp_path / "a.mp4", tmp_path / "b.mp4", "-o", tmp_path / name, "--overwrite")
    assert (tmp_path / name).read_bytes() == before


def test_two_images(tmp_path):
    rainy = np.random.default_rng(0).integers(0, 256, (6, 8, 3), np.uint8)
    cv2.imwrite(str(tmp_path / "rainy.png"), rainy)
    cv2.imwrite(str(tmp_path / "dry.png"), 255 - rainy)
    paths = (tmp_path / "rainy.png", tmp_path / "dry.png")
    assert call(*paths, "-o", tmp_path / "side.png").exit_code == 0
    side = cv2.imread(str(tmp_path / "side.png"))
    np.testing.assert_array_equal(side[:, :8], rainy)
    np.testing.assert_array_equal(side[:, -8:], 255 - rainy)
    call(*paths, "-o", tmp_path / "split.png", "--mode", "split")
    split = cv2.imread(str(tmp_path / "split.png"))
    np.testing.assert_array_equal(split[:, :4], rainy[:, :4])
    np.testing.assert_array_equal(split[:, 6:], 255 - rainy[:, 6:])


@pytest.mark.parametrize(("seconds", "shown"), [(0, 0), (0.119, 2), (0.12, 3), (12, 7), (400, 7)])
def test_still_shows_the_frame_at_or_before_a_time(tmp_path, seconds, shown):
    """Frames 40 ms apart, luma 50 + 10 for each, in a video that does not begin at zero."""
    for name in ("rainy", "dry"):
        plain = tmp_path / f"plain_{name}.mkv"
        write(plain, codec="ffv1", pts=tuple(pts + 5 * STEP for pts in EVEN))
        process(plain, tmp_path / f"{name}.mkv", codec="ffv1", change=brightened)
    out = tmp_path / "still.png"
    call(tmp_path / "rainy.mkv", tmp_path / "dry.mkv", "--still", seconds, out)
    level = round((50 + 10 * shown - 16) * 255 / 219)
    assert still(out).shape == (48, 64 + 2 + 64, 3)
    assert abs(int(still(out)[0, 0, 0]) - level) <= 1
    assert (still(out)[:, 64:66] == 255).all()


def brightened(item):
    number = round(item.time_s * 25) - 5
    planes = [np.full(plane.shape, 128, plane.dtype) for plane in item.planes]
    planes[0][:] = 50 + 10 * number
    return with_planes(item, tuple(planes))


def test_still_far_into_a_video_is_found_by_seeking_or_from_the_start(tmp_path):
    """One frame in thirty seconds: ten seconds before the time asked for there is none."""
    write(tmp_path / "a.mkv", codec="ffv1", pts=(0, STEP, 750 * STEP))
    out = tmp_path / "still.png"
    call(tmp_path / "a.mkv", tmp_path / "a.mkv", "--still", 20, out)
    late = still(out)
    call(tmp_path / "a.mkv", tmp_path / "a.mkv", "--still", 0.05, out, "--overwrite")
    np.testing.assert_array_equal(late, still(out))
    call(tmp_path / "a.mkv", tmp_path / "a.mkv", "--still", 31, out, "--overwrite")
    assert (late != still(out)).any()


@pytest.mark.parametrize("mode", ["side", "split"])
def test_still_is_upright(tmp_path, mode):
    for name in ("a.mp4", "b.mp4"):
        write(tmp_path / name, pts=EVEN, rotation=90)
    out = tmp_path / "still.png"
    call(tmp_path / "a.mp4", tmp_path / "b.mp4", "--still", 0, out, "--mode", mode)
    assert still(out).shape == (64, 48 + 2 + 48 if mode == "side" else 48, 3)


def test_still_needs_png_and_overwrite(tmp_path):
    write(tmp_path / "a.mp4", pts=EVEN)
    both = (tmp_path / "a.mp4", tmp_path / "a.mp4")
    with pytest.raises(OptionError, match=r"\.png"):
        call(*both, "--still", 0, tmp_path / "still.jpg")
    call(*both, "--still", 0, tmp_path / "still.png")
    with pytest.raises(SinkError, match="exists already"):
        call(*both, "--still", 0, tmp_path / "still.png")


@pytest.mark.parametrize("name", ["a.png", "b.png"])
def test_a_still_never_replaces_an_input(tmp_path, name):
    for seed, path in enumerate(("a.png", "b.png")):
        pixels = np.random.default_rng(seed).integers(0, 256, (6, 8, 3), np.uint8)
        cv2.imwrite(str(tmp_path / path), pixels)
    before = (tmp_path / name).read_bytes()
    both = (tmp_path / "a.png", tmp_path / "b.png")
    with pytest.raises(SinkError, match="replace an input"):
        call(*both, "--still", 0, tmp_path / name, "--overwrite")
    assert (tmp_path / name).read_bytes() == before


def test_a_folder_as_output_does_not_replace_an_input_in_it(tmp_path):
    for folder in ("rainy", "dry"):
        (tmp_path / folder).mkdir()
        cv2.imwrite(str(tmp_path / folder / "a.png"), np.zeros((6, 8, 3), np.uint8))
    both = (tmp_path / "rainy" / "a.png", tmp_path / "dry" / "a.png")
    before = both[1].read_bytes()
    with pytest.raises(SinkError, match="replace an input"):
        call(*both, "-o", tmp_path / "dry", "--overwrite")
    assert both[1].read_bytes() == before


@pytest.mark.parametrize("seconds", ["inf", "nan"])
def test_a_still_of_no_time_is_refused(tmp_path, seconds):
    write(tmp_path / "a.mp4", pts=EVEN)
    with pytest.raises(OptionError, match=f"still={seconds}: must be a time in seconds"):
        call(tmp_path / "a.mp4", tmp_path / "a.mp4", "--still", seconds, tmp_path / "still.png")


def test_a_still_far_behind_the_end_is_the_last_frame(tmp_path):
    write(tmp_path / "a.mp4", pts=EVEN)
    both = (tmp_path / "a.mp4", tmp_path / "a.mp4")
    assert call(*both, "--still", "1e300", tmp_path / "still.png").exit_code == 0


@pytest.mark.parametrize("arguments", [(), ("-o", "a.mp4", "--still", "0", "b.png")])
def test_output_or_still_must_be_chosen(arguments):
    result = call("a.mp4", "b.mp4", *arguments)
    assert result.exit_code == 2
    assert "either --output or --still" in result.stderr
