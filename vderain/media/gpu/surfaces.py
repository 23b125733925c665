"""Passes frames on a GPU to its encoder by DLPack, without a copy.

Not yet run on a GPU; the tests run it on frames of the same layout in host memory.
"""

from __future__ import annotations

from fractions import Fraction
from typing import Any, TypeGuard

import av
from av.codec.hwaccel import HWAccel
from av.video.frame import CudaContext

from vderain.frames import DevicePlanes
from vderain.machine import share_context
from vderain.media.frames.planes import SURFACES, Target
from vderain.media.io.encoders import Encoder
from vderain.media.io.ffmpeg import heard, said
from vderain.media.io.urls import redact

_CUDA = 2  # DLPack's kind of device
_PROBE_PX = 256


class SurfaceWriter:
    """Passes frames on a GPU to its encoder; ``pix_fmt`` is the encoder's pixel format."""

    def __init__(self, planes: DevicePlanes) -> None:
        kind, number = planes.device
        self._name = SURFACES[planes.format.bit_depth]
        self._device = planes.device
        # The primary context, in which torch computes too.
        self._context = CudaContext(number, primary_ctx=True) if kind == _CUDA else None
        self.pix_fmt = "cuda" if kind == _CUDA else self._name
        self.written = 0

    def takes(self, planes: object) -> TypeGuard[DevicePlanes]:
        """Whether ``write`` passes frames without a copy."""
        return isinstance(planes, DevicePlanes) and planes.device == self._device

    def write(self, planes: DevicePlanes) -> av.VideoFrame:
        """An image over the same memory, which it keeps alive until the encoder has read it."""
        self.written += 1
        parts: tuple[Any, Any] = (planes.luma, planes.chroma)
        return av.VideoFrame.from_dlpack(parts, format=self._name, cuda_context=self._context)


def fits_surface(planes: object, target: Target) -> TypeGuard[DevicePlanes]:
    """Whether the encoder can read frames on the GPU, without padding or another bit depth."""
    if not isinstance(planes, DevicePlanes) or planes.format.bit_depth not in SURFACES:
        return False
    names = {8: ("yuv420p", "nv12"), 10: ("yuv420p10le", "p010le")}
    same_size = (target.width, target.height) == (planes.format.width, planes.format.height)
    return same_size and target.pix_fmt in names[planes.format.bit_depth]


def why_not_from_device(encoder: Encoder, gpu: int) -> str | None:
    """Open an encoder for frames that lie on a GPU, counted from 0: None where that works, else the reason."""
    words: list[tuple[int, str, str]] = []
    share_context(gpu)
    on_gpu = HWAccel("cuda", device=str(gpu), options={"primary_ctx": "1"})
    try:
        with heard() as words:
            context: Any = av.CodecContext.create(encoder.name, "w", hwaccel=on_gpu)
            context.width = context.height = _PROBE_PX
            context.pix_fmt = SURFACES[8]
            context.time_base = Fraction(1, 25)
            context.open()
    except (av.FFmpegError, NotImplementedError, ValueError) as error:
        return said(words, redact(getattr(error, "strerror", None) or str(error)))
    return None
