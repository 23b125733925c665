"""Converts between PyAV's images and planes: views when reading, one copy per plane when writing."""

from __future__ import annotations

import functools
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import av
import numpy as np
from av.video.reformatter import VideoReformatter

from vderain.errors import SourceError
from vderain.frames import (
    SUBSAMPLING,
    ColorTags,
    DevicePlanes,
    Layout,
    Plane,
    PlaneFormat,
    network_matrix,
)
from vderain.media.frames.color import FULL_RANGE, side_data_of

_PLANAR = re.compile(r"(yuvj?|yuva|gray|gbr|gbra)(420|422|440|444)?p?(9|10|12|14|16)?(?:le)?")
_LIMITED_RANGE = 1
_BT709 = 1
SURFACES = {8: "nv12", 10: "p010le"}  # bit depth -> how GPUs lay out a 4:2:0 image
_BLOCK = 16  # pixels; a size that every subsampling divides
# Formats with the same samples in another order; reports do not mention their conversion.
_REPACKED = re.compile(r"(nv12|nv16|nv24|p[024]1[0-6]|yuyv422|uyvy422|yvyu422|y210|.*be)(le|be)?")


def display_matrix(image: av.VideoFrame) -> tuple[int, ...] | None:
    """FFmpeg's nine integers of the display matrix; None where an image has none."""
    for data in side_data_of(image):
        if data.type.name == "DISPLAYMATRIX":
            return tuple(memoryview(bytes(data)).cast("i"))
    return None


@dataclass(frozen=True, slots=True)
class Carrier:
    """A pixel format whose planes a Frame can hold.

    ``order`` has the indices of FFmpeg's planes for the frame's planes; ``alpha`` is the plane of transparency,
    or None.
    """

    pix_fmt: str
    layout: Layout
    bit_depth: int
    order: tuple[int, ...]
    alpha: int | None = None


def pix_fmt_name(layout: Layout, bit_depth: int, *, alpha: bool = False) -> str:
    """FFmpeg's name of a planar pixel format."""
    suffix = "" if bit_depth == 8 else f"{bit_depth}le"
    if layout == "gray":
        return f"gray{suffix}"
    if layout == "rgb":
        return f"gbr{'a' * alpha}p{suffix}"
    return f"yuv{'a' * alpha}{layout.removeprefix('yuv')}p{suffix}"


def carrier_of(name: str) -> Carrier:
    """The format itself where it is planar, little-endian, of 8 to 16 bits; else the nearest."""
    return _planar(name) or _nearest(av.VideoFormat(name, _BLOCK, _BLOCK))


def _planar(name: str) -> Carrier | None:
    match = _PLANAR.fullmatch(name)
    if match is None:
        return None
    family, subsampling, depth = match[1], match[2], int(match[3] or 8)
    if family == "gray":
        return Carrier(name, "gray", depth, (0,))
    alpha = 3 if family in ("yuva", "gbra") else None
    if family in ("gbr", "gbra"):
        return Carrier(name, "rgb", depth, (2, 0, 1), alpha)
    layouts: dict[str, Layout] = {layout[3:]: layout for layout in SUBSAMPLING if "yuv" in layout}
    return Carrier(name, layouts[subsampling], depth, (0, 1, 2), alpha)


def _nearest(pixels: av.VideoFormat) -> Carrier:
    bits = max(component.bits for component in pixels.components)
    depth = next((depth for depth in (8, 10, 12) if bits <= depth), 16)
    alpha = pixels.has_palette or any(component.is_alpha for component in pixels.components)
    layout = _nearest_layout(pixels)
    if layout == "gray" and alpha:  # no planar gray with alpha: its Y and A in a 4:4:4 image
        name = pix_fmt_name("yuv444", depth, alpha=True)
        return Carrier(name, "gray", depth, (0,), 3)
    found = _planar(pix_fmt_name(layout, depth, alpha=alpha))
    assert found is not None  # the name was made from the parts that are asked for
    return found


def _nearest_layout(pixels: av.VideoFormat) -> Layout:
    if pixels.is_rgb or pixels.has_palette or pixels.is_bayer or pixels.name.startswith("xyz"):
        return "rgb"
    chroma = next((component for component in pixels.components if component.is_chroma), None)
    if chroma is None:
        return "gray"
    fits: dict[tuple[bool, bool], Layout] = {
        (True, True): "yuv420",
        (True, False): "yuv422",
        (False, True): "yuv440",
        (False, False): "yuv444",
    }
    return fits[chroma.width < _BLOCK, chroma.height < _BLOCK]


