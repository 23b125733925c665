"""The wrapper against a float64 reference that is written out plainly here, sample by sample where it matters."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from tests.networks import COARSE, MEDIAN, TEMPORAL, TINY, ConstantChange, randomized
from vderain.frames import PlaneFormat
from vderain.network.change.apply import apply_change, sample_bounds
from vderain.network.planes import PackedNetwork, PlanesNetwork, packable
from vderain.network.semi_drdnet import SemiDRDNet

YUV = ["yuv420", "yuv422", "yuv440", "yuv444"]
WEIGHTS = {
    "bt601": (0.299, 0.587, 0.114),
    "bt709": (0.2126, 0.7152, 0.0722),
    "bt2020": (0.2627, 0.678, 0.0593),
}


def formats(layouts, depths=(8, 10), width=37, height=22, matrices=("bt601", "bt709")):
    for layout in layouts:
        for depth in depths:
            for matrix in matrices:
                for full in (False, True):
                    if layout != "rgb":
                        yield PlaneFormat(layout, width, height, depth, matrix, full)
            if layout == "rgb":
                yield PlaneFormat(layout, width, height, depth, full_range=True)


def random_planes(fmt, seed=0, low=0.0, high=1.0):
    rng = np.random.default_rng(seed)
    low, high = int(low * fmt.peak), int(high * fmt.peak)
    return tuple(rng.integers(low, high + 1, shape).astype(fmt.dtype) for shape in fmt.plane_shapes)


def run(wrapper, planes):
    with torch.no_grad():
        changes = wrapper(*(torch.from_numpy(p.astype(np.int32))[None, None] for p in planes))
    return tuple(change[0, 0].numpy().astype(np.float32) for change in changes)


def reference_rgb(planes, fmt):
    """(H, W, 3) float64 RGB in [0, 1], chroma by the nearest sample."""
    y, *chroma = (plane.astype(np.float64) for plane in planes)
    if fmt.layout == "rgb":
        return np.stack(planes, -1).astype(np.float64) / fmt.peak
    unit = 2 ** (fmt.bit_depth - 8)
    y = y / fmt.peak if fmt.full_range else (y - 16 * unit) / (219 * unit)
    if not chroma:
        return np.stack([y, y, y], -1)
    kr, kg, kb = WEIGHTS[fmt.matrix]
    sx, sy = fmt.subsampling
    rows, columns = np.arange(fmt.height) // sy, np.arange(fmt.width) // sx
    scale = fmt.peak if fmt.full_range else 224 * unit
    cb, cr = ((plane[np.ix_(rows, columns)] - 128 * unit) / scale for plane in chroma)
    red, blue = y + 2 * (1 - kr) * cr, y + 2 * (1 - kb) * cb
    return np.stack([red, (y - kr * red - kb * blue) / kg, blue], -1)


def reference_planes(planes, change, fmt):
    """Add a clamped RGB change (H, W, 3) to planes in float64, chroma averaged, rounded."""
    deltas = reference_change(change, fmt)
    return tuple(np.rint(p + d) for p, d in zip(planes, deltas, strict=True))


def reference_change(change, fmt):
    """A clamped RGB change (H, W, 3) in sample steps of each plane, float64, chroma averaged."""
    if fmt.layout == "rgb":
        return [change[..., i] * fmt.peak for i in range(3)]
    kr, kg, kb = WEIGHTS[fmt.matrix]
    unit = 2 ** (fmt.bit_depth - 8)
    luma = fmt.peak if fmt.full_range else 219 * unit
    dy = change @ np.array([kr, kg, kb])
    deltas = [dy * luma]
    if len(fmt.plane_shapes) == 3:
        scale = fmt.peak if fmt.full_range else 224 * unit
        sx, sy = fmt.subsampling
        for channel, weight in ((2, kb), (0, kr)):
            full = (change[..., channel] - dy) / (2 * (1 - weight)) * scale
            deltas.append(_block_mean(full, sy, sx))
    return deltas


def _block_mean(values, sy, sx):
    height, width = values.shape
    grown = np.pad(values, ((0, -height % sy), (0, -width % sx)), mode="edge")
    return grown.reshape(grown.shape[0] // sy, sy, grown.shape[1] // sx, sx).mean((1, 3))


@pytest.mark.parametrize("fmt", formats([*YUV, "gray", "rgb"], depths=(8, 10, 12, 16)), ids=str)
def test_zero_change_leaves_every_sample_bit_identical(fmt):
    planes = random_planes(fmt)  # over the whole range: footroom, headroom, triples outside RGB
    change = run(PlanesNetwork(ConstantChange(0.0), fmt, multiple=4), planes)
    for before, after in zip(planes, apply_change(planes, change, fmt), strict=True):
        assert after.dtype == before.dtype
        assert np.array_equal(before, after)


@pytest.mark.parametrize("fmt", formats([*YUV, "gray", "rgb"]), ids=str)
def test_known_change_is_right_within_one_level_of_float64(fmt):
    planes = random_planes(fmt)
    amount = -20 / 255
    rgb = reference_rgb(planes, fmt)
    clamped = np.maximum(amount, np.minimum(0, -rgb))
    expected = reference_planes(planes, clamped, fmt)
    change = run(PlanesNetwork(ConstantChange(amount), fmt, multiple=4), planes)
    result = apply_change(planes, change, fmt)
    for want, got, bound, plane in zip(expected, result, sample_bounds(fmt), planes, strict=True):
        low, high = np.minimum(plane, bound[0]), np.maximum(plane, bound[1])
        assert np.abs(np.clip(want, low, high) - got).max() <= 1


def test_grey_patch_darkens_by_its_luma_and_black_stays_black():
    fmt = PlaneFormat("yuv420", 4, 4, 8, "bt601", False)
    for luma, expected in ((126, round(126 - 20 * 219 / 255)), (20, 16), (16, 16), (10, 10)):
        planes = (np.full((4, 4), luma, np.uint8), *[np.full((2, 2), 128, np.uint8)] * 2)
        change = run(PlanesNetwork(ConstantChange(-20 / 255), fmt, multiple=1), planes)
        result = apply_change(planes, change, fmt)
        assert np.all(result[0] == expected)
        assert np.all(result[1] == 128) and np.all(result[2] == 128)


@pytest.mark.parametrize(
    "config", [TINY, COARSE, TEMPORAL, MEDIAN], ids=["tiny", "coarse", "temporal", "median"]
)
@pytest.mark.parametrize("fmt", formats([*YUV, "gray", "rgb"]), ids=str)
def test_packed_form_equals_the_reference_form(fmt, config):
    network = randomized(SemiDRDNet(config))
    for branch in (
        network.rain,
        network.detail,
    ):  # small answers: no clamp, which only one form has
        branch.tail.weight *= 0.02
        branch.tail.bias *= 0.02
    frames = [random_planes(fmt, seed, low=0.46, high=0.54) for seed in range(config.seen_frames)]
    planes = [*frames[0], *[neighbour[0] for neighbour in frames[1:]]]
    packed = run(PackedNetwork(network, fmt), planes)
    plain = run(PlanesNetwork(network, fmt, multiple=config.multiple), planes)
    assert max(np.abs(change).max() for change in plain) > 0.1
    for got, want in zip(packed, plain, strict=True):
        assert np.abs(got - want).max() <= 1e-4 * fmt.peak / 255


@pytest.mark.parametrize("size", [(1, 1), (2, 1), (3, 5), (16, 16), (17, 33)])
def test_any_size_comes_back_in_its_own_shape(size):
    network = randomized(SemiDRDNet(COARSE))
    for layout in (*YUV, "gray"):
        fmt = PlaneFormat(layout, *size)
        for wrapper in (PackedNetwork(network, fmt), PlanesNetwork(network, fmt, multiple=16)):
            changes = run(wrapper, random_planes(fmt))
            assert tuple(change.shape for change in changes) == fmt.plane_shapes


def test_packing_is_refused_where_chroma_does_not_divide_the_block():
    assert packable(4, PlaneFormat("yuv420", 8, 8))
    assert not packable(1, PlaneFormat("yuv444", 8, 8))
    assert not packable(3, PlaneFormat("yuv420", 9, 9))
    with pytest.raises(ValueError, match="cannot pack"):
        PackedNetwork(SemiDRDNet(replace(TINY, unshuffle=1)), PlaneFormat("yuv420", 8, 8))


@pytest.mark.parametrize("full", [False, True])
@pytest.mark.parametrize("depth", [8, 10, 12, 16])
def test_large_changes_saturate_and_never_wrap(full, depth):
    fmt = PlaneFormat("yuv420", 6, 4, depth, full_range=full)
    planes = random_planes(fmt)
    for sign in (-1, 1):
        change = tuple(np.full(s, sign * 3.0 * fmt.peak, np.float32) for s in fmt.plane_shapes)
        results = apply_change(planes, change, fmt)
        for before, after, bound in zip(planes, results, sample_bounds(fmt), strict=True):
            limit = np.minimum(before, bound[0]) if sign < 0 else np.maximum(before, bound[1])
            assert np.array_equal(after, limit)


def test_strength_scales_the_change():
    fmt = PlaneFormat("gray", 4, 4, full_range=True)
    planes = (np.full((4, 4), 100, np.uint8),)
    change = (np.full((4, 4), -30.0, np.float32),)
    for strength, expected in ((0.0, 100), (0.5, 85), (1.0, 70)):
        assert np.all(apply_change(planes, change, fmt, strength=strength)[0] == expected)
