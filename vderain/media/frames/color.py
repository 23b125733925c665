"""Colour description and HDR metadata: read from decoded images, written to encoders."""

from __future__ import annotations

import io
import struct
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import av
from av.sidedata.sidedata import SideDataContainer, Type

from vderain.frames import ColorTags

FULL_RANGE = 2
_HDR_TRANSFERS = {16: "PQ (HDR10)", 18: "HLG"}
# Chroma siting in a Matroska header, (horizontal, vertical) -> FFmpeg's code point.
_SITING = {(1, 2): 1, (2, 2): 2, (1, 1): 3, (2, 1): 4}
_NOT_WRITTEN = {
    "DYNAMIC_HDR_PLUS": "HDR10+ dynamic metadata",
    "DYNAMIC_HDR_VIVID": "HDR Vivid dynamic metadata",
    "DOVI_METADATA": "Dolby Vision metadata",
    "DOVI_RPU_BUFFER": "Dolby Vision metadata",
    "AMBIENT_VIEWING_ENVIRONMENT": "ambient viewing environment of HDR",
    "ICC_PROFILE": "colour profile (ICC) inside the video stream",
    "DETECTION_BBOXES": "boxes around detected objects inside the video stream",
}
# Kinds that PyAV has no name for.
_UNNAMED = {28: "LCEVC enhancement", 29: "number of the view", 30: "3D displays", 31: "EXIF"}
_WRITES_MASTERING = ("libx265", "libsvtav1")


@dataclass(frozen=True, slots=True)
class Mastering:
    """Static HDR metadata as integers of the bitstream.

    ``display`` holds x and y of red, green, blue and white in units of 0.00002, then the largest
    and the smallest luminance in 0.0001 cd/m2; ``light`` the largest and the average content light
    level in cd/m2.
    """

    display: tuple[int, ...] | None = None
    light: tuple[int, int] | None = None


def color_tags(image: av.VideoFrame, chroma_location: int) -> ColorTags:
    """The colour description of a decoded image as code points."""
    full = image.format.name.startswith("yuvj")
    return ColorTags(
        range=FULL_RANGE if full else int(image.color_range),
        matrix=int(image.colorspace),
        primaries=int(image.color_primaries),
        transfer=int(image.color_trc),
        chroma_location=chroma_location,
    )


def hdr_name(tags: ColorTags) -> str | None:
    """The kind of HDR by the transfer function; None for SDR."""
    return _HDR_TRANSFERS.get(tags.transfer)


def chroma_location(stream: Any) -> int:
    """The position of chroma samples as FFmpeg's code point, 0 where unknown.

    PyAV 18 shows it neither on frames nor on streams, but its Matroska muxer writes it into the header:
    ChromaSitingHorz and ChromaSitingVert, one byte each.
    """
    buffer = io.BytesIO()
    try:
        with av.open(buffer, "w", format="matroska") as container:
            container.add_stream_from_template(stream, opaque=True)
            container.start_encoding()
    except (av.FFmpegError, ValueError):
        return 0
    header = buffer.getvalue()
    horizontal, vertical = header.find(b"\x55\xb7\x81"), header.find(b"\x55\xb8\x81")
    if horizontal < 0 or vertical < 0:
        return 0
    return _SITING.get((header[horizontal + 3], header[vertical + 3]), 0)


def side_data_of(image: Any) -> list[Any]:
    """The side data of an image.

    ``image.side_data`` keeps the list, which refers to the image in turn: both stay in memory until the
    garbage collector runs, which may be after hundreds of images.
    """
    return [data for data in _read_side_data(image) if _unnamed(data) is None]


def _read_side_data(image: Any) -> list[Any]:
    """With what stands before, and is, the first of a kind that PyAV has no name for; it reads no further."""
    container: Any = SideDataContainer.__new__(SideDataContainer)
    with suppress(ValueError):
        container.__init__(image)
    return list(container)


def _unnamed(data: Any) -> str | None:
    """What people call side data that PyAV has no name for; None where it has one."""
    try:
        return None if data.type else ""
    except ValueError as error:
        number = int(str(error).split()[0])
        return _UNNAMED.get(number, f"side data of kind {number}")


def mastering(image: Any) -> Mastering:
    """Mastering display and content light level from an image's side data."""
    display = light = None
    for data in side_data_of(image):
        if data.type == Type.MASTERING_DISPLAY_METADATA:
            display = _display(bytes(data))
        elif data.type == Type.CONTENT_LIGHT_LEVEL:
            light = struct.unpack_from("=II", bytes(data))
    return Mastering(display, light)


def _display(data: bytes) -> tuple[int, ...] | None:
    """From AVMasteringDisplayMetadata: ten fractions, then two flags, for colours and luminance."""
    numbers = struct.unpack_from("=22i", data)
    fractions, known = numbers[:20], numbers[20:]
    if not all(known) or not all(fractions[1::2]):
        return None
    values = [n / d for n, d in zip(fractions[::2], fractions[1::2], strict=True)]
    colours, (darkest, brightest) = values[:8], values[8:]
    return (
        *(round(value * 50_000) for value in colours),
        round(brightest * 10_000),
        round(darkest * 10_000),
    )


def side_data_losses(image: Any, side_data: Iterable[Any]) -> list[str]:
    """Losses: side data of a decoded image that cannot be written again; ``side_data`` is what can be read of it."""
    kinds = {data.type.name for data in side_data}
    unnamed = (name for data in _read_side_data(image) if (name := _unnamed(data)) is not None)
    lost = {text for kind, text in _NOT_WRITTEN.items() if kind in kinds}
    return sorted(
        lost | {f"{name} of each frame, and what FFmpeg lists behind it" for name in unnamed}
    )


def mastering_losses(hdr: Mastering, encoder: str) -> list[str]:
    """Losses of static HDR metadata in the output of FFmpeg's encoder of this name."""
    if hdr == Mastering() or encoder in _WRITES_MASTERING:
        return []
    return [f"mastering display and light level: {encoder} cannot write them, hevc and av1 can"]


def x265_parameters(hdr: Mastering) -> list[str]:
    """Static HDR metadata in the syntax of x265."""
    words = []
    if hdr.display:
        rx, ry, gx, gy, bx, by, wx, wy, brightest, darkest = hdr.display
        words.append(
            f"master-display=G({gx},{gy})B({bx},{by})R({rx},{ry})WP({wx},{wy})"
            f"L({brightest},{darkest})"
        )
    if hdr.light:
        words.append(f"max-cll={hdr.light[0]},{hdr.light[1]}")
    return words


def svt_parameters(hdr: Mastering) -> list[str]:
    """Static HDR metadata in the syntax of SVT-AV1, which takes decimal numbers."""
    words = []
    if hdr.display:
        x = [value / 50_000 for value in hdr.display[:8]]
        brightest, darkest = (value / 10_000 for value in hdr.display[8:])
        words.append(
            f"mastering-display=G({x[2]},{x[3]})B({x[4]},{x[5]})R({x[0]},{x[1]})"
            f"WP({x[6]},{x[7]})L({brightest},{darkest})"
        )
    if hdr.light:
        words.append(f"content-light={hdr.light[0]},{hdr.light[1]}")
    return words