class Scaler:
    """libswscale with one context for all images, since every context holds memory of its own."""

    def __init__(self) -> None:
        self._reformatter = VideoReformatter()

    def repacked(self, image: av.VideoFrame, pix_fmt: str, span: int) -> av.VideoFrame:
        """The image in another pixel format; ``span``, its range, is kept; 0 is limited."""
        span = span or _LIMITED_RANGE
        return self.convert(image, format=pix_fmt, src_color_range=span, dst_color_range=span)

    def convert(self, image: av.VideoFrame, **wanted: Any) -> av.VideoFrame:
        """The image in another format or range, with the arguments of ``VideoFrame.reformat``."""
        # Several threads would overwrite each other's first rows, since rows have too little padding.
        return self._reformatter.reformat(image, threads=1, **wanted)


def pix_fmt_of(image: av.VideoFrame) -> str:
    """The pixel format of an image's samples, also of an image on a GPU."""
    return image.format.name if image.sw_format is None else image.sw_format.name


def as_device_planes(
    image: av.VideoFrame, layout: PlaneFormat, download: Callable[[], tuple[Plane, ...]]
) -> DevicePlanes | None:
    """The planes of a decoded image on the GPU; None where they must be copied to the host.

    They must be for an image in host memory, for other layouts than NV12 and P010, and for odd sizes, whose last
    chroma samples PyAV leaves out.
    """
    if image.sw_format is None or image.sw_format.name != SURFACES.get(layout.bit_depth):
        return None
    if layout.width % 2 or layout.height % 2:
        return None
    luma, chroma = image.planes
    return DevicePlanes(layout, luma, chroma, luma.__dlpack_device__(), download)


class PlaneReader:
    """Converts decoded images to planes.

    ``note`` names the conversion, "" for none. ``on_copy`` is called, by any thread, for every image that is
    copied from a GPU, which may be long after it was read.
    """

    def __init__(self, on_copy: Callable[[], None] = lambda: None) -> None:
        self.note = ""
        self._on_copy = on_copy
        self._scaler = Scaler()

    def read(
        self, image: av.VideoFrame, tags: ColorTags
    ) -> tuple[Sequence[Plane], Plane | None, PlaneFormat]:
        """Planes (H, W), alpha (H, W) or None, and their format; read-only views where possible.

        An image on a GPU stays there where that is possible.
        """
        name = pix_fmt_of(image)
        carrier = carrier_of(name)
        layout = PlaneFormat(
            carrier.layout,
            image.width,
            image.height,
            carrier.bit_depth,
            network_matrix(tags.matrix, image.height),
            carrier.layout == "rgb" or tags.range == FULL_RANGE,
        )
        download = functools.partial(self._downloaded, image, carrier, tags, layout)
        on_device = as_device_planes(image, layout, download)
        if on_device is not None:
            return on_device, None, layout
        if image.sw_format is not None or carrier.pix_fmt != name:
            self.note = conversion_note(name, carrier) or self.note
            if image.sw_format is not None:
                self._on_copy()
            image = self._scaler.repacked(image, carrier.pix_fmt, tags.range)
        planes = _planes(image, carrier, layout)
        luma = (layout.height, layout.width)
        alpha = None
        if carrier.alpha is not None:
            alpha = _samples(image, carrier.alpha, luma, layout.dtype)
        return planes, alpha, layout

    def _downloaded(
        self, image: av.VideoFrame, carrier: Carrier, tags: ColorTags, layout: PlaneFormat
    ) -> tuple[Plane, ...]:
        """The planes of an image on a GPU, copied to the host; any thread may call it."""
        self._on_copy()
        try:
            host = Scaler().repacked(image, carrier.pix_fmt, tags.range)
        except av.FFmpegError as error:
            raise SourceError(
                f"a decoded image cannot be fetched from the GPU ({error.strerror});"
                " use decoder='software'"
            ) from error
        return _planes(host, carrier, layout)


