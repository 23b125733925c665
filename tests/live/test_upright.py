"""Images that are stored turned, mirrored, or with pixels that are not square."""

import itertools
from fractions import Fraction
from types import SimpleNamespace

import av
import cv2
import numpy as np
import pytest

from tests.fakes import gray_frame
from tests.live.fakes import until
from tests.media.synth import STEP, Video, painted, write
from vderain.frames import Frame, PlaneFormat
from vderain.live.broadcast import Broadcast
from vderain.live.preview import Pair, Preview
from vderain.live.states import RetryOptions
from vderain.live.stats import CameraStats
from vderain.media.live.camera import CameraSource
from vderain.media.live.connect import CameraOptions
from vderain.media.live.types import LiveFrame
from vderain.media.live.upright import Orientation
from vderain.options import EncodeOptions

PAL = Fraction(12, 11)  # the pixels of an analogue camera, 4:3
WIDE = {"sample_aspect_ratio": PAL}
SIGNS = tuple(itertools.product((-1, 1), repeat=2))
QUARTERS = [(a, 0, 0, d) for a, d in SIGNS] + [(0, b, c, 0) for b, c in SIGNS]  # x' = ax + cy


def captured(path):
    camera = CameraSource(str(path), CameraOptions(), EncodeOptions())
    try:
        return [item for item in camera if isinstance(item, LiveFrame)], camera.info
    finally:
        camera.close()


def write_turned(path, degrees, *, hflip=False, **changes):
    """A short lossless clip with a display matrix."""
    video = Video(pts=tuple(range(0, 50 * STEP, STEP)), **changes)
    with av.open(str(path), "w") as output:
        stream = output.add_stream("libx264", rate=25)
        stream.width, stream.height, stream.pix_fmt = *video.size, "yuv420p"
        stream.codec_context.options = {"qp": "0", "preset": "ultrafast"}
        for name, value in video.attributes.items():
            setattr(stream.codec_context, name, value)
        stream.set_display_rotation(degrees, hflip=hflip)
        for index, pts in enumerate(video.pts):
            output.mux(stream.encode(painted(video, index, pts)))
        output.mux(stream.encode(None))
    return path


def first_luma(path):
    with av.open(str(path)) as container:
        return next(container.decode(video=0)).to_ndarray(format="gray")


def played(watch, source, output):
    station = watch(source, output)
    assert until(lambda: station.sessions[0].ended, 30)
    station.stop()
    return station


@pytest.mark.parametrize("matrix", QUARTERS)
def test_every_display_matrix_moves_each_sample_to_its_place(matrix):
    a, b, c, d = matrix
    stored = np.arange(6, dtype=np.uint8).reshape(2, 3)
    moved = {(a * x + c * y, b * x + d * y): stored[y, x] for y in range(2) for x in range(3)}
    left, top = min(x for x, _ in moved), min(y for _, y in moved)
    one = 1 << 16
    (plane,) = Orientation.of((a * one, b * one, 0, c * one, d * one, 0, 0, 0, 1 << 30)).upright(
        (stored,)
    )
    for (x, y), sample in moved.items():
        assert plane[y - top, x - left] == sample


@pytest.mark.parametrize("degrees", [0, 90, 180, 270])
def test_a_turned_file_comes_upright(tmp_path, degrees):
    path = write_turned(tmp_path / "phone.mp4", degrees)
    items, info = captured(path)
    turns = degrees // 90
    frame = items[0].rainy
    assert frame.rotation == 0
    assert (frame.format.width, frame.format.height) == ((48, 64) if turns % 2 else (64, 48))
    assert (info.width, info.height) == (frame.format.width, frame.format.height)
    stored = painted(Video(), 0, 0).to_ndarray()[:48]
    assert np.array_equal(frame.planes[0], np.rot90(stored, turns))


def test_a_mirrored_file_comes_as_it_is_seen(tmp_path):
    items, _ = captured(write_turned(tmp_path / "selfie.mp4", 0, hflip=True))
    stored = painted(Video(), 0, 0).to_ndarray()[:48]
    assert np.array_equal(items[0].rainy.planes[0], np.fliplr(stored))


def test_a_phone_clip_is_recorded_upright(watch, tmp_path):
    path = write_turned(tmp_path / "phone.mp4", 90, size=(128, 96))
    played(watch, path, tmp_path / "recordings")
    (segment,) = (tmp_path / "recordings").iterdir()
    luma = first_luma(segment)
    assert luma.shape == (128, 96)
    with av.open(str(segment)) as container:
        assert next(container.decode(video=0)).rotation == 0
    # Both move and are darkened: what counts is that bright and dark lie in the same places.
    likeness = [
        np.corrcoef(luma.ravel(), np.rot90(first_luma(path), turns).ravel())[0, 1]
        for turns in (1, 3)
    ]
    assert likeness[0] > likeness[1]


@pytest.mark.parametrize("output", ["recordings", "dry.m3u8"])
def test_the_shape_of_pixels_reaches_the_outputs(watch, tmp_path, output):
    path = write(
        tmp_path / "cam.ts", size=(128, 96), pts=tuple(range(0, 50 * STEP, STEP)), attributes=WIDE
    )
    played(watch, path, tmp_path / "out" / output)
    made = tmp_path / "out" / output
    (made,) = made.iterdir() if made.is_dir() else (made,)
    with av.open(str(made)) as container:
        assert container.streams.video[0].sample_aspect_ratio == PAL


def test_the_shape_of_pixels_turns_with_the_image(tmp_path):
    items, info = captured(write_turned(tmp_path / "a.mp4", 90, attributes=WIDE))
    assert items[0].pixel_shape == info.sample_aspect_ratio == 1 / PAL


def test_a_new_size_has_pixels_of_its_own_shape(tmp_path):
    one = write(tmp_path / "one.ts", attributes=WIDE)
    two = write(tmp_path / "two.ts", size=(96, 64), pts=tuple(range(36_000, 72_000, STEP)))
    with open(one, "ab") as both, open(two, "rb") as second:
        both.write(second.read())
    items, _ = captured(one)
    shapes = {(item.rainy.format.width, item.pixel_shape) for item in items}
    assert shapes == {(64, PAL), (96, Fraction(1))}


def test_another_shape_of_pixels_gets_another_encoder():
    asked = []

    def make_encoder(frame, rate, pixel_shape):
        asked.append(pixel_shape)
        return SimpleNamespace(stream=None, notes=[], encode=lambda *_, **__: [], close=int)

    stats = CameraStats()
    broadcast = Broadcast("gate", [], make_encoder, stats, RetryOptions(), timeout_s=1.0)
    broadcast.start()
    for index, shape in enumerate((PAL, PAL, Fraction(1))):
        time_s = Fraction(index, 25)
        broadcast.put(LiveFrame(gray_frame(100, index), 0.0, shape, time_s), None)
        assert until(lambda done=index + 1: stats.snapshot().frames.get("emitted") == done)
    broadcast.stop()
    assert asked == [PAL, Fraction(1)]


@pytest.mark.parametrize(("width", "size"), [(960, (768, 576)), (320, (320, 240))])
def test_the_page_shows_square_pixels(width, size):
    fmt = PlaneFormat("gray", 704, 576, full_range=True)
    frame = Frame((np.full((576, 704), 90, np.uint8),), fmt, 0, Fraction(1, 25))
    pair = Pair(1, LiveFrame(frame, 0.0, PAL))
    image = cv2.imdecode(np.frombuffer(Preview().stacked_jpeg(pair, width), np.uint8), 1)
    wide, high = size
    assert image.shape == (2 * high, wide, 3)
