import cv2
import numpy as np
import pytest

from vderain.alignment import (
    Aligned,
    Aligner,
    aligned_neighbours,
    in_order_of_brightness,
    luma,
    shown,
    thumbnail,
)
from vderain.alignment.motion import warped
from vderain.alignment.warping import warped_luma
from vderain.frames import PlaneFormat


@pytest.mark.parametrize("bit_depth", [8, 10])
@pytest.mark.parametrize("count", [0, 2, 4])
def test_at_each_place_the_darkest_sample_comes_first(bit_depth, count):
    fmt = PlaneFormat("gray", 32, 18, bit_depth)
    rng = np.random.default_rng(0)
    lumas = [rng.integers(0, fmt.peak + 1, (18, 32)).astype(fmt.dtype) for _ in range(count)]
    before = [plane.copy() for plane in lumas]
    ordered = in_order_of_brightness(lumas)
    assert len(ordered) == count and all(plane.dtype == fmt.dtype for plane in ordered)
    if count:
        assert np.array_equal(np.stack(ordered), np.sort(np.stack(before), 0))
    assert all(np.array_equal(a, b) for a, b in zip(lumas, before, strict=True))


@pytest.mark.parametrize("darkest", [1, 2, 5, 8])
def test_only_the_darkest_planes_are_made_where_no_more_are_wanted(darkest, monkeypatch):
    lumas = [*np.random.default_rng(0).integers(0, 256, (8, 6, 7)).astype(np.uint8)]
    wanted = in_order_of_brightness(lumas)[:darkest]
    made, lightest = [], np.maximum
    monkeypatch.setattr(np, "maximum", lambda *pair: (made.append(pair), lightest(*pair))[1])
    found = in_order_of_brightness(lumas, darkest)
    assert len(found) == darkest and np.array_equal(found, wanted)
    assert len(made) < 19 or darkest == 8


@pytest.mark.parametrize("bit_depth", [8, 16])
def test_the_luma_of_rgb_is_rounded_and_of_grey_the_samples(bit_depth):
    fmt = PlaneFormat("rgb", 32, 18, bit_depth, full_range=True)
    rng = np.random.default_rng(0)
    planes = [rng.integers(0, fmt.peak + 1, (18, 32)).astype(fmt.dtype) for _ in range(3)]
    found = luma(planes, fmt)
    wanted = np.dstack(planes) @ (0.299, 0.587, 0.114)
    assert found.dtype == fmt.dtype
    assert np.abs(found - wanted).max() <= 0.51
    assert np.array_equal(luma([planes[0]] * 3, fmt), planes[0])


