"""About how much memory the frames of a video will take, before any is decoded."""

from __future__ import annotations

import math
import os
from typing import Any

from vderain.errors import SourceError
from vderain.machine import available_bytes

_GIB = 1 << 30
# Frames in memory at once, in frames of the source's size: those of decoding and of the queues; those that an
# encoder keeps. Measured with 4 and 16 megapixels: 10 while a file is opened with two threads; in all 105 with
# x264, 110 with x265, 129 with SVT-AV1.
# Without delay, as for cameras, with 4 megapixels: 17 with x264, 45 with x265.
_SOURCE_FRAMES, _ENCODER_FRAMES, _LIVE_ENCODER_FRAMES = 20, 130, 50
_MOST_THREADS = 16  # FFmpeg decodes with no more
_FFMPEGS_PIXELS = (1 << 31) - 1
_ALWAYS_TRIED_BYTES = 4 * _GIB  # a 4K video in 10 bits needs 3.5 GiB


def check_memory(stream: Any, name: str, max_memory: float | None, *, live: bool = False) -> int:
    """Refuse a video that does not fit into memory; how large its frames may become in the stream, in pixels.

    ``max_memory`` is in GiB; without it the memory that is free is the limit, but at least 4 GiB. ``live`` video
    is decoded by one thread and encoded without delay. Raises SourceError where the frames will take more.
    """
    free = available_bytes()
    if max_memory is not None:
        limit = max_memory * _GIB
    elif free is not None:
        limit = max(free, _ALWAYS_TRIED_BYTES)
    else:
        return _FFMPEGS_PIXELS
    pixels = max(1, int(stream.width * stream.height))
    if live:
        frames = _SOURCE_FRAMES + 1 + _LIVE_ENCODER_FRAMES
    else:
        frames = _SOURCE_FRAMES + min(os.cpu_count() or 1, _MOST_THREADS) + _ENCODER_FRAMES
    needed = frames * _frame_bytes(stream.codec_context.format, pixels)
    if needed > limit:
        asked = math.ceil(needed / _GIB)
        allowed = f"{limit / _GIB:.1f} GiB are {'free' if max_memory is None else 'allowed'}"
        raise SourceError(
            f"{name}: video of {stream.width}x{stream.height} needs about {asked} GiB of memory, and"
            f" {allowed}; make it smaller first, or allow it with max_memory={asked}"
        )
    return max(pixels, int(limit / needed * pixels))


def _frame_bytes(pixel_format: Any, pixels: int) -> float:
    """Of all planes; a format that is not known yet counts as 8 bit 4:2:0: behind ``cuda`` may be any."""
    if pixel_format is None or not pixel_format.components:
        return 1.5 * pixels
    planes = (c.width * c.height * math.ceil(c.bits / 8) for c in pixel_format.components)
    return float(sum(planes))
