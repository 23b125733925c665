"""Exact re-parameterisation for inference: what is linear in a row becomes one convolution.

Batch normalisation, and NLCL's with frozen statistics, fold into the convolution before them. A dilated
context layer is one linear map, so its 1x1 convolution folds into the dilated ones, whose sum it becomes:
no concatenated buffer.
"""

from __future__ import annotations

import copy
from dataclasses import replace
from typing import TypeVar

import torch
from torch import Tensor, nn

from vderain.network.base import ChangeNetwork
from vderain.network.nlcl import PictureNorm
from vderain.network.semi_drdnet import DilatedContext, SemiDRDNet

_Network = TypeVar("_Network", bound=ChangeNetwork)


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


def fold(network: _Network) -> _Network:
    """A copy in evaluation mode without fixed normalisation and 1x1 joins; equal within float rounding.

    A normalisation with each frame's own statistics stays.
    """
    folded = copy.deepcopy(network).eval().requires_grad_(False)
    for parent in list(folded.modules()):
        for name, child in parent.named_children():
            if isinstance(child, nn.Sequential) and _has_foldable(child):
                setattr(parent, name, _folded_sequence(child))
    return folded


def without_norms(network: SemiDRDNet) -> SemiDRDNet:
    """The network of the same config without normalisation that answers the same; may be trained on (ours)."""
    plain = SemiDRDNet(replace(network.config, normalised=False))
    absorbed = copy.deepcopy(network).eval().requires_grad_(False)
    for parent in list(absorbed.modules()):
        for name, child in parent.named_children():
            if isinstance(child, nn.Sequential):
                setattr(parent, name, _absorbed_sequence(child))
    plain.load_state_dict(absorbed.state_dict())
    return plain


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
    return isinstance(layer, nn.BatchNorm2d) or (isinstance(layer, PictureNorm) and layer.frozen)


def _folded_sequence(sequence: nn.Sequential) -> nn.Sequential:
    layers: list[nn.Module] = []
    for layer in sequence:
        if isinstance(layer, nn.BatchNorm2d | PictureNorm) and _is_fixed_norm(layer):
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
    biases = torch.cat([_bias(conv) for conv in context.dilated])  # type: ignore[arg-type]
    convolutions = []
    for index, conv in enumerate(context.dilated):
        assert isinstance(conv, nn.Conv2d)
        part = join[:, index * width : (index + 1) * width]
        weight = torch.einsum("om,mihw->oihw", part, conv.weight.double())
        bias = join @ biases + _bias(context.join) if index == 0 else None
        convolutions.append(convolution_like(conv, weight, bias))
    return DilatedSum(convolutions)


def _scale_outputs(layer: nn.Module, norm: nn.BatchNorm2d | PictureNorm) -> None:
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


def _bias(conv: nn.Conv2d) -> Tensor:
    assert conv.bias is not None
    return conv.bias.double()


def convolution_like(conv: nn.Conv2d, weight: Tensor, bias: Tensor | None) -> nn.Conv2d:
    """A convolution with ``conv``'s padding and dilation, and other weights (outputs, inputs, kh, kw)."""
    outputs, inputs = weight.shape[:2]
    made = nn.Conv2d(
        inputs,
        outputs,
        (weight.shape[2], weight.shape[3]),
        padding=conv.padding,  # type: ignore[arg-type]
        dilation=conv.dilation,  # type: ignore[arg-type]
        bias=bias is not None,
    ).requires_grad_(False)
    made.weight.copy_(weight)
    if bias is not None:
        assert made.bias is not None
        made.bias.copy_(bias)
    return made
