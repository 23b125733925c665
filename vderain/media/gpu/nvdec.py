"""Decoding on an NVIDIA GPU's decoder, with software as the reported fallback.

Decoded pictures stay on the GPU, as NV12 or P010, until somebody wants their samples in the host's memory; these
are a software decoder's. Not yet run on a GPU.
"""

from __future__ import annotations

from typing import Any

from av.codec.hwaccel import HWAccel
from av.container import InputContainer

from vderain.errors import SourceError
from vderain.media.io.ffmpeg import heard, said
from vderain.media.io.open import can_reopen, open_container
from vderain.media.io.pipes import StandardInput


def open_for(
    decoder: str, path: str, pipe: StandardInput | None, *, stay: bool = True, gpu: int = 0
) -> tuple[InputContainer, str]:
    """A container whose video ``decoder`` decodes, "software" or "nvdec"; and why it is another one, or "".

    ``gpu`` counts from 0. Without ``stay`` pictures come back to the host at once. Raises SourceError where
    software cannot open it either.
    """
    if decoder == "software":
        return open_container(path, pipe), ""
    if pipe is not None:
        return open_container(path, pipe), "standard input is decoded in software"
    if not can_reopen(path):  # as is needed where NVDEC does not open it
        return open_container(path), "a pipe is decoded in software"
    # Where NVDEC lacks a codec, the same container decodes in software: see ``stays_in_software``.
    nvdec = HWAccel("cuda", device=str(gpu), allow_software_fallback=True, is_hw_owned=stay)
    try:
        with heard() as words:
            return open_container(path, hwaccel=nvdec), ""
    except SourceError as error:
        container = open_container(path)  # where the input itself is at fault, this says so
        told = f"NVDEC cannot be used here, software decodes ({said(words, str(error))})"
        return container, told


def stays_in_software(stream: Any) -> str:
    """Why a stream that NVDEC was asked for is decoded in software after all; "" where it is not."""
    if stream.codec_context.is_hwaccel:
        return ""
    return f"NVDEC does not take this {stream.codec_context.name}, software decodes"
