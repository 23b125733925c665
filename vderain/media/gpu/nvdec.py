"""Decodes on an NVIDIA GPU, with software as the reported fallback.

Decoded images stay on the GPU, as NV12 or P010, until their samples are needed in host memory; the samples equal
those of a software decoder. Not yet run on a GPU.
"""

from __future__ import annotations

from typing import Any

from av.codec.hwaccel import HWAccel
from av.container import InputContainer

from vderain.errors import SourceError
from vderain.machine import share_context
from vderain.media.io.ffmpeg import heard, said
from vderain.media.io.open import can_reopen, open_container
from vderain.media.io.pipes import StandardInput


def open_for(
    decoder: str, path: str, pipe: StandardInput | None, *, stay: bool = True, gpu: int = 0
) -> tuple[InputContainer, str]:
    """A container whose video is decoded by ``decoder``, "software" or "nvdec"; and the reason for a fallback, or "".

    ``gpu`` counts from 0. Without ``stay`` images are copied to the host at once, as they are where FFmpeg does not
    share the engines' context. Raises SourceError where software cannot open it either.
    """
    if decoder == "software":
        return open_container(path, pipe), ""
    if pipe is not None:
        return open_container(path, pipe), "standard input is decoded in software"
    if not can_reopen(path):  # which a fallback from NVDEC needs
        return open_container(path), "a pipe is decoded in software"
    reason = ""
    share_context(gpu)
    for kept in dict.fromkeys((stay, False)):  # images that do not stay need no shared context
        # Where NVDEC lacks a codec, the same container decodes in software: see ``stays_in_software``.
        nvdec = HWAccel("cuda", device=str(gpu), allow_software_fallback=True, is_hw_owned=kept)
        try:
            with heard() as words:
                container = open_container(path, hwaccel=nvdec)
        except SourceError as error:
            reason = reason or said(words, str(error))
            continue
        return (
            container,
            f"NVDEC's images are copied to the host at once ({reason})" if reason else "",
        )
    container = open_container(path)  # raises where the input itself is at fault
    return container, f"NVDEC cannot be used here, software decodes ({reason})"


def stays_in_software(stream: Any) -> str:
    """Why a stream that NVDEC was asked for is decoded in software; "" where NVDEC decodes it."""
    if stream.codec_context.is_hwaccel:
        return ""
    return f"NVDEC does not take this {stream.codec_context.name}, software decodes"
