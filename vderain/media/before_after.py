"""Small JPEG images of a moment of a video before and after, for reports."""

from __future__ import annotations

from contextlib import closing

import cv2
import numpy as np

from vderain.clips import turned
from vderain.errors import SourceError
from vderain.frames import Frame
from vderain.media import open_source
from vderain.media.frames.rgb import Image, planes_to_rgb
from vderain.options import EncodeOptions, RunOptions

_QUALITY = [cv2.IMWRITE_JPEG_QUALITY, 82]
# Video that a run would refuse can still be shown.
_ANYTHING = EncodeOptions(hdr="keep", interlaced="deinterlace")


def before_and_after(
    rainy: str, dry: str, at_s: float, *, width_px: int = 360
) -> tuple[bytes, bytes]:
    """JPEG files of the first frame at or after ``at_s``, counted from the beginning, in both videos.

    Where one video has no such frame, both show their first one. Images are upright with square pixels, at
    most ``width_px`` wide and twice as high. Raises SourceError.
    """
    try:
        images = [_frame_at(path, at_s) for path in (rainy, dry)]
    except SourceError:
        if not at_s:
            raise
        images = [_frame_at(path, 0.0) for path in (rainy, dry)]
    before, after = (_jpeg(_small(image, width_px)) for image in images)
    return before, after


def _jpeg(image: Image) -> bytes:
    data: bytes = cv2.imencode(".jpg", image[..., ::-1], _QUALITY)[1].tobytes()
    return data


def _frame_at(path: str, at_s: float) -> Image:
    """Upright, (H, W, 3) uint8 RGB, with square pixels."""
    run = RunOptions(start_s=max(0.0, at_s))
    with closing(open_source(path, run=run, encode=_ANYTHING)) as source:
        frame = next((item for item in source if isinstance(item, Frame)), None)
        shape = source.info.sample_aspect_ratio
    if frame is None:
        raise SourceError(f"{path}: not one image can be decoded")
    turns = frame.rotation // 90
    image = planes_to_rgb(turned(frame.planes, turns), frame.format.rotated(turns))
    height, width = image.shape[:2]
    # The pixel shape is that of the stored image, before it is turned.
    size = (width, round(height * shape)) if turns % 2 else (round(width * shape), height)
    return image if size == (width, height) else _resized(image, size)


def _small(image: Image, width_px: int) -> Image:
    height, width = image.shape[:2]
    scale = min(1.0, width_px / width, 2 * width_px / height)
    return _resized(image, (round(width * scale), round(height * scale))) if scale < 1 else image


def _resized(image: Image, size: tuple[int, int]) -> Image:
    width, height = (max(1, length) for length in size)
    resized = cv2.resize(image, (width, height), interpolation=cv2.INTER_AREA)
    return np.asarray(resized, np.uint8)
