import numpy as np
import pytest

from tests.training.folders import level, noise, save, write_clip
from vderain.errors import SourceError
from vderain.training.data.images import (
    Chart,
    ClipFile,
    half_of,
    read_image,
    read_reference,
    read_spread,
    read_window,
)


def test_sixteen_bit_becomes_the_nearest_eight(tmp_path):
    levels = np.array([0, 128, 129, 257 * 100 + 128, 257 * 100 + 129, 65535], np.uint16)
    image = np.repeat(levels[None, :, None], 3, 2)
    read = read_image(save(tmp_path / "a.png", image))
    assert read.dtype == np.uint8
    assert read[0, :, 0].tolist() == [0, 0, 1, 100, 101, 255]


def test_grey_becomes_rgb_and_alpha_is_left_out(tmp_path):
    grey = np.arange(12, dtype=np.uint8).reshape(3, 4)
    assert np.array_equal(read_image(save(tmp_path / "g.png", grey)), np.dstack([grey] * 3))
    rgba = np.dstack([noise(1, 5, 7), np.full((5, 7), 3, np.uint8)])
    assert np.array_equal(read_image(save(tmp_path / "a.png", rgba)), rgba[..., :3])


def test_colours_keep_their_order(tmp_path):
    image = noise(2, 5, 7)
    assert np.array_equal(read_image(save(tmp_path / "a.bmp", image)), image)


def test_what_is_no_image_is_named(tmp_path):
    (tmp_path / "broken.png").write_text("not an image")
    with pytest.raises(SourceError, match=r"broken\.png"):
        read_image(tmp_path / "broken.png")
    whole = save(tmp_path / "cut.png", noise(3)).read_bytes()
    (tmp_path / "cut.png").write_bytes(whole[: len(whole) // 3])
    with pytest.raises(SourceError, match=r"cut\.png"):
        read_image(tmp_path / "cut.png")


def test_halves_of_an_odd_width_have_one_size():
    image = np.broadcast_to(np.arange(7, dtype=np.uint8)[None, :, None], (2, 7, 3))
    assert half_of(image, "left")[0, :, 0].tolist() == [0, 1, 2]
    assert half_of(image, "right")[0, :, 0].tolist() == [4, 5, 6]


def test_charts_differ_by_their_seed():
    assert not np.array_equal(read_reference(Chart(1)), read_reference(Chart(2)))
    assert np.array_equal(read_reference(Chart(1)), read_reference(Chart(1)))


def test_frames_are_spread_over_a_clip_from_first_to_last(tmp_path):
    clip = write_clip(tmp_path / "a.avi", range(0, 220, 10))
    assert [int(frame.mean().round()) for (frame,) in read_spread(clip, 3)] == [0, 100, 210]
    short = write_clip(tmp_path / "b.avi", [40, 90])
    assert [int(frame.mean().round()) for (frame,) in read_spread(short, 4)] == [40, 40, 40, 90]


def test_frames_of_a_long_clip_are_sought(tmp_path):
    clip = write_clip(tmp_path / "a.avi", [i // 2 for i in range(301)])
    assert [int(frame.mean().round()) for (frame,) in read_spread(clip, 4)] == [0, 50, 100, 150]


@pytest.mark.parametrize(("count", "length"), [(2, 30), (2, 200)])  # the second one is sought
def test_places_of_a_clip_come_with_the_frames_around_them(tmp_path, count, length):
    clip = write_clip(tmp_path / "a.avi", range(length))
    places = [[int(frame.mean().round()) for frame in each] for each in read_spread(clip, count, 2)]
    assert places == [[0, 1, 2, 3, 4], [length - 5 + i for i in range(5)]]
    tiny = write_clip(tmp_path / "b.avi", [40, 90])
    assert [[int(f.mean().round()) for f in each] for each in read_spread(tiny, 1, 2)] == [
        [40, 40, 40, 90, 90]
    ]


@pytest.mark.parametrize("start", [0, 7, 60, 61])  # the last two are sought
@pytest.mark.parametrize(
    "name", ["coarse.avi", "fine.mkv"]
)  # times in frames, and in smaller units
def test_a_window_of_a_clip_holds_consecutive_frames(tmp_path, name, start):
    clip = write_clip(tmp_path / name, [3 * i for i in range(80)])
    frames = read_window(ClipFile(clip, start, 3))
    assert [round(float(frame.mean()) / 3) for frame in frames] == [start, start + 1, start + 2]


def test_a_window_of_an_image_sequence_follows_the_numbers(tmp_path):
    for index in range(12):
        save(tmp_path / f"{index}.png", level(index))  # 10 comes after 9, not after 1
    frames = read_window(ClipFile(tmp_path, 8, 4))
    assert [int(frame[0, 0, 0]) for frame in frames] == [8, 9, 10, 11]
    assert [int(frame[0, 0, 0]) for (frame,) in read_spread(tmp_path, 2)] == [0, 11]


def test_a_window_beyond_the_end_or_of_two_sizes_is_refused(tmp_path):
    clip = write_clip(tmp_path / "a.avi", range(6))
    with pytest.raises(SourceError, match="no frames 6 to 7"):
        read_window(ClipFile(clip, 4, 4))
    assert len(read_window(ClipFile(clip, 4, 4), at_most=True)) == 2
    save(tmp_path / "s" / "0.png", level(1))
    save(tmp_path / "s" / "1.png", level(1, 9, 9))
    with pytest.raises(SourceError, match="differ in size"):
        read_window(ClipFile(tmp_path / "s", 0, 2))
