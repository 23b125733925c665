import numpy as np
import pytest

from vderain.alignment import in_order_of_brightness, luma
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
