"""Decodes on an NVIDIA GPU, with software as the reported fallback.

Decoded images stay on the GPU, as NV12 or P010, until their samples are needed in host memory; the samples equal
those of a software decoder. Not yet run on a GPU.
"""

from __future__ import annotations

import os
from typing import Any
from urllib.parse import urlsplit

import av
from av.codec.hwaccel import HWAccel
from av.container import InputContainer

from vderain.errors import SourceError
from vderain.machine import share_context
from vderain.media.io.ffmpeg import heard, said
from vderain.media.io.open import can_reopen, open_container, pick_video
from vderain.media.io.pipes import StandardInput

_READ_TWICE = ("http", "https")  # schemes of URLs that give the same bytes again


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
        if refusal := _refusal(path, gpu, shared=kept):
            # In a container of its own, since a decoder for NVDEC has no threads that decode frames.
            container.close()
            return open_container(path), refusal
        copied = f"NVDEC's images are copied to the host at once ({reason})"
        return container, copied if reason else ""
    container = open_container(path)  # raises where the input itself is at fault
    return container, f"NVDEC cannot be used here, software decodes ({reason})"


def stays_in_software(stream: Any) -> str:
    """Why a stream that NVDEC was asked for is decoded in software; "" where NVDEC decodes it."""
    return "" if stream.codec_context.is_hwaccel else _not_taken(stream)


def _refusal(path: str, gpu: int, *, shared: bool) -> str:
    """Why software decodes from the first image on, or ""; not known for what cannot be read twice.

    NVDEC leaves profiles and sizes that it lacks to software. FFmpeg crops its images on the right and at the bottom
    alone, so that they are larger than the stream says where it also crops on the left or at the top.
    """
    if not os.path.isfile(path) and urlsplit(path).scheme not in _READ_TWICE:
        return ""
    # Images that stay on the GPU say that NVDEC decoded them; where its context is not shared, in one of their own.
    context: dict[str, object] = {"primary_ctx": str(int(shared))}
    nvdec = HWAccel("cuda", device=str(gpu), is_hw_owned=True, options=context)
    container = None
    try:
        container = open_container(path, hwaccel=nvdec)
        stream = pick_video(container, path)
        if not stream.codec_context.is_hwaccel:
            return _not_taken(stream)
        shown = stream.codec_context.width, stream.codec_context.height
        stream.codec_context.thread_type, stream.codec_context.thread_count = "NONE", 1
        image: Any = next(container.decode(stream), None)
        if image is None:
            return ""
        if image.sw_format is None:
            return _not_taken(stream)
        if (image.width, image.height) != shown:
            return (
                f"NVDEC does not crop this {stream.codec_context.name} on the left or at the top,"
                " software decodes"
            )
        return ""
    except (SourceError, av.FFmpegError):
        return ""  # whoever reads it finds the fault too
    finally:
        if container is not None:
            container.close()


def _not_taken(stream: Any) -> str:
    return f"NVDEC does not take this {stream.codec_context.name}, software decodes"
