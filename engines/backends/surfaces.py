"""Pictures on a GPU as planes that networks take, and back: NV12 and P010 against Y, U and V."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor
from torch.utils.dlpack import from_dlpack

from vderain.frames import DevicePlanes, Plane, PlaneFormat


def dlpack_device(device: torch.device) -> tuple[int, int]:
    """A device in DLPack's words."""
    kind, number = torch.empty(0, device=device).__dlpack_device__()
    return int(kind), int(number)


def planes_of(picture: DevicePlanes) -> list[Tensor]:
    """Y, U and V, (H, W) each: uint8 views of the picture, or int32 with the samples in the low bits."""
    # As a capsule: torch would name its stream, which PyAV's planes refuse. The caller waits instead.
    luma, chroma = (from_dlpack(part.__dlpack__()) for part in (picture.luma, picture.chroma))
    planes = [luma, chroma[..., 0], chroma[..., 1]]
    if luma.dtype == torch.uint8:
        return planes
    # torch computes little in uint16.
    return [
        (plane.view(torch.int16).to(torch.int32) & 0xFFFF) >> picture.empty_bits for plane in planes
    ]


def picture_of(planes: Sequence[Tensor], fmt: PlaneFormat, device: torch.device) -> DevicePlanes:
    """A picture in memory of its own, of integer samples (H, W) each.

    In one block, as NVENC reads it: chroma begins behind the last row of luma, whatever other pointer it is told.
    """
    height, width = planes[0].shape
    kind = torch.uint8 if fmt.bit_depth == 8 else torch.int16
    block = torch.empty((3 * height // 2, width), dtype=kind, device=planes[0].device)
    luma, chroma = block[:height], block[height:].view(height // 2, width // 2, 2)
    for part, plane in zip((luma, chroma[..., 0], chroma[..., 1]), planes, strict=True):
        if fmt.bit_depth == 8:
            part.copy_(plane)
        else:
            part.copy_(plane.to(torch.int32) << 16 - fmt.bit_depth)
    if fmt.bit_depth > 8:
        luma, chroma = luma.view(torch.uint16), chroma.view(torch.uint16)

    def download() -> tuple[Plane, ...]:
        return host_planes(luma.cpu().numpy(), chroma.cpu().numpy(), fmt)

    return DevicePlanes(fmt, luma, chroma, dlpack_device(device), download)


def host_planes(luma: Plane, chroma: Plane, fmt: PlaneFormat) -> tuple[Plane, ...]:
    """Y, U and V of a picture in the host's memory, as frames have them."""
    planes = (luma, chroma[..., 0], chroma[..., 1])
    if fmt.bit_depth == 8:
        return tuple(np.ascontiguousarray(plane) for plane in planes)
    return tuple(plane >> (16 - fmt.bit_depth) for plane in planes)


def fill_padded_tensor(padded: Tensor, plane: Tensor) -> None:
    """Copy a plane into a tensor of at least its size, repeating its last row and column."""
    height, width = plane.shape
    padded[:height, :width].copy_(plane)
    if width < padded.shape[1]:
        padded[:height, width:] = padded[:height, width - 1 : width]
    if height < padded.shape[0]:
        padded[height:] = padded[height - 1]
