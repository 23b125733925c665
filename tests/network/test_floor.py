"""What all frames show stays: no change, whatever network computed it, darkens a pixel below the floor."""

import numpy as np
import pytest
import torch

from vderain.alignment import Aligned, floor_of, in_order_of_brightness, luma
from vderain.frames import PlaneFormat
from vderain.network.change.apply import apply_change
from vderain.network.change.tensors import add_change

LAYOUTS = ["yuv420", "yuv422", "yuv440", "yuv444", "gray", "rgb"]


def formats():
    for layout in LAYOUTS:
        for bit_depth in (8, 10, 16):
            for width, height in ((37, 23), (16, 12)):
                full = layout == "rgb" or bit_depth == 10
                yield PlaneFormat(layout, width, height, bit_depth, full_range=full)


def drawn(fmt, seed):
    """Planes, a change that reaches far beyond the range, and a floor."""
    rng = np.random.default_rng(seed)
    planes = tuple(
        rng.integers(0, fmt.peak + 1, shape).astype(fmt.dtype) for shape in fmt.plane_shapes
    )
    size = fmt.peak * 10.0 ** rng.uniform(-2, 0.5)
    change = tuple(
        rng.normal(-size / 4, size, shape).astype(np.float32) for shape in fmt.plane_shapes
    )
    floor = rng.integers(0, fmt.peak + 1, fmt.plane_shapes[0]).astype(fmt.dtype)
    return planes, change, floor


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("fmt", formats(), ids=str)
def test_no_change_darkens_luma_below_the_floor(fmt, seed):
    planes, change, floor = drawn(fmt, seed)
    result = apply_change(planes, change, fmt, floor=floor)
    unbounded = apply_change(planes, change, fmt)
    assert (luma(result, fmt) >= np.minimum(luma(planes, fmt), floor)).all()
    assert (luma(unbounded, fmt) < np.minimum(luma(planes, fmt), floor)).any()
    # What the floor does not hold back is the change as it was.
    free = luma(unbounded, fmt) >= np.minimum(luma(planes, fmt), floor)
    assert np.array_equal(luma(result, fmt)[free], luma(unbounded, fmt)[free])


@pytest.mark.parametrize("fmt", formats(), ids=str)
def test_no_change_leaves_every_sample_bit_identical_whatever_the_floor(fmt):
    planes, change, floor = drawn(fmt, 0)
    nothing = tuple(np.zeros_like(delta) for delta in change)
    for before, after in zip(planes, apply_change(planes, nothing, fmt, floor=floor), strict=True):
        assert np.array_equal(before, after)


def test_a_floor_of_zero_holds_nothing_back():
    fmt = PlaneFormat("yuv420", 16, 12)
    planes, change, floor = drawn(fmt, 0)
    free = apply_change(planes, change, fmt)
    for one, other in zip(free, apply_change(planes, change, fmt, floor=0 * floor), strict=True):
        assert np.array_equal(one, other)


@pytest.mark.parametrize("layout", ["yuv420", "yuv422", "yuv440", "yuv444"])
def test_a_coloured_line_that_stays_keeps_its_colour(layout):
    fmt = PlaneFormat(layout, 8, 8, full_range=True)
    planes = tuple(np.full(shape, 150, np.uint8) for shape in fmt.plane_shapes)
    change = tuple(np.full(shape, -60, np.float32) for shape in fmt.plane_shapes)
    floor = np.zeros((8, 8), np.uint8)
    floor[:, 2] = 148  # a line that all frames show
    result = apply_change(planes, change, fmt, floor=floor)
    sx = fmt.subsampling[0]
    assert (result[0][:, 2] == 148).all() and (result[0][:, 5] == 90).all()
    for plane in result[1:]:
        assert (plane[:, 2 // sx] == 150).all() and (plane[:, 5 // sx] == 90).all()


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("fmt", [f for f in formats() if f.width % 2 == 0], ids=str)
def test_the_floor_on_a_device_gives_the_hosts_samples(fmt, seed):
    planes, change, floor = drawn(fmt, seed)
    expected = apply_change(planes, change, fmt, floor=floor)
    tensors = [torch.from_numpy(plane.astype(np.int32))[None, None] for plane in planes]
    deltas = [torch.from_numpy(delta)[None, None] for delta in change]
    got = add_change(
        tensors, deltas, fmt, 1.0, torch.from_numpy(floor.astype(np.int32))[None, None]
    )
    for one, other in zip(got, expected, strict=True):
        np.testing.assert_array_equal(one[0, 0].numpy(), other.astype(np.float32))


def neighbour(level, hidden=False):
    return Aligned(np.full((2, 3), level, np.uint8), np.full((2, 3), hidden, np.uint8))


def floor_under(neighbours, bit_depth=8):
    floor = floor_of(neighbours, in_order_of_brightness([n.luma for n in neighbours]), bit_depth)
    if floor is not None:
        assert np.unique(floor).size == 1
        return int(floor[0, 0])
    return None


def test_the_floor_is_the_second_darkest_neighbour_less_a_tolerance():
    assert floor_under([neighbour(n) for n in (90, 50, 70, 80)]) == 68
    assert floor_under([neighbour(n) for n in (90, 70)]) == 88


def test_with_few_valid_neighbours_the_floor_is_the_darkest():
    own = 200  # what stands in where a neighbour is hidden
    valid = [neighbour(50), neighbour(70)]
    assert floor_under([*valid, neighbour(own, True), neighbour(own, True)]) == 48
    assert floor_under([*valid, neighbour(80), neighbour(own, True)]) == 68
    assert floor_under([neighbour(50), neighbour(own, True)]) == 48
    assert floor_under([neighbour(50), Aligned(np.full((2, 3), own, np.uint8), None)]) == 48


def test_without_a_valid_neighbour_nothing_is_bounded():
    own = np.full((2, 3), 200, np.uint8)
    assert floor_under([Aligned(own, None)] * 4) is None
    assert floor_under([neighbour(200, True)] * 4) == 0
    assert floor_under([]) is None


def test_the_tolerance_grows_with_the_bit_depth():
    deep = [Aligned(np.full((2, 3), 400, np.uint16), np.zeros((2, 3), np.uint8))] * 4
    assert floor_under(deep, 10) == 392
    assert floor_under([neighbour(1)] * 4) == 0