def test_where_a_far_neighbour_is_hidden_one_two_frames_nearer_stands_in():
    def neighbour(level, hidden):
        mask = np.array([[0, hidden]], np.uint8)
        return Aligned(np.array([[level, 9 if hidden else level]], np.uint8), mask)

    own = np.full((1, 2), 9, np.uint8)
    neighbours = [
        neighbour(14, 1),
        neighbour(12, 0),
        neighbour(11, 1),
        Aligned(own, None),
        Aligned(own, None),
    ]
    planes = shown(neighbours, [-4, -2, -1, 3, 0])
    assert [plane.tolist() for plane in planes] == [
        [[14, 12]],
        [[12, 12]],
        [[11, 9]],
        [[9, 9]],
        [[9, 9]],
    ]
    assert shown([neighbour(30, 0), Aligned(own, None)], [1, 3])[1].tolist() == [[30, 30]]


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
@pytest.mark.parametrize("shape", [(36, 64), (35, 67), (24, 3)])
@pytest.mark.parametrize("shift", [(0, 0), (2.25, -1.5), (-9.75, 3), (40.5, 0.5)])
def test_groups_of_pixels_are_warped_as_single_ones_up_to_the_borders(shift, shape, dtype):
    plane = np.random.default_rng(0).integers(0, 256, shape).astype(dtype)
    size = (shape[0] // 2, max(1, shape[1] // 2))
    part = np.float32([size[1] / shape[1], size[0] / shape[0]])
    flow = np.ones((*size, 2), np.float32) * np.float32(shift) * part
    expected = warped(plane, np.broadcast_to(np.float32(shift), (*shape, 2)).copy())
    found = warped_luma(plane, flow)
    assert found.dtype == dtype and found.flags.c_contiguous
    assert np.abs(found.astype(int) - expected).max() <= (shift != (0, 0))


class View:
    def __init__(self, plane):
        self.luma, self.thumbnail = plane, thumbnail(plane, 8)


def scene(seed=0):
    noise = np.random.default_rng(seed).random((360, 640), np.float32)
    texture = cv2.GaussianBlur(noise, (0, 0), 4) + cv2.GaussianBlur(noise, (0, 0), 25) * 4
    return np.uint8(40 + 140 * (texture - texture.min()) / np.ptp(texture))


def rained_on(plane, seed, streaks):
    rng = np.random.default_rng(seed)
    rain = np.zeros(plane.shape, np.float32)
    for x, y in rng.random((streaks, 2)) * plane.shape[::-1]:
        end = (int(x + rng.normal(2, 1)), int(y + rng.integers(10, 40)))
        cv2.line(rain, (int(x), int(y)), end, float(rng.uniform(20, 90)), 1, cv2.LINE_AA)
    noisy = plane + cv2.GaussianBlur(rain, (0, 0), 0.8) + rng.normal(0, 1.5, plane.shape)
    return np.uint8(np.clip(np.rint(noisy), 0, 255))


def aligned_five(planes, now=2):
    views = [View(plane) for plane in planes]
    others = [index for index in range(len(planes)) if index != now]
    return aligned_neighbours(views, now, others, Aligner())


def never(*_):
    raise AssertionError("searched")


def test_neighbours_of_a_still_camera_are_used_as_they_are(monkeypatch):
    monkeypatch.setattr(Aligner, "search", never)
    planes = [rained_on(scene(), seed, 40) for seed in range(5)]
    found = aligned_five(planes)
    for one, plane in zip(found, planes[:2] + planes[3:], strict=True):
        assert np.array_equal(one.luma[one.hidden == 0], plane[one.hidden == 0])


@pytest.mark.parametrize("streaks", [400, 1500])
def test_heavy_rain_hides_nothing_that_the_median_of_a_still_scene_needs(streaks):
    clean = scene()
    planes = [rained_on(clean, seed, streaks) for seed in range(5)]
    found = aligned_five(planes)
    aligned = np.median([planes[2], *(one.luma for one in found)], 0)
    plain = np.median(planes, 0)
    rain = planes[2].astype(int) - clean > 8
    assert np.square(aligned - clean)[rain].mean() < 1.05 * np.square(plain - clean)[rain].mean()


@pytest.mark.parametrize("now", [2, 4])
@pytest.mark.parametrize("brightness", [25, 230])
def test_a_thing_that_moves_before_a_still_camera_leaves_no_ghost(brightness, now, monkeypatch):
    monkeypatch.setattr(Aligner, "search", never)
    planes = []
    for index in range(5):
        plane = scene()
        cv2.rectangle(plane, (100 + 30 * index, 150), (180 + 30 * index, 200), brightness, -1)
        planes.append(plane)
    for one in aligned_five(planes, now):
        ghost = np.abs(one.luma.astype(int) - planes[now]) > 20
        assert ghost.sum() < 0.05 * 80 * 50
        assert 0 < one.hidden.mean() < 0.15


@pytest.mark.parametrize("streaks", [0, 400])
def test_a_slow_pan_is_no_still_camera(streaks):
    large = cv2.resize(scene(), (1280, 720), interpolation=cv2.INTER_CUBIC)
    planes = [
        rained_on(
            cv2.resize(large[:, i : 1200 + i], (600, 360), interpolation=cv2.INTER_AREA), i, streaks
        )
        for i in (0, 3, 6, 9, 12)
    ]
    found = aligned_five(planes)
    own = planes[2][20:-20, 20:-20].astype(int)
    for one, plane in zip(found, planes[:2] + planes[3:], strict=True):
        assert (
            np.abs(one.luma[20:-20, 20:-20] - own).mean()
            < np.abs(plane[20:-20, 20:-20] - own).mean()
        )


@pytest.mark.parametrize("streaks", [0, 400])
def test_a_camera_that_drives_ahead_slowly_is_no_still_camera(streaks):
    planes = []
    for index in range(5):
        ahead = cv2.getRotationMatrix2D((320, 180), 0, 1 + 0.003 * index)
        plane = cv2.warpAffine(scene(), ahead, (640, 360), borderMode=cv2.BORDER_REPLICATE)
        planes.append(rained_on(plane, index, streaks))
    for one, plane in zip(aligned_five(planes), planes[:2] + planes[3:], strict=True):
        seen = one.hidden == 0
        assert (one.luma[seen] != plane[seen]).mean() > 0.3


def test_motion_of_two_frames_is_searched_once_and_used_both_ways(monkeypatch):
    searched = []
    search = Aligner.search
    monkeypatch.setattr(
        Aligner, "search", lambda self, *pair: (searched.append(pair), search(self, *pair))[1]
    )
    large = scene()
    views = [View(np.ascontiguousarray(large[:, 6 * i : 480 + 6 * i])) for i in range(2)]
    aligner = Aligner()
    (later,) = aligned_neighbours(views, 0, [1], aligner)
    (earlier,) = aligned_neighbours(views, 1, [0], aligner)
    assert len(searched) == 1
    for one, view in ((later, views[0]), (earlier, views[1])):
        assert np.abs(one.luma.astype(int) - view.luma)[20:-20, 20:-20].mean() < 2


def test_five_frames_of_a_moving_camera_need_one_search_a_frame(monkeypatch):
    searched = []
    search = Aligner.search
    monkeypatch.setattr(
        Aligner, "search", lambda self, *pair: (searched.append(pair), search(self, *pair))[1]
    )
    large = scene()
    views = [View(np.ascontiguousarray(large[:, 6 * i : 480 + 6 * i])) for i in range(7)]
    for now in range(2, 5):
        others = [now - 2, now - 1, now + 1, now + 2]
        for one in aligned_neighbours(views, now, others, Aligner()):
            assert np.abs(one.luma.astype(int) - views[now].luma)[20:-20, 20:-20].mean() < 2
    assert len(searched) == len(views) - 1
