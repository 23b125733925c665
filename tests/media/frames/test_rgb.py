from fractions import Fraction

import av
import av.filter
import numpy as np
import pytest

from vderain.frames import PlaneFormat
from vderain.media.frames.rgb import planes_to_rgb


def smooth_planes(fmt, low, high):
    """Planes of slow waves between two shares of the peak: no detail where filters would differ."""
    planes = []
    for index, (height, width) in enumerate(fmt.plane_shapes):
        y, x = np.mgrid[0:height, 0:width]
        wave = 0.5 + 0.5 * np.sin(3.0 * x / width + (2.0 + index) * y / height + index)
        planes.append(np.rint((low + (high - low) * wave) * fmt.peak).astype(fmt.dtype))
    return tuple(planes)


def swscale_rgb(planes, fmt):
    """The same planes through FFmpeg's converter, without the short cuts that cost two levels."""
    pix_fmt = f"{fmt.layout}p" + ("" if fmt.bit_depth == 8 else f"{fmt.bit_depth}le")
    frame = av.VideoFrame(fmt.width, fmt.height, pix_fmt)
    for source, target in zip(planes, frame.planes, strict=True):
        rows = np.zeros((source.shape[0], target.line_size // source.itemsize), source.dtype)
        rows[:, : source.shape[1]] = source
        target.update(rows.tobytes())
    graph = av.filter.Graph()
    given = graph.add_buffer(
        width=fmt.width, height=fmt.height, format=pix_fmt, time_base=Fraction(1)
    )
    scale = graph.add(
        "scale",
        f"in_color_matrix={fmt.matrix}:in_range={'full' if fmt.full_range else 'limited'}:"
        "out_range=full:flags=bilinear+accurate_rnd+full_chroma_int+full_chroma_inp",
    )
    stages = [given, scale, graph.add("format", "gbrp"), graph.add("buffersink")]
    graph.link_nodes(*stages).configure()
    graph.push(frame)
    return graph.pull().to_ndarray(format="rgb24")


@pytest.mark.parametrize("full_range", [False, True])
@pytest.mark.parametrize("matrix", ["bt601", "bt709", "bt2020"])
@pytest.mark.parametrize("layout", ["yuv420", "yuv422", "yuv440", "yuv444"])
@pytest.mark.parametrize("bit_depth", [8, 10, 12])
def test_agrees_with_swscale(layout, bit_depth, matrix, full_range):
    fmt = PlaneFormat(layout, 128, 96, bit_depth, matrix, full_range)
    planes = smooth_planes(fmt, 0.35, 0.65)
    difference = planes_to_rgb(planes, fmt).astype(int) - swscale_rgb(planes, fmt)
    assert np.abs(difference).max() <= 1


@pytest.mark.parametrize("bit_depth", [8, 10, 16])
@pytest.mark.parametrize("layout", ["gray", "yuv420"])
def test_black_and_white_of_limited_range_are_0_and_255(layout, bit_depth):
    step = 1 << (bit_depth - 8)
    for luma, expected in ((16, 0), (235, 255), (0, 0), (255, 255)):
        fmt = PlaneFormat(layout, 4, 4, bit_depth)
        values = (luma * step, 128 * step, 128 * step)
        planes = tuple(
            np.full(shape, value, fmt.dtype)
            for shape, value in zip(fmt.plane_shapes, values, strict=False)
        )
        assert (planes_to_rgb(planes, fmt) == expected).all()


def test_rgb_of_8_bit_comes_back_as_it_is_and_16_bit_is_scaled():
    rng = np.random.default_rng(0)
    planes = tuple(rng.integers(0, 256, (5, 3), np.uint8) for _ in range(3))
    fmt = PlaneFormat("rgb", 3, 5, full_range=True)
    np.testing.assert_array_equal(planes_to_rgb(planes, fmt), np.dstack(planes))
    wide = tuple(plane.astype(np.uint16) * 257 for plane in planes)
    fmt = PlaneFormat("rgb", 3, 5, 16, full_range=True)
    np.testing.assert_array_equal(planes_to_rgb(wide, fmt), np.dstack(planes))


@pytest.mark.parametrize("size", [(1, 1), (3, 5), (2, 7)])
@pytest.mark.parametrize("layout", ["yuv420", "yuv422", "yuv440"])
def test_odd_sizes(layout, size):
    fmt = PlaneFormat(layout, *size)
    planes = tuple(np.full(shape, 128, np.uint8) for shape in fmt.plane_shapes)
    assert planes_to_rgb(planes, fmt).shape == (size[1], size[0], 3)
