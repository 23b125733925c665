"""The last steps of ``vderain.alignment`` on tensors, for engines that align neighbours where they compute.

Everything has static shapes and no branch on values, so that a captured graph can hold it.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional as F

from vderain.alignment.neighbours import SEEN
from vderain.alignment.order import TOLERANCE, exchanges
from vderain.alignment.warping import GROUP_PX


def align_neighbours(
    lumas: Tensor,
    rows: Tensor,
    flows: Tensor,
    hidden: Tensor,
    stand_ins: Tensor,
    *,
    dtype: torch.dtype,
    bit_depth: int,
) -> tuple[list[Tensor], Tensor]:
    """Neighbours aligned to the current frame, in order of brightness, and the floor: as ``clips.aligned_clip``.

    Args:
        lumas: (R, H, W) samples, of any integer dtype.
        rows: (N + 1,) of ``lumas``: the current frame, then its neighbours, nearer ones first.
        flows: (N, h, w, 2) float32, as of ``Placement``; 0 where a neighbour is used as it is.
        hidden: (N, h', w') uint8, as of ``Placement``; 255 for the whole frame.
        stand_ins: (N,) what is shown where a neighbour is hidden: 0 the current frame, n the n-th neighbour.
        dtype: of the result.
        bit_depth: of the samples.

    Returns:
        N planes (H, W), and the floor (H, W), 0 where there is none. Samples differ from OpenCV's by one 8-bit
        code value at most, except for single pixels at the edge of a hidden place, which may show the stand-in.

    """
    size, count = (lumas.shape[1], lumas.shape[2]), len(flows)
    shown = torch.empty((count + 1, *size), dtype=dtype, device=lumas.device)
    shown[:1] = lumas.index_select(0, rows[:1])
    absent = torch.zeros((1, *size), dtype=torch.uint8, device=lumas.device)
    places = _places(size, lumas.device)
    for index in range(count):
        one = slice(index, index + 1)
        seen = lumas.index_select(0, rows[index + 1 : index + 2]).to(torch.float32)
        plane = _warped(seen, flows[one], places).to(dtype)
        mask = _enlarged(hidden[one], size)
        other = shown.index_select(0, stand_ins[one])
        shown[index + 1 : index + 2] = torch.where(mask, other, plane)
        absent += mask
    ordered = in_order_of_brightness(list(shown[1:]))
    return ordered, _floor(ordered, absent[0], bit_depth)


def in_order_of_brightness(lumas: Sequence[Tensor]) -> list[Tensor]:
    """Planes with the darkest sample at each place in the first, and so on."""
    ordered = list(lumas)
    for low, high in exchanges(len(ordered)):
        one, other = ordered[low], ordered[high]
        ordered[low], ordered[high] = torch.minimum(one, other), torch.maximum(one, other)
    return ordered


def _places(size: tuple[int, int], device: torch.device) -> Tensor:
    """(1, H, W, 2): each pixel's (x, y)."""
    height, width = size
    x = torch.arange(width, dtype=torch.float32, device=device)
    y = torch.arange(height, dtype=torch.float32, device=device)
    return torch.stack([x.expand(height, width), y[:, None].expand(height, width)], -1)[None]


def _warped(seen: Tensor, flow: Tensor, places: Tensor) -> Tensor:
    """What lies at each place of (1, H, W) plus its flow (1, h, w, 2), between samples linearly; rounded.

    Groups of pixels move alike, as ``warped_luma`` says.
    """
    height, width = seen.shape[1:]
    groups = -(-width // GROUP_PX)
    moved = F.interpolate(
        flow.permute(0, 3, 1, 2), size=(height, groups), mode="bilinear", align_corners=False
    )
    parts = moved[..., None].expand(-1, -1, -1, -1, GROUP_PX).flatten(-2)[..., :width]
    # What ``grid_sample`` wants: from -1, the first sample's middle, to 1, the last one's.
    grids = [
        (places[..., axis] + parts[:, axis] * (side / flow.shape[2 - axis]))
        * (2 / max(side - 1, 1))
        for axis, side in ((0, width), (1, height))
    ]
    grid = torch.stack(grids, -1) - 1
    sampled = F.grid_sample(
        seen[None], grid, mode="bilinear", padding_mode="border", align_corners=True
    )
    return sampled[0].round()


def _enlarged(hidden: Tensor, size: tuple[int, int]) -> Tensor:
    """(1, h, w) uint8 -> (1, H, W) bool."""
    large = F.interpolate(
        hidden[None].to(torch.float32), size=size, mode="bilinear", align_corners=False
    )
    return large[0].round() > SEEN


def _floor(ordered: Sequence[Tensor], absent: Tensor, bit_depth: int) -> Tensor:
    """As ``alignment.floor_of``: (H, W), where ``absent`` of the neighbours are hidden."""
    count = len(ordered)
    few = max(1, count - 2)
    floor = torch.where(absent >= few, ordered[0], ordered[min(1, count - 1)])
    floor = torch.where(absent == count, torch.zeros_like(floor), floor)
    tolerance = TOLERANCE << (bit_depth - 8)
    return floor.clamp(min=tolerance) - tolerance
