"""Converts frames on a GPU between surfaces (NV12, P010) and the planes Y, U and V that networks take."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor
from torch.utils.dlpack import from_dlpack

from vderain.frames import DevicePlanes, Plane, PlaneFormat

_ROW = 256  # samples: rows are multiples of it; NVENC takes none that is no multiple of four bytes


def dlpack_device(device: torch.device) -> tuple[int, int]:
    """A device as DLPack names it: its kind and its number."""
    kind, number = torch.empty(0, device=device).__dlpack_device__()
    return int(kind), int(number)


def planes_of(surface: DevicePlanes) -> list[Tensor]:
    """Y, U and V, (H, W) each: uint8 views of the surface, or int32 with the samples in the low bits."""
    # PyAV's planes refuse a stream, which torch would pass; as a capsule they need none. The caller waits.
    luma, chroma = (from_dlpack(part.__dlpack__()) for part in (surface.luma, surface.chroma))
    planes = [luma, chroma[..., 0], chroma[..., 1]]
    if luma.dtype == torch.uint8:
        return planes
    # torch has few operations for uint16.
    return [
        (plane.view(torch.int16).to(torch.int32) & 0xFFFF) >> surface.empty_bits for plane in planes
    ]


def surface_of(planes: Sequence[Tensor], fmt: PlaneFormat, device: torch.device) -> DevicePlanes:
    """A surface in memory of its own, from planes of integer samples, (H, W) each.

    It is one block, as NVENC reads it: NVENC looks for chroma behind the last row of luma and ignores its pointer.
    """
    height, width = planes[0].shape
    kind = torch.uint8 if fmt.bit_depth == 8 else torch.int16
    row = -(-width // _ROW) * _ROW
    block = torch.empty((3 * height // 2, row), dtype=kind, device=planes[0].device)
    luma, chroma = block[:height, :width], block[height:, :width].view(height // 2, width // 2, 2)
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
    """Y, U and V of a surface in host memory, as frames have them."""
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
