"""Converts a torch network to OpenVINO models."""

from __future__ import annotations

import warnings
from typing import Any

import torch
from torch import Tensor, nn

from vderain.engines.graphs.runtime import traced
from vderain.frames import PlaneFormat
from vderain.network.base import ChangeNetwork
from vderain.network.inference.fold import fold
from vderain.network.inference.graph import planes_graph

TRACED_PX = 64  # side of the planes that a graph is traced with; the graph takes every size


def planes_model(ov: Any, network: ChangeNetwork, fmt: PlaneFormat) -> Any:
    """A network between planes of any size, as float32; ``fmt`` needs no padding."""
    # Every input is a tensor of its own: the tracer merges inputs that are the same tensor.
    shapes = fmt.clip_shapes(network.config.seen_frames)
    return _converted(
        ov, planes_graph(network, fmt), [torch.zeros(1, 1, *shape) for shape in shapes]
    )


def change_model(ov: Any, network: ChangeNetwork) -> Any:
    """What ``network.change`` computes, for every size: (1, C, H, W) -> (1, 3, H, W)."""
    side = -(-TRACED_PX // network.config.multiple) * network.config.multiple
    return _converted(
        ov, _Change(fold(network)), [torch.zeros(1, network.config.channels, side, side)]
    )


class _Change(nn.Module):
    def __init__(self, network: ChangeNetwork) -> None:
        super().__init__()
        self.network = network

    def forward(self, rainy: Tensor) -> Tensor:
        return self.network.change(rainy)


def _converted(ov: Any, module: nn.Module, inputs: list[Tensor]) -> Any:
    with warnings.catch_warnings():
        # Warnings of the tracer about sizes that are constant on purpose.
        warnings.simplefilter("ignore")
        return ov.convert_model(traced(module.eval(), inputs))
