"""Image files for tests of sources and sinks."""

import base64
import struct
import zlib

import cv2
import numpy as np

from vderain.media.stills.sink import ImageSink
from vderain.media.stills.source import ImageSource
from vderain.options import EncodeOptions, RunOptions

# A header that libpng accepts (size, kind, colour space, signature, D50 white), no tags, and some
# filling, since libpng drops profiles that compress to very little.
ICC = struct.pack(
    ">I4xI4s4s4s12x4s28xIII48xI",
    *(388, 0x04400000, b"mntr", b"RGB ", b"XYZ ", b"acsp", 0xF6D6, 0x10000, 0xD32D, 0),
) + bytes(range(256))
CMYK_JPEG = base64.b64decode(
    "/9j/4AAQSkZJRgABAQAAAQABAAD/2wBDAP//////////////////////////////////////////////////"
    "////////////////////////////////////wAAUCAABAAEEQxEATREAWREASxEA/8QAHwAAAQUBAQEBAQEA"
    "AAAAAAAAAAECAwQFBgcICQoL/9oADgRDAE0AWQBLAAA/AA=="
)


def noise(shape, dtype=np.uint8, seed=0):
    return np.random.default_rng(seed).integers(0, np.iinfo(dtype).max, shape, dtype, endpoint=True)


def swapped(pixels):
    """R, G, B as B, G, R and back, with or without alpha."""
    return pixels[..., [2, 1, 0, 3][: pixels.shape[2]]] if pixels.ndim == 3 else pixels


def exif(orientation, order=">"):
    mark = b"MM\x00*" if order == ">" else b"II*\x00"
    return mark + struct.pack(order + "IHHHIHHI", 8, 1, 274, 3, 1, orientation, 0, 0)


def write(path, pixels, **blocks):
    """Write RGB(A) or gray samples with metadata blocks; the extension chooses the format."""
    stored = np.ascontiguousarray(swapped(pixels))
    names = {"exif": cv2.IMAGE_METADATA_EXIF, "icc": cv2.IMAGE_METADATA_ICCP}
    kinds = np.array([names[name] for name in blocks], np.int32)
    payloads = [np.frombuffer(block, np.uint8) for block in blocks.values()]
    parameters = [cv2.IMWRITE_WEBP_QUALITY, 101] if path.suffix == ".webp" else []
    assert cv2.imwriteWithMetadata(str(path), stored, kinds, payloads, parameters)


def tiff(path, pixels, tags):
    """Write 8 bit RGB samples as a little-endian TIFF with extra tags {tag: short or bytes}."""
    height, width = pixels.shape[:2]
    tags = {
        256: width,
        257: height,
        258: 8,
        259: 1,
        262: 2,
        277: pixels.shape[2],
        278: height,
    } | tags
    data = bytearray(b"II*\x00\x00\x00\x00\x00" + pixels.tobytes())
    entries = [struct.pack("<HHII", 273, 4, 1, 8), struct.pack("<HHII", 279, 4, 1, pixels.nbytes)]
    for tag, value in tags.items():
        if isinstance(value, bytes):
            entries.append(struct.pack("<HHII", tag, 7, len(value), len(data)))
            data += value
        else:
            entries.append(struct.pack("<HHIHH", tag, 3, 1, value, 0))
    struct.pack_into("<I", data, 4, len(data))
    path.write_bytes(
        data + struct.pack("<H", len(entries)) + b"".join(sorted(entries, key=_tag)) + bytes(4)
    )


def _tag(entry):
    return struct.unpack_from("<H", entry)


def chunk(kind, payload):
    return (
        struct.pack(">I", len(payload))
        + kind
        + payload
        + struct.pack(">I", zlib.crc32(kind + payload))
    )


def source(path, **run):
    return ImageSource(str(path), run=RunOptions(**run))


def copy(inputs, output, **options):
    """Send every image of ``inputs`` to ``output``; the report and the source."""
    frames = source(inputs)
    sink = ImageSink(str(output), frames, EncodeOptions(**options))
    for frame in frames:
        sink.write(frame)
    return sink.finish(), frames


def only_frame(path):
    (frame,) = source(path)
    return frame


def rgb(frame):
    return np.dstack(frame.planes)


def files(folder):
    return sorted(entry.name for entry in folder.iterdir())
