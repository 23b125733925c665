"""The newest frame of a camera, before and after, as images for the page."""

from __future__ import annotations

import threading
import time
from dataclasses import dataclass, replace
from fractions import Fraction

import cv2
import numpy as np

from vderain.frames import Frame, PlaneFormat
from vderain.media.frames.rgb import Image, planes_to_rgb
from vderain.media.live.types import LiveFrame

WIDTHS = (320, 640, 960, 1280)
_QUALITY = 85
_STILL_S = 1.0  # a still is served for this long: no other request costs as much


@dataclass(frozen=True, slots=True, eq=False)
class Pair:
    """The rainy and the dry image of one frame; ``number`` counts the frames emitted so far."""

    number: int
    frame: LiveFrame


class Preview:
    """Holds the newest pair; images are made in the thread that asks for them."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._pair: Pair | None = None
        self._stacked: tuple[int, int, bytes] = (-1, 0, b"")
        self._making_still = threading.Lock()
        self._still: tuple[float, bytes] | None = None  # with the time when it was made

    def put(self, frame: LiveFrame) -> None:
        """Set the newest frame."""
        with self._lock:
            number = self._pair.number + 1 if self._pair is not None else 1
            self._pair = Pair(number, frame)

    @property
    def pair(self) -> Pair | None:
        """The newest pair; None before the first frame."""
        return self._pair

    def stacked_jpeg(self, pair: Pair, width: int) -> bytes:
        """The rainy image above the dry one in one JPEG, at most ``width`` pixels wide."""
        number, kept, data = self._stacked
        if (number, kept) == (pair.number, width):
            return data  # several viewers look at the same frame
        shown = pair.frame
        rainy, dry = (_shrunk(f, width, shown.pixel_shape) for f in (shown.rainy, shown.dry))
        data = _encoded(".jpg", np.vstack((rainy, dry)))
        self._stacked = (pair.number, width, data)
        return data

    def still_png(self, pair: Pair) -> bytes:
        """Rainy left, dry right, in full size, as PNG; a still of the last second where there is one."""
        with self._making_still:  # several visitors wait for the same still
            if self._still is not None and time.monotonic() - self._still[0] < _STILL_S:
                return self._still[1]
            frames = (pair.frame.rainy, pair.frame.dry)
            data = _encoded(".png", np.hstack([planes_to_rgb(f.planes, f.format) for f in frames]))
            self._still = time.monotonic(), data
            return data


def _shrunk(frame: Frame, width: int, pixel_shape: Fraction) -> Image:
    """RGB, at most ``width`` wide, with square pixels; planes are shrunk first, which costs a fraction."""
    fmt = frame.format
    whole = fmt.width * pixel_shape
    if pixel_shape == 1 and whole <= width:
        return planes_to_rgb(frame.planes, fmt)
    share = min(Fraction(1), width / whole)
    wide, high = (max(2, round(length * share / 2) * 2) for length in (whole, fmt.height))
    small: PlaneFormat = replace(fmt, width=wide, height=high)
    planes = tuple(
        np.asarray(cv2.resize(plane, shape[::-1], interpolation=cv2.INTER_AREA))
        for plane, shape in zip(frame.planes, small.plane_shapes, strict=True)
    )
    return planes_to_rgb(planes, small)


def _encoded(kind: str, rgb: Image) -> bytes:
    options = [cv2.IMWRITE_JPEG_QUALITY, _QUALITY] if kind == ".jpg" else []
    done, data = cv2.imencode(kind, cv2.cvtColor(rgb, cv2.COLOR_RGB2BGR), options)
    if not done:
        raise ValueError(f"no {kind} could be made")
    return data.tobytes()
