import numpy as np
import pytest

from vderain.alignment import Aligned, in_order_of_brightness, luma, shown
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
