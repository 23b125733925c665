import cv2
import numpy as np
import pytest

from tests.training.folders import save
from tests.training.rainy_clips import scene, with_rain, write_frames
from vderain.errors import SourceError
from vderain.training.data.footage import WINDOW, read_footage, read_frames


@pytest.fixture(scope="module")
def clip(tmp_path_factory):
    """Forty frames, the number of each in its corner."""
    frames = with_rain([scene()] * 40)
    for number, frame in enumerate(frames):
        frame[:8, :8] = 5 * number
    return write_frames(tmp_path_factory.mktemp("footage") / "clip", frames)


def numbers(pieces):
    return {round(float(frame[:8, :8].mean()) / 5) for piece in pieces for frame in piece.frames}


def test_no_frame_is_for_training_and_for_validation(clip):
    footage = read_footage([clip], 10)
    learnt, validation = numbers(footage.learnt), numbers(footage.validation)
    assert max(learnt) < min(validation) and max(validation) == 39
    assert len(footage.learnt) == 10 and len(footage.validation) == 2
    assert {len(piece.frames) for piece in footage.learnt} == {WINDOW}


def test_a_damaged_image_in_the_middle_is_left_out_and_named(clip, tmp_path):
    copy = write_frames(tmp_path / "clip", with_rain([scene()] * 40))
    (copy / "0010.png").write_bytes(b"no image")
    footage = read_footage([copy], 4)
    assert len(footage.learnt) == 3
    assert any("0010.png" in note for note in footage.notes)


def test_a_video_damaged_in_the_middle_still_teaches(tmp_path):
    path = tmp_path / "clip.mp4"
    size = (128, 96)
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter_fourcc(*"mp4v"), 25, size)
    for frame in with_rain([scene()] * 60):
        writer.write(frame)
    writer.release()
    data = bytearray(path.read_bytes())
    middle = len(data) // 2
    data[middle : middle + 3000] = bytes(3000)
    path.write_bytes(data)
    footage = read_footage([path], 10)
    assert len(footage.learnt) >= 6 and footage.validation


@pytest.mark.parametrize("windows", [3, 30])  # with 3, none has frames of both sizes
def test_frames_of_several_sizes_are_refused(tmp_path, windows):
    frames = [*with_rain([scene()] * 20), *with_rain([scene(0, (80, 100))] * 20)]
    with pytest.raises(SourceError, match="differ in size"):
        read_footage([write_frames(tmp_path / "clip", frames)], windows)


@pytest.mark.parametrize(("count", "told"), [(1, "no clips|1 frame"), (12, "12 frames, too few")])
def test_what_is_too_short_is_refused(tmp_path, count, told):
    folder = write_frames(tmp_path / "clip", with_rain([scene()] * count))
    with pytest.raises(SourceError, match=told):
        read_footage([folder], 10)


def test_one_image_a_still_one_and_nothing_are_refused(tmp_path):
    with pytest.raises(SourceError, match="is one image"):
        read_footage([save(tmp_path / "a.png", scene())], 10)
    with pytest.raises(SourceError, match="is a still image"):
        read_footage([write_frames(tmp_path / "still", [scene()] * 30)], 10)
    with pytest.raises(SourceError, match="no such file or folder"):
        read_footage([tmp_path / "nowhere.mp4"], 10)
    (tmp_path / "empty").mkdir()
    with pytest.raises(SourceError, match="holds no clips"):
        read_footage([tmp_path / "empty"], 10)


def test_large_frames_are_cut_alike_through_a_piece(tmp_path):
    frames = with_rain([scene(0, (640, 1000))] * 24)
    piece = read_footage([write_frames(tmp_path / "clip", frames)], 3).learnt[0]
    assert {frame.shape for frame in piece.frames} == {(576, 960, 3)}
    assert np.median(np.abs(piece.frames[0].astype(int) - piece.frames[1])) == 0


def test_single_frames_come_from_images_and_clips(clip, tmp_path):
    save(tmp_path / "a.png", scene(3))
    found = read_frames([tmp_path / "a.png", clip], 8)
    assert len(found) >= 5 and all(one.shape == (96, 128, 3) for one in found)
    (tmp_path / "none").mkdir()
    with pytest.raises(SourceError, match="no images and no clips"):
        read_frames([tmp_path / "none"], 8)
