"""Decodes on an NVIDIA GPU, with software as the reported fallback.

Decoded images stay on the GPU, as NV12 or P010, until their samples are needed in host memory; the samples equal
those of a software decoder. Not yet run on a GPU.
"""

from __future__ import annotations

import os
from typing import Any

import av
from av.codec.hwaccel import HWAccel
from av.container import InputContainer

from vderain.errors import SourceError
from vderain.machine import share_context
from vderain.media.io.ffmpeg import heard, said
from vderain.media.io.open import can_reopen, open_container, pick_video
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
        if reason:
            return container, f"NVDEC's images are copied to the host at once ({reason})"
        if kept and os.path.isfile(path) and (refusal := _refusal(path, nvdec)):
            # In a container of its own, since a decoder for NVDEC has one thread.
            container.close()
            return open_container(path), refusal
        return container, ""
    container = open_container(path)  # raises where the input itself is at fault
    return container, f"NVDEC cannot be used here, software decodes ({reason})"


def stays_in_software(stream: Any) -> str:
    """Why a stream that NVDEC was asked for is decoded in software; "" where NVDEC decodes it."""
    return "" if stream.codec_context.is_hwaccel else _not_taken(stream)


def _refusal(path: str, nvdec: HWAccel) -> str:
    """Why NVDEC leaves the first image to software, as it does for profiles and sizes that it lacks; else ""."""
    container = open_container(path, hwaccel=nvdec)
    try:
        stream = pick_video(container, path)
        stream.codec_context.thread_type, stream.codec_context.thread_count = "NONE", 1
        image: Any = next(container.decode(stream), None)
        return _not_taken(stream) if image is not None and image.sw_format is None else ""
    except (SourceError, av.FFmpegError):
        return ""  # whoever reads it finds the fault too
    finally:
        container.close()


def _not_taken(stream: Any) -> str:
    return f"NVDEC does not take this {stream.codec_context.name}, software decodes"
