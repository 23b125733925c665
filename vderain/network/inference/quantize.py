"""Eight-bit arithmetic, after training, for the convolutions that carry most of a network's cost (ours in the choice).

Only wide convolutions inside residual blocks are quantised, each between the lowest and the highest value that its
input has in an average calibration image (per tensor) and its largest weight (per output channel); head, tail, gates
and the residual sums stay in float, since dry images lose there first (benchmarks/RESULTS.md). The
quantisation is written as torch's fake quantisation, which compilers turn into integer arithmetic and torch
itself computes with the same rounding.
"""

from __future__ import annotations

import copy
from collections.abc import Iterable, Mapping, Sequence
from functools import partial

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from vderain.errors import WeightsError
from vderain.network.base import ChangeNetwork
from vderain.network.inference.fold import fold

Scales = Mapping[str, tuple[float, float]]
"""Name of a convolution in the folded network -> the range of its input, outside which values are clipped."""

_FEWEST_INPUTS = 32  # narrower convolutions gain little


class QuantizedConv(nn.Module):
    """A convolution of a quantised input with quantised weights."""

    scales: Tensor
    zeros: Tensor

    def __init__(self, conv: nn.Conv2d, low: float, high: float) -> None:
        super().__init__()
        self.conv = conv
        low, high = min(low, 0.0), max(high, 0.0)  # zero, which pads the borders, stays exact
        self.step = max(high - low, 1e-9) / 255
        self.zero = round(-low / self.step)
        largest = conv.weight.detach().abs().amax((1, 2, 3)).clamp(min=1e-9)
        self.register_buffer("scales", largest / 127)
        self.register_buffer("zeros", torch.zeros(len(largest), dtype=torch.int32))

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, H, W) -> what the convolution gives."""
        x = torch.fake_quantize_per_tensor_affine(x, self.step, self.zero, 0, 255)
        weight = torch.fake_quantize_per_channel_affine(
            self.conv.weight, self.scales, self.zeros, 0, -127, 127
        )
        conv = self.conv
        return F.conv2d(
            x,
            weight,
            conv.bias,
            conv.stride,
            conv.padding,
            conv.dilation,
        )


def quantizable(folded: ChangeNetwork) -> dict[str, nn.Conv2d]:
    """The convolutions of a folded network that eight bits suffice for, by name."""
    return {
        name: module
        for name, module in folded.named_modules()
        if isinstance(module, nn.Conv2d)
        and module.in_channels >= _FEWEST_INPUTS
        and "blocks" in name.split(".")
        and "gate" not in name.split(".")
    }


@torch.inference_mode()
def calibrate(network: ChangeNetwork, images: Iterable[Tensor]) -> dict[str, tuple[float, float]]:
    """The usual range of every such convolution's input over ``images``, each as ``change`` takes it.

    The lowest values of the images are averaged, and so are the highest: one image with extreme values would
    make the steps coarse for all others, and most of all for dark ones (benchmarks/RESULTS.md).
    """
    folded = fold(network)
    seen: dict[str, list[tuple[float, float]]] = {}

    def note(name: str, module: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        low, high = inputs[0].aminmax()
        seen.setdefault(name, []).append((float(low), float(high)))

    hooks = [
        conv.register_forward_pre_hook(partial(note, name))
        for name, conv in quantizable(folded).items()
    ]
    for image in images:
        folded.change(image)
    for hook in hooks:
        hook.remove()
    sides = {name: tuple(zip(*ranges, strict=True)) for name, ranges in seen.items()}
    return {name: (_mean(lows), _mean(highs)) for name, (lows, highs) in sides.items()}


def _mean(values: Sequence[float]) -> float:
    return round(sum(values) / len(values), 5)


def quantize(network: ChangeNetwork, scales: Scales) -> ChangeNetwork:
    """A folded copy whose convolutions named in ``scales`` are quantised; WeightsError for a name it has not."""
    folded = copy.deepcopy(fold(network))
    found = quantizable(folded)
    if not scales or set(scales) - set(found):
        raise WeightsError(
            "the card's int8 scales do not fit the network; vderain export makes them again"
        )
    for name, (low, high) in scales.items():
        parent, _, last = name.rpartition(".")
        setattr(folded.get_submodule(parent), last, QuantizedConv(found[name], low, high))
    return folded.eval().requires_grad_(False)
