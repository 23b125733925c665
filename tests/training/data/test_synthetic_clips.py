import cv2
import numpy as np
import pytest

from vderain.clips import Window
from vderain.training.data import synthetic_clips
from vderain.training.data.stacks import grey
from vderain.training.data.synthetic_clips import SequenceMaker, moving_view, reach, with_objects

TEXTURE = cv2.GaussianBlur(np.random.default_rng(0).random((300, 400, 3), np.float32), (0, 0), 2)
TEXTURE = np.uint8(255 * (TEXTURE - TEXTURE.min()) / np.ptp(TEXTURE))


@pytest.mark.parametrize("frames", [3, 5])
def test_neighbours_lie_around_the_current_frame_or_before_it(frames):
    seen = set()
    for seed in range(200):
        offsets = SequenceMaker(Window(frames), past_share=0.3).offsets(np.random.default_rng(seed))
        assert len(offsets) == frames and offsets[frames // 2] == 0
        seen.add(tuple(offsets))
    assert {3: (-1, 0, 1), 5: (-2, -1, 0, 1, 2)}[frames] in seen
    assert {3: (-2, 0, -1), 5: (-4, -3, 0, -2, -1)}[frames] in seen
    assert max(abs(offset) for offsets in seen for offset in offsets) == reach(frames)


@pytest.mark.parametrize(("share", "lowest"), [(0.0, -2), (1.0, -4)])
def test_the_share_of_clips_without_future_neighbours_is_as_asked(share, lowest):
    maker = SequenceMaker(Window(5), past_share=share)
    drawn = [maker.offsets(np.random.default_rng(seed)) for seed in range(100)]
    assert {min(offsets) for offsets in drawn if 0 not in offsets[:2] + offsets[3:]} == {lowest}


def test_a_pan_is_undone_and_a_lost_neighbour_replaced():
    maker = SequenceMaker(Window(3), past_share=0.3)
    frames = [TEXTURE[40:240, 60 + dx : 260 + dx] for dx in (-4, 0, 4)]
    stack = maker.aligned_stack(np.random.default_rng(0), frames, [-1, 0, 1])
    m = maker.margin_px
    assert stack.shape == (200 - 2 * m, 200 - 2 * m, 5)
    own = frames[1][m:-m, m:-m]
    assert np.array_equal(stack[..., :3], own)
    neighbours = stack[..., 3:].astype(int)
    assert 0 < np.abs(neighbours - grey(own)[..., None]).mean() < 4
    lost = maker.aligned_stack(np.random.default_rng(0), frames, [0, 0, 1])
    assert np.all((lost[..., 3] == grey(own)) | (lost[..., 4] == grey(own)))


def test_the_darkest_neighbour_comes_first():
    maker = SequenceMaker(Window(5), past_share=0.3)
    clean = TEXTURE[40:240, 60:260]
    frames = [cv2.add(clean, (gain, gain, gain, 0)) for gain in (15, 5, 0, 20, 10)]
    stack = maker.aligned_stack(np.random.default_rng(0), frames, [-2, -1, 0, 1, 2]).astype(int)
    own = grey(clean[40:-40, 40:-40])[..., None]
    found = np.median(stack[..., 3:] - own, (0, 1))
    assert found == pytest.approx([5, 10, 15, 20], abs=1.5)


def test_a_streak_stays_in_its_own_frame():
    maker = SequenceMaker(Window(3), past_share=0.3)
    noise = np.random.default_rng(1).normal(0, 3, (3, 200, 200, 3))
    frames = list(np.uint8(np.clip(TEXTURE[40:240, 60:260] + noise, 0, 255)))
    cv2.line(frames[1], (95, 80), (100, 120), (255, 255, 255), 1)
    stack = maker.aligned_stack(np.random.default_rng(0), frames, [-1, 0, 1]).astype(int)
    darker, brighter = np.moveaxis(stack[..., 3:] - grey(frames[1])[40:-40, 40:-40, None], 2, 0)
    assert darker[50:70, 57:59].min() < -60
    assert np.abs(brighter).mean() < 5


def test_a_still_image_becomes_what_a_camera_sees():
    still = moving = 0
    for seed in range(40):
        views = moving_view(np.random.default_rng(seed), TEXTURE, 120, [-1, 0, 1])
        assert [view.shape for view in views] == [(120, 120, 3)] * 3
        if all(np.array_equal(view, views[1]) for view in views):
            still += 1
        else:
            moving += 1
    assert still > 8 < moving


def test_an_image_smaller_than_the_view_is_mirrored():
    views = moving_view(np.random.default_rng(1), TEXTURE[:50, :40], 120, [-2, 0, -1])
    assert [view.shape for view in views] == [(120, 120, 3)] * 3


def test_things_move_on_their_own_before_a_still_image():
    still = [np.full((120, 160, 3), 90, np.uint8)] * 3
    travelled = []
    for seed in range(40):
        frames = with_objects(np.random.default_rng(seed), still, [-1, 0, 1])
        assert all(frame.shape == (120, 160, 3) and frame.dtype == np.uint8 for frame in frames)
        changed = [(frame != 90).any(2) for frame in frames]
        assert changed[1].mean() < 0.9, "the scene stays visible"
        travelled.append((changed[0] ^ changed[2]).mean())
    assert np.mean(np.array(travelled) > 0.005) > 0.5, "most of them move"
    assert np.array_equal(still[0], np.full((120, 160, 3), 90)), (
        "the frames that came are not drawn on"
    )


def test_a_thing_keeps_its_colour_up_to_its_edge(monkeypatch):
    monkeypatch.setattr(synthetic_clips, "_DASHES_SHARE", 0.0)
    still = [np.full((64, 64, 3), 200, np.uint8)] * 3
    monkeypatch.setattr(synthetic_clips, "_surface", lambda rng, image: np.full_like(image, 100))
    for seed in range(40):
        for frame in with_objects(np.random.default_rng(seed), still, [-1, 0, 1]):
            assert frame.min() >= 100 and frame.max() <= 200


def test_dashes_of_a_lane_move_along_it(monkeypatch):
    monkeypatch.setattr(synthetic_clips, "_DASHES_SHARE", 1.0)
    still = [np.full((120, 160, 3), 90, np.uint8)] * 3
    covered, moved = [], []
    for seed in range(40):
        frames = with_objects(np.random.default_rng(seed), still, [-1, 0, 1])
        before, now, after = ((frame != 90).any(2) for frame in frames)
        covered.append(now.mean())
        moved.append((before ^ after).any())
    assert max(covered) < 0.6, "the scene stays visible"
    assert np.mean(np.array(covered) > 0.001) > 0.7
    assert np.mean(moved) > 0.7
