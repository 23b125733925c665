"""``apply_change`` on tensors, for engines that add the change where they compute it."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from vderain.frames import PlaneFormat
from vderain.network.change import sample_bounds


def add_change(
    planes: Sequence[Tensor], change: Sequence[Tensor], fmt: PlaneFormat, strength: Tensor | float
) -> list[Tensor]:
    """The planes with the change added, rounded and bounded: the samples of ``apply_change``, as float32.

    Args:
        planes: of any integer dtype; all its values fit into float32.
        change: of the same shapes, in any floating dtype.
        fmt: whose range bounds the result.
        strength: scales the change; a tensor of no dimension lets a captured graph follow it.

    """
    largest = 255.0 if fmt.bit_depth == 8 else 65535.0
    results = []
    for plane, delta, (low, high) in zip(planes, change, sample_bounds(fmt), strict=True):
        samples = plane.to(torch.float32)
        # The change is rounded before it is added, halves to even, as OpenCV does on the host.
        moved = (delta.to(torch.float32) * strength).round()
        result = (samples + moved).clamp(0.0, largest)
        if low > 0:
            result = result.maximum(samples.clamp(max=float(low)))
        if high < largest:
            result = result.minimum(samples.clamp(min=float(high)))
        results.append(result)
    return results
