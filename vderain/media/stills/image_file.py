"""One image file: bytes to planes, and a frame to PNG bytes with its EXIF, ICC and XMP.

OpenCV reads the pixels. Metadata is read here, because OpenCV does not show whether a file was CMYK, turns (or
fails to turn) TIFF by its orientation tag, and drops text, gamma and resolution of PNG.
"""

from __future__ import annotations

import os
import struct
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np

from vderain.errors import SourceError
from vderain.frames import Frame, Plane, PlaneFormat

_PNG = b"\x89PNG\r\n\x1a\n"
_JPEG = b"\xff\xd8"
_IHDR_END = 33  # signature, then length, type, 13 bytes and checksum of the first chunk
_WEBP_ANIMATION = 0x02  # a flag in byte 20, in the extended header
_BYTE_ORDER = {b"II*\x00": "<", b"MM\x00*": ">"}
_XMP_MARKER = b"http://ns.adobe.com/xap/1.0/\x00"

# Chunks that describe the samples as the file stored them; OpenCV may store them differently.
_CHUNKS_OF_SAMPLES = {b"tRNS", b"bKGD", b"hIST", b"sBIT", b"sPLT", b"acTL", b"fcTL", b"fdAT"}

_ORIENTATION, _PHOTOMETRIC, _XMP, _EXIF_IFD, _ICC, _GPS_IFD = 274, 262, 700, 34665, 34675, 34853
_TIFF_COLOURS = {5: "CMYK", 8: "CIE L*a*b*", 9: "ICC L*a*b*", 10: "ITU L*a*b*"}

# EXIF orientation -> degrees counter-clockwise to upright. Orientations 2, 4, 5 and 7 are mirrored
# as well; the mirror is left out, since rain falls down in a mirrored image too.
_ROTATION = {3: 180, 4: 180, 5: 270, 6: 270, 7: 90, 8: 90}
_EXIF_OF_ROTATION = {90: 8, 180: 3, 270: 6}


@dataclass(frozen=True, slots=True)
class PngChunks:
    """Metadata of an image, as whole ancillary chunks of a PNG file."""

    data: bytes = b""


@dataclass(frozen=True, slots=True, eq=False)
class Image:
    """One decoded file: the fields of Frame, and ``losses``, which names metadata that was not read."""

    planes: tuple[Plane, ...]
    format: PlaneFormat
    alpha: Plane | None
    rotation: int
    chunks: PngChunks
    losses: tuple[str, ...]


def read_image(path: Path) -> Image:
    """Decode a PNG, JPEG, WebP, BMP or TIFF file; planes are gray or R, G, B, uint8 or uint16.

    Raises SourceError for a file that cannot be read, is damaged, or has samples of another kind.
    """
    try:
        data = path.read_bytes()
    except OSError as error:
        raise SourceError(f"{path}: cannot be read: {error.strerror}") from error
    tags = _first_directory(data)
    _refuse_other_colours(path, data, tags)
    pixels, kinds, blocks = _decode(_without_orientation(data, tags))
    if pixels is None:
        raise SourceError(f"{path}: not an image that can be read, or damaged")
    if pixels.dtype not in (np.uint8, np.uint16):
        raise SourceError(f"{path}: {pixels.dtype} samples; 8 and 16 bit can be derained")
    if data.startswith(_PNG):
        exif, chunks = _png_metadata(data)
    elif tags:
        exif, chunks = _tiff_metadata(data, tags)
    else:
        exif, chunks = _opencv_metadata(kinds, blocks)
    planes, alpha = _split(pixels)
    height, width = pixels.shape[:2]
    return Image(
        planes=planes,
        format=PlaneFormat(
            "gray" if len(planes) == 1 else "rgb",
            width,
            height,
            8 * pixels.dtype.itemsize,
            full_range=True,
        ),
        alpha=alpha,
        rotation=_ROTATION.get(_orientation(exif), 0),
        chunks=PngChunks(chunks),
        losses=tuple(_left_behind(path, data, tags)),
    )


