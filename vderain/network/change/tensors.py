"""``apply_change`` on tensors, for engines that add the change where they compute it."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional as F

from vderain.frames import RGB_LUMA_WEIGHTS, PlaneFormat
from vderain.network.change.apply import sample_bounds


def add_change(
    planes: Sequence[Tensor],
    change: Sequence[Tensor],
    fmt: PlaneFormat,
    strength: Tensor | float,
    floor: Tensor | None = None,
) -> list[Tensor]:
    """The planes with the change added, rounded and bounded: the samples of ``apply_change``, as float32.

    Args:
        planes: (1, 1, H, W) or (H, W), of any integer dtype; all its values fit into float32. Planes of
            luma and chroma have even sizes where ``fmt`` subsamples.
        change: of the same shapes, in any floating dtype.
        fmt: whose range bounds the result.
        strength: scales the change; a tensor of no dimension lets a captured graph follow it.
        floor: of the shape of luma, below which no pixel is darkened; all 0 for none.

    """
    largest = 255.0 if fmt.bit_depth == 8 else 65535.0
    before, results = [plane.to(torch.float32) for plane in planes], []
    for samples, delta, (low, high) in zip(before, change, sample_bounds(fmt), strict=True):
        # The change is rounded before it is added, halves to even, as OpenCV does on the host.
        moved = (delta.to(torch.float32) * strength).round()
        result = (samples + moved).clamp(0.0, largest)
        if low > 0:
            result = result.maximum(samples.clamp(max=float(low)))
        if high < largest:
            result = result.minimum(samples.clamp(min=float(high)))
        results.append(result)
    if floor is None:
        return results
    floored = _bounded_rgb if fmt.layout == "rgb" else _bounded_luma
    return floored(before, results, floor.to(torch.float32), fmt)


def _bounded_luma(
    before: Sequence[Tensor], asked: Sequence[Tensor], floor: Tensor, fmt: PlaneFormat
) -> list[Tensor]:
    luma = asked[0].maximum(before[0].minimum(floor))
    darkened = (before[0] - luma).clamp(min=0)
    withheld = (luma - asked[0] > darkened).to(torch.float32)
    sx, sy = fmt.subsampling
    if sx * sy > 1 and len(asked) > 1:
        shape = withheld.shape
        withheld = F.max_pool2d(withheld.reshape(1, 1, *shape[-2:]), (sy, sx))
        withheld = withheld.reshape(*shape[:-2], *withheld.shape[-2:])
    chroma = zip(before[1:], asked[1:], strict=True)
    return [luma, *(torch.where(withheld > 0, plane, moved) for plane, moved in chroma)]


def _bounded_rgb(
    before: Sequence[Tensor], asked: Sequence[Tensor], floor: Tensor, fmt: PlaneFormat
) -> list[Tensor]:
    start, end = _rgb_luma(before), _rgb_luma(asked)
    lowest = start.round().minimum(floor)
    low = end.round() < lowest
    share = ((start - lowest) / torch.where(low, start - end, 1.0)).clamp(0, 1)
    return [
        torch.where(low, (plane + share * (moved - plane)).ceil(), moved)
        for plane, moved in zip(before, asked, strict=True)
    ]


def _rgb_luma(planes: Sequence[Tensor]) -> Tensor:
    red, green, blue = (
        weight * plane for weight, plane in zip(RGB_LUMA_WEIGHTS, planes, strict=True)
    )
    return red + green + blue
