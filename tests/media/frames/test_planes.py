import av
import numpy as np
import pytest

from vderain.frames import ColorTags, PlaneFormat
from vderain.media.frames.planes import PlaneReader, PlaneWriter, Target, carrier_of


def image(pix_fmt, width=18, height=10, seed=0):
    """Noise in every byte that the format uses."""
    made = av.VideoFrame(width, height, pix_fmt)
    random = np.random.default_rng(seed)
    bits = max(component.bits for component in made.format.components)
    for plane in made.planes:
        if bits > 8:
            words = np.frombuffer(plane, np.uint16)
            words[:] = random.integers(0, 1 << bits, words.size)
            if pix_fmt.startswith("p0"):
                words[:] = words << (16 - bits)
        else:
            octets = np.frombuffer(plane, np.uint8)
            octets[:] = random.integers(0, 256, octets.size)
    return made


def rows(made, index, dtype=np.uint8):
    plane = made.planes[index]
    flat = np.frombuffer(plane, dtype)
    return flat.reshape(-1, plane.line_size // flat.itemsize)


NATIVE = [
    *("yuv420p", "yuv422p", "yuv440p", "yuv444p", "yuvj420p", "yuvj422p", "yuvj444p", "gray"),
    *("yuv420p10le", "yuv422p12le", "yuv444p16le", "gray10le", "gbrp", "gbrp12le"),
    *("yuva420p", "yuva444p10le", "gbrap", "gbrap10le"),
]


@pytest.mark.parametrize("pix_fmt", NATIVE)
@pytest.mark.parametrize("size", [(18, 10), (17, 9), (1, 1)])
def test_planar_formats_pass_without_a_copy_and_come_back(pix_fmt, size):
    made = image(pix_fmt, *size)
    reader = PlaneReader()

    planes, alpha, layout = reader.read(made, ColorTags())
    plain = pix_fmt.replace("yuvj", "yuv")
    back = PlaneWriter(Target(plain, *size)).write(planes, alpha, layout)

    assert reader.note == ""
    assert not any(plane.flags.owndata for plane in planes)
    again, alpha_again, _ = PlaneReader().read(back, ColorTags())
    assert all(map(np.array_equal, planes, again))
    assert (alpha is None) == (alpha_again is None)
    assert alpha is None or np.array_equal(alpha, alpha_again)


def test_rgb_planes_come_in_the_order_red_green_blue():
    made = av.VideoFrame.from_ndarray(np.full((4, 4, 3), (10, 20, 30), np.uint8), format="rgb24")
    for source in (made, made.reformat(format="gbrp")):
        planes, _, layout = PlaneReader().read(source, ColorTags())
        assert [plane[0, 0] for plane in planes] == [10, 20, 30]
        assert layout == PlaneFormat("rgb", 4, 4, 8, "bt601", True)


@pytest.mark.parametrize(
    ("pix_fmt", "dtype", "shift"), [("nv12", np.uint8, 0), ("p010le", np.uint16, 6)]
)
def test_interleaved_chroma_is_taken_apart_without_loss(pix_fmt, dtype, shift):
    made = image(pix_fmt)
    reader = PlaneReader()

    planes, _, layout = reader.read(made, ColorTags())

    chroma = rows(made, 1, dtype)[:5, :18] >> shift
    assert np.array_equal(planes[0], rows(made, 0, dtype)[:10, :18] >> shift)
    assert np.array_equal(planes[1], chroma[:, 0::2])
    assert np.array_equal(planes[2], chroma[:, 1::2])
    assert layout.layout == "yuv420" and reader.note == ""


@pytest.mark.parametrize(
    ("pix_fmt", "layout", "depth", "alpha"),
    [
        ("yuv411p", "yuv422", 8, False),
        ("yuv410p", "yuv420", 8, False),
        ("rgb24", "rgb", 8, False),
        ("bgr0", "rgb", 8, False),
        ("pal8", "rgb", 8, True),
        ("rgba", "rgb", 8, True),
        ("rgb48le", "rgb", 16, False),
        ("ya8", "gray", 8, True),
        ("monow", "gray", 8, False),
        ("yuv420p9le", "yuv420", 9, False),
    ],
)
def test_other_formats_become_the_nearest_and_are_named(pix_fmt, layout, depth, alpha):
    reader = PlaneReader()

    planes, transparency, found = reader.read(image(pix_fmt), ColorTags())

    assert (found.layout, found.bit_depth) == (layout, depth)
    assert (transparency is not None) == alpha
    assert [plane.shape for plane in planes] == list(found.plane_shapes)
    named = pix_fmt != "yuv420p9le"
    assert (pix_fmt in reader.note) == named


def test_gray_with_alpha_keeps_both_exactly():
    made = image("ya8")
    planes, alpha, _ = PlaneReader().read(made, ColorTags(range=2))
    pairs = rows(made, 0)[:10, :36]
    assert np.array_equal(planes[0], pairs[:, 0::2])
    assert np.array_equal(alpha, pairs[:, 1::2])


@pytest.mark.parametrize("span", [1, 2])
def test_conversion_keeps_the_range(span):
    made = image("yuv411p")
    made.color_range = span
    planes, _, _ = PlaneReader().read(made, ColorTags(range=span))
    assert np.array_equal(planes[0], rows(made, 0)[:10, :18])


def test_big_endian_is_the_same_image():
    little = image("yuv420p10le")
    big = little.reformat(format="yuv420p10be", src_color_range=1, dst_color_range=1)
    planes, _, _ = PlaneReader().read(little, ColorTags())
    swapped, _, _ = PlaneReader().read(big, ColorTags())
    assert all(map(np.array_equal, planes, swapped))


def test_ten_bits_are_packed_for_hardware_exactly():
    made = image("p010le")
    planes, alpha, layout = PlaneReader().read(made, ColorTags())
    back = PlaneWriter(Target("p010le", 18, 10)).write(planes, alpha, layout)
    for index in (0, 1):
        height = 10 >> index
        assert np.array_equal(
            rows(back, index, np.uint16)[:height, :18], rows(made, index, np.uint16)[:height, :18]
        )


def test_a_carrier_is_its_own_carrier():
    for name in NATIVE:
        assert carrier_of(name).pix_fmt == name
