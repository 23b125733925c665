"""Exact re-parameterisation for inference: what is linear in a row becomes one convolution.

Batch normalisation, and NLCL's with frozen statistics, fold into the convolution before them. A dilated
context layer is one linear map, so its 1x1 convolution folds into the dilated ones, whose sum it becomes:
no concatenated buffer. The taps of that sum that lie on each other can be added too, which leaves one
sparse convolution (25 taps for dilations 1, 3 and 5); it profits where an engine gathers taps for free.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import replace
from typing import Literal, TypeVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from vderain.network.base import ChangeNetwork
from vderain.network.config import NetworkConfig
from vderain.network.nlcl import ImageNorm
from vderain.network.semi_drdnet import DilatedContext, SemiDRDNet

_Network = TypeVar("_Network", bound=ChangeNetwork)

ContextForm = Literal["sum", "taps"]


class DilatedSum(nn.Module):
    """The sum of dilated convolutions over one input; the bias sits in the first."""

    def __init__(self, convolutions: list[nn.Conv2d]) -> None:
        super().__init__()
        self.dilated = nn.ModuleList(convolutions)

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, H, W) -> same."""
        total: Tensor = self.dilated[0](x)
        for convolution in self.dilated[1:]:
            total = total + convolution(x)
        return total


class SparseTaps(nn.Module):
    """One convolution with few taps over a wide reach: shifted copies of the input, joined by a 1x1 convolution.

    The same result as the ``DilatedSum`` it is made of, with every position's weights added up.
    """

    def __init__(self, total: DilatedSum) -> None:
        super().__init__()
        weights: dict[tuple[int, int], Tensor] = {}  # (down, right) -> (outputs, inputs)
        bias: Tensor | None = None
        for conv in total.dilated:
            assert isinstance(conv, nn.Conv2d)
            bias = conv.bias if conv.bias is not None else bias
            for row, column in ((r, c) for r in range(3) for c in range(3)):
                at = ((row - 1) * conv.dilation[0], (column - 1) * conv.dilation[1])
                weights[at] = weights.get(at, 0) + conv.weight[:, :, row, column].double()
        self.taps = sorted(weights)
        self.reach = max(abs(shift) for at in self.taps for shift in at)
        weight = torch.cat([weights[at] for at in self.taps], 1)[:, :, None, None]
        outputs, inputs = weight.shape[:2]
        self.join = nn.Conv2d(inputs, outputs, 1, bias=bias is not None).requires_grad_(False)
        self.join.weight.copy_(weight)
        if bias is not None and self.join.bias is not None:
            self.join.bias.copy_(bias)

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, H, W) -> same."""
        height, width, reach = x.shape[2], x.shape[3], self.reach
        padded = F.pad(x, (reach, reach, reach, reach))
        corners = [(reach + down, reach + right) for down, right in self.taps]
        shifted = [padded[:, :, top : top + height, left : left + width] for top, left in corners]
        joined: Tensor = self.join(torch.cat(shifted, 1))
        return joined


def fold(network: _Network, context: ContextForm = "sum") -> _Network:
    """A copy in evaluation mode without fixed normalisation and 1x1 joins; equal within float rounding.

    A normalisation with each frame's own statistics stays. ``context`` says what dilated context layers
    become: the sum of their convolutions, or one of few taps.
    """
    folded = copy.deepcopy(network).eval().requires_grad_(False)
    _replace_sequences(folded, _folded_sequence, _has_foldable)
    if context == "taps":
        _replace_sequences(folded, _tapped_sequence, _has_sum)
    return folded


def _replace_sequences(
    network: nn.Module,
    change: Callable[[nn.Sequential], nn.Sequential],
    wanted: Callable[[nn.Sequential], bool],
) -> None:
    for parent in list(network.modules()):
        for name, child in parent.named_children():
            if isinstance(child, nn.Sequential) and wanted(child):
                setattr(parent, name, change(child))


def _has_sum(sequence: nn.Sequential) -> bool:
    return any(isinstance(layer, DilatedSum) for layer in sequence)


def _tapped_sequence(sequence: nn.Sequential) -> nn.Sequential:
    return nn.Sequential(
        *(SparseTaps(layer) if isinstance(layer, DilatedSum) else layer for layer in sequence)
    )


def without_norms(network: SemiDRDNet) -> SemiDRDNet:
    """The network of the same config without normalisation that predicts the same; may be trained on (ours)."""
    plain = SemiDRDNet(replace(network.config, normalised=False))
    absorbed = copy.deepcopy(network).eval().requires_grad_(False)
    _replace_sequences(absorbed, _absorbed_sequence, lambda _: True)
    plain.load_state_dict(absorbed.state_dict())
    return plain


def with_frames(network: SemiDRDNet, frames: int) -> SemiDRDNet:
    """A network as one of more ``frames``, an odd number, whose outer ones it does not look at yet (ours).

    Its new fusion weights are as initialised, and branches that saw the frame alone see the fused frame.
    Predictions for still frames stay the same.
    """
    if network.config.fusion != "gates":
        raise ValueError("only a network whose fusion is gates can be given more frames")
    wider = SemiDRDNet(replace(network.config, frames=frames))
    state = wider.state_dict()
    for name, values in network.state_dict().items():
        place = state[name]
        if name.startswith("fusion."):
            for axis, size in enumerate(values.shape):
                place = place.narrow(axis, (place.shape[axis] - size) // 2, size)
        elif place.shape != values.shape:
            luma = values.unflatten(1, (3, -1)).sum(1)  # grey is as much of each colour
            values = torch.cat([values, luma, torch.zeros_like(luma)], 1)
        place.copy_(values)
    wider.load_state_dict(state)
    return wider


def with_median(network: SemiDRDNet, wanted: NetworkConfig) -> SemiDRDNet:
    """A network with learned fusion weights as one of ``wanted``, whose fusion is the median (ours).

    What the branches saw of the fused frame they see of the median; its weights are as initialised. Still
    frames are predicted as before. Raises ValueError where the branches have other shapes.
    """
    config = network.config
    if replace(config, frames=wanted.frames, fusion="median", ranks=wanted.ranks) != wanted:
        raise ValueError("only frames, fusion and ranks may differ")
    area = config.unshuffle**2
    state = SemiDRDNet(wanted).state_dict()
    for name, values in network.state_dict().items():
        if name.startswith("fusion."):
            continue
        if (
            state[name].shape != values.shape
        ):  # the head of a branch: RGB, the choice, the difference
            head = torch.zeros_like(state[name])
            head[:, : 4 * area] = values[:, : 4 * area]
            for rank in wanted.middle_ranks:
                first = (4 + wanted.seen_ranks.index(rank)) * area
                head[:, first : first + area] = values[:, 4 * area :] / 2
            values = head
        state[name].copy_(values)
    changed = SemiDRDNet(wanted)
    changed.load_state_dict(state)
    return changed


def _absorbed_sequence(sequence: nn.Sequential) -> nn.Sequential:
    layers: list[nn.Module] = []
    for layer in sequence:
        if isinstance(layer, nn.BatchNorm2d):
            last = layers[-1]
            _scale_outputs(last.join if isinstance(last, DilatedContext) else last, layer)
        else:
            layers.append(layer)
    return nn.Sequential(*layers)


def _has_foldable(sequence: nn.Sequential) -> bool:
    return any(isinstance(layer, DilatedContext) or _is_fixed_norm(layer) for layer in sequence)


def _is_fixed_norm(layer: nn.Module) -> bool:
    return isinstance(layer, nn.BatchNorm2d) or (isinstance(layer, ImageNorm) and layer.frozen)


def _folded_sequence(sequence: nn.Sequential) -> nn.Sequential:
    layers: list[nn.Module] = []
    for layer in sequence:
        if isinstance(layer, nn.BatchNorm2d | ImageNorm) and _is_fixed_norm(layer):
            _scale_outputs(layers[-1], layer)
        elif isinstance(layer, DilatedContext):
            layers.append(_joined(layer))
        else:
            layers.append(layer)
    return nn.Sequential(*layers)


def _joined(context: DilatedContext) -> DilatedSum:
    """Fold the 1x1 join into the dilated convolutions, in float64."""
    join = context.join.weight.double()[:, :, 0, 0]
    width = context.join.out_channels
    biases = torch.cat([_bias(conv) for conv in context.dilated])
    convolutions = []
    for index, conv in enumerate(context.dilated):
        assert isinstance(conv, nn.Conv2d)
        part = join[:, index * width : (index + 1) * width]
        weight = torch.einsum("om,mihw->oihw", part, conv.weight.double())
        bias = join @ biases + _bias(context.join) if index == 0 else None
        convolutions.append(convolution_like(conv, weight, bias))
    return DilatedSum(convolutions)


def _scale_outputs(layer: nn.Module, norm: nn.BatchNorm2d | ImageNorm) -> None:
    """Fold a normalisation into the layer before it, in place."""
    assert norm.running_mean is not None and norm.running_var is not None
    scale = 1 / torch.sqrt(norm.running_var.double() + norm.eps)
    if norm.affine:
        scale = norm.weight.double() * scale
    shift = -norm.running_mean.double() * scale
    if norm.affine:
        shift = norm.bias.double() + shift
    convolutions = list(layer.dilated) if isinstance(layer, DilatedSum) else [layer]
    for conv in convolutions:
        assert isinstance(conv, nn.Conv2d)
        conv.weight.copy_(conv.weight.double() * scale[:, None, None, None])
        if conv.bias is not None:
            conv.bias.copy_(conv.bias.double() * scale + shift)


def _bias(conv: nn.Module) -> Tensor:
    assert isinstance(conv, nn.Conv2d) and conv.bias is not None
    return conv.bias.double()


def convolution_like(conv: nn.Conv2d, weight: Tensor, bias: Tensor | None) -> nn.Conv2d:
    """A convolution with ``conv``'s padding and dilation, and other weights (outputs, inputs, kh, kw)."""
    outputs, inputs = weight.shape[:2]
    made = nn.Conv2d(
        inputs,
        outputs,
        (weight.shape[2], weight.shape[3]),
        padding=conv.padding,  # type: ignore[arg-type]  # of two sides
        dilation=conv.dilation,  # type: ignore[arg-type]  # likewise
        bias=bias is not None,
    ).requires_grad_(False)
    made.weight.copy_(weight)
    if bias is not None:
        assert made.bias is not None
        made.bias.copy_(bias)
    return made