def encode_png(frame: Frame) -> bytes:
    """A PNG file of a gray or RGB frame, alpha and metadata included.

    OpenCV writes no gray with alpha: such a frame becomes RGB with alpha, of equal samples.
    """
    planes = tuple(frame.planes)
    if frame.alpha is None:
        bands = planes if len(planes) == 1 else planes[::-1]  # OpenCV stores B, G, R
    else:
        colour = planes * 3 if len(planes) == 1 else planes
        bands = (*colour[::-1], frame.alpha)
    _, encoded = cv2.imencode(".png", cv2.merge([np.ascontiguousarray(band) for band in bands]))
    data: bytes = encoded.tobytes()
    return data[:_IHDR_END] + _chunks_of(frame) + data[_IHDR_END:]


def _chunks_of(frame: Frame) -> bytes:
    if isinstance(frame.metadata, PngChunks):
        return frame.metadata.data
    orientation = _EXIF_OF_ROTATION.get(frame.rotation % 360)
    return b"" if orientation is None else _chunk(b"eXIf", _minimal_exif(orientation))


def _decode(data: bytes) -> tuple[Plane | None, list[int], list[bytes]]:
    """(H, W) or (H, W, 3 or 4) samples in OpenCV's order, metadata types and blocks."""
    if not data:
        return None, [], []
    with _quiet_opencv():
        try:
            pixels, kinds, blocks = cv2.imdecodeWithMetadata(
                np.frombuffer(data, np.uint8), flags=cv2.IMREAD_UNCHANGED
            )
        except cv2.error:  # also raised for more pixels than OpenCV takes
            return None, [], []
    return pixels, [int(kind) for kind in kinds], [np.asarray(block).tobytes() for block in blocks]


@contextmanager
def _quiet_opencv() -> Iterator[None]:
    """Keep OpenCV from printing its own lines about a damaged file."""
    level = cv2.utils.logging.getLogLevel()
    cv2.utils.logging.setLogLevel(cv2.utils.logging.LOG_LEVEL_SILENT)
    try:
        yield
    finally:
        cv2.utils.logging.setLogLevel(level)


def _split(pixels: Plane) -> tuple[tuple[Plane, ...], Plane | None]:
    bands = cv2.split(pixels)
    if len(bands) == 1:
        return (bands[0],), None
    return (bands[2], bands[1], bands[0]), bands[3] if len(bands) == 4 else None


def _refuse_other_colours(path: Path, data: bytes, tags: dict[int, int]) -> None:
    """Raise SourceError: OpenCV converts CMYK and L*a*b* to RGB without a profile, with wrong colours."""
    colours = "CMYK" if data.startswith(_JPEG) and _jpeg_components(data) == 4 else None
    if _PHOTOMETRIC in tags:
        colours = _TIFF_COLOURS.get(_short(data, tags[_PHOTOMETRIC]))
    if colours is not None:
        raise SourceError(f"{path}: {colours} colours; convert it to RGB first")


def _jpeg_components(data: bytes) -> int:
    """The number of colour components in the first frame header, 0 where there is none."""
    position = 2
    while data[position : position + 1] == b"\xff" and position + 10 <= len(data):
        marker = data[position + 1]
        if 0xC0 <= marker <= 0xCF and marker not in (0xC4, 0xC8, 0xCC):
            return data[position + 9]
        position += 2 + int.from_bytes(data[position + 2 : position + 4], "big")
    return 0


def _first_directory(data: bytes) -> dict[int, int]:
    """Tag -> position of its entry in the first directory of TIFF data; empty for other data.

    EXIF blocks have the same structure. BigTIFF is not read: its tags stay unknown.
    """
    order = _BYTE_ORDER.get(data[:4])
    if order is None:
        return {}
    try:
        (start,) = struct.unpack_from(order + "I", data, 4)
        (count,) = struct.unpack_from(order + "H", data, start)
        entries = range(start + 2, start + 2 + 12 * count, 12)
        return {struct.unpack_from(order + "H10x", data, entry)[0]: entry for entry in entries}
    except struct.error:
        return {}


def _short(data: bytes, entry: int) -> int:
    value: int = struct.unpack_from(_BYTE_ORDER[data[:4]] + "H", data, entry + 8)[0]
    return value


def _bytes_of(data: bytes, entry: int) -> bytes:
    count, offset = struct.unpack_from(_BYTE_ORDER[data[:4]] + "II", data, entry + 4)
    return data[offset : offset + count]


def _orientation(exif: bytes) -> int:
    entry = _first_directory(exif).get(_ORIENTATION)
    return 1 if entry is None else _short(exif, entry)