def _planes(image: av.VideoFrame, carrier: Carrier, layout: PlaneFormat) -> tuple[Plane, ...]:
    return tuple(
        _samples(image, index, shape, layout.dtype)
        for index, shape in zip(carrier.order, layout.plane_shapes, strict=True)
    )


def conversion_note(name: str, carrier: Carrier) -> str:
    """The note on a conversion, "" where samples are at most rearranged."""
    if _REPACKED.fullmatch(name) and carrier == carrier_of(name):
        return ""
    alpha = " with alpha" if carrier.alpha is not None else ""
    return f"pixel format {name} was converted to {carrier.layout}, {carrier.bit_depth} bit{alpha}"


def _samples(
    image: av.VideoFrame, index: int, shape: tuple[int, int], dtype: np.dtype[Any]
) -> Plane:
    """A view (H, W) of the visible part of one of FFmpeg's planes; it keeps the image alive."""
    plane: Any = image.planes[index]
    rows: Plane = np.frombuffer(plane, dtype).reshape(-1, plane.line_size // dtype.itemsize)
    view = rows[: shape[0], : shape[1]]
    view.flags.writeable = False  # decoders still read from images that they returned
    return view


@dataclass(frozen=True, slots=True)
class Target:
    """The input of an encoder: pixel format, and a size of at least the frame's."""

    pix_fmt: str
    width: int
    height: int


class PlaneWriter:
    """Converts planes to images of one format; copies where the encoder takes the layout."""

    def __init__(self, target: Target) -> None:
        self._target = target
        self._carrier = carrier_of(target.pix_fmt)
        self._scaler = Scaler()

    def write(
        self, planes: Sequence[Plane], alpha: Plane | None, layout: PlaneFormat
    ) -> av.VideoFrame:
        """An image of the target's size; rows and columns beyond the frame repeat the last."""
        if layout.layout == "gray" and self._carrier.layout != "gray":
            planes, layout = _with_neutral_chroma(planes, layout)
        with_alpha = self._carrier.alpha is not None and alpha is not None
        name = pix_fmt_name(layout.layout, layout.bit_depth, alpha=with_alpha)
        image = av.VideoFrame(self._target.width, self._target.height, name)
        sources = (*planes, alpha) if alpha is not None and with_alpha else planes
        places = _planar(name)
        assert places is not None  # every name that pix_fmt_name makes is planar
        order = (*places.order, 3) if with_alpha else places.order
        for index, samples in zip(order, sources, strict=True):
            _fill(image, index, samples)
        return self._converted(image, layout)

    def _converted(self, image: av.VideoFrame, layout: PlaneFormat) -> av.VideoFrame:
        if image.format.name == self._target.pix_fmt:
            return image
        span = FULL_RANGE if layout.full_range else _LIMITED_RANGE
        if layout.layout != "rgb" or self._carrier.layout == "rgb":
            return self._scaler.convert(
                image, format=self._target.pix_fmt, src_color_range=span, dst_color_range=span
            )
        return self._scaler.convert(
            image,
            format=self._target.pix_fmt,
            dst_colorspace=_BT709,
            src_color_range=FULL_RANGE,
            dst_color_range=_LIMITED_RANGE,
        )


def tags_after(tags: ColorTags, layout: PlaneFormat, pix_fmt: str) -> ColorTags:
    """The tags to write: unchanged, but RGB that becomes YUV is BT.709, limited range."""
    if layout.layout == "rgb" and carrier_of(pix_fmt).layout != "rgb":
        return replace(tags, range=_LIMITED_RANGE, matrix=_BT709)
    return tags


def _with_neutral_chroma(
    planes: Sequence[Plane], layout: PlaneFormat
) -> tuple[tuple[Plane, ...], PlaneFormat]:
    colour = replace(layout, layout="yuv420")
    neutral = np.full(colour.plane_shapes[1], 1 << (layout.bit_depth - 1), layout.dtype)
    return (*planes, neutral, neutral), colour


def _fill(image: av.VideoFrame, index: int, samples: Plane) -> None:
    plane: Any = image.planes[index]
    rows: Plane = np.frombuffer(plane, samples.dtype)
    rows = rows.reshape(-1, plane.line_size // samples.dtype.itemsize)
    height, width = samples.shape
    place = rows[: plane.height, : plane.width]
    place[:height, :width] = samples
    place[:height, width:] = samples[:, -1:]
    place[height:] = place[height - 1]