def _without_orientation(data: bytes, tags: dict[int, int]) -> bytes:
    """A TIFF that OpenCV does not turn; it fails on those that it would turn by 90 degrees."""
    if _ORIENTATION not in tags:
        return data
    neutral = bytearray(data)
    struct.pack_into(_BYTE_ORDER[data[:4]] + "H", neutral, tags[_ORIENTATION] + 8, 1)
    return bytes(neutral)


def _png_metadata(data: bytes) -> tuple[bytes, bytes]:
    """The EXIF block and all ancillary chunks that are still right when the samples are stored again."""
    exif = b""
    kept = []
    position = len(_PNG)
    while position + 12 <= len(data):
        length, kind = struct.unpack_from(">I4s", data, position)
        end = position + 12 + length
        ancillary = bool(kind[0] & 0x20)  # a lower-case first letter: decoders may ignore it
        if kind == b"IEND" or end > len(data):
            break
        if ancillary and kind not in _CHUNKS_OF_SAMPLES:
            kept.append(data[position:end])
        if kind == b"eXIf":
            exif = data[position + 8 : end - 4]
        position = end
    return exif, b"".join(kept)


def _tiff_metadata(data: bytes, tags: dict[int, int]) -> tuple[bytes, bytes]:
    orientation = _short(data, tags[_ORIENTATION]) if _ORIENTATION in tags else 1
    exif = _minimal_exif(orientation) if orientation != 1 else b""
    icc = _bytes_of(data, tags[_ICC]) if _ICC in tags else b""
    xmp = _bytes_of(data, tags[_XMP]) if _XMP in tags else b""
    return exif, _metadata_chunks(exif, icc, xmp)


def _opencv_metadata(kinds: list[int], blocks: list[bytes]) -> tuple[bytes, bytes]:
    found = dict(zip(kinds, blocks, strict=True))
    exif = found.get(cv2.IMAGE_METADATA_EXIF, b"").removeprefix(b"Exif\x00\x00")
    icc = found.get(cv2.IMAGE_METADATA_ICCP, b"")
    xmp = found.get(cv2.IMAGE_METADATA_XMP, b"").removeprefix(_XMP_MARKER)
    return exif, _metadata_chunks(exif, icc, xmp)


def _metadata_chunks(exif: bytes, icc: bytes, xmp: bytes) -> bytes:
    chunks = b""
    if icc:
        chunks += _chunk(b"iCCP", b"ICC profile\x00\x00" + zlib.compress(icc))
    if exif:
        chunks += _chunk(b"eXIf", exif)
    if xmp:
        chunks += _chunk(b"iTXt", b"XML:com.adobe.xmp" + b"\x00" * 5 + xmp)
    return chunks


def _chunk(kind: bytes, payload: bytes) -> bytes:
    checksum = zlib.crc32(kind + payload)
    return struct.pack(">I", len(payload)) + kind + payload + struct.pack(">I", checksum)


def _minimal_exif(orientation: int) -> bytes:
    return struct.pack(">4sIHHHIHHI", b"MM\x00*", 8, 1, _ORIENTATION, 3, 1, orientation, 0, 0)


def _left_behind(path: Path, data: bytes, tags: dict[int, int]) -> Iterator[str]:
    if _EXIF_IFD in tags or _GPS_IFD in tags:
        yield f"{path}: of the EXIF tags of a TIFF file only the orientation is carried over"
    pages = _count_images(path) if _may_hold_several(data) else 1
    if pages > 1:
        yield f"{path}: only the first of {pages} images in this file is derained"


def _may_hold_several(data: bytes) -> bool:
    """Whether this is a TIFF (BigTIFF too), or an animated PNG or WebP."""
    if data.startswith(_PNG):
        return b"acTL" in data[: data.find(b"IDAT")]
    if data.startswith(b"RIFF"):
        return data[12:16] == b"VP8X" and bool(data[20] & _WEBP_ANIMATION)
    return data[:2] in (b"II", b"MM")


def _count_images(path: Path) -> int:
    """The number of images in a file; OpenCV counts only in files, and takes names that are not UTF-8 as bytes."""
    with _quiet_opencv():
        try:
            return cv2.imcount(os.fsencode(path), cv2.IMREAD_UNCHANGED)  # type: ignore[arg-type]  # takes bytes
        except cv2.error:
            return 1
