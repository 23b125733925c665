"""A network whose gates take their means from outside, so that it may go over a picture in tiles (ours).

A squeeze-and-excitation gate sees the mean of the whole picture; a tile's own would be another picture's. So
all tiles are asked for their means first, which are averaged, and again with these averages in the gates before,
since a block's means depend on the gates before it. Means of the picture made smaller would be cheaper, but
streaks vanish in it: benchmarks/RESULTS.md has the figures. ``TiledNetwork`` is exact, but goes block by
block, which a compiled graph cannot.

Means travel as (1, 1, 1, 1 + M): a flag, 0 where each gate is to use its own picture's, else 1, and then
those of all gates, in the order of the blocks.
"""

from __future__ import annotations

from collections import deque

import torch
from torch import Tensor, nn

from vderain.network.semi_drdnet import SqueezeExcitation


class GatheringNetwork(nn.Module):
    """A graph between planes that answers with the means its gates see instead of the change."""

    def __init__(self, graph: nn.Module) -> None:
        super().__init__()
        self.gates = _Gates(graph)
        self.inner = graph

    def forward(self, *planes_and_means: Tensor) -> Tensor:
        """The planes of a clip, means -> the means that the gates saw."""
        *planes, means = planes_and_means
        self.gates.give(means)
        self.inner(*planes)
        flag = torch.ones_like(means.flatten()[:1])
        seen = [mean.flatten().to(flag.dtype) for mean in self.gates.seen]
        return torch.cat([flag, *seen]).reshape(1, 1, 1, -1)


class GivenNetwork(nn.Module):
    """A graph between planes whose gates use the means that it is given."""

    def __init__(self, graph: nn.Module) -> None:
        super().__init__()
        self.gates = _Gates(graph)
        self.inner = graph

    def forward(self, *planes_and_means: Tensor) -> tuple[Tensor, ...]:
        """The planes of a clip, means -> P changes."""
        *planes, means = planes_and_means
        self.gates.give(means)
        changes: tuple[Tensor, ...] = self.inner(*planes)
        return changes


class _Gates:
    """Stands between the gates of a graph, which it replaces in place, and the means around it."""

    def __init__(self, graph: nn.Module) -> None:
        self.seen: list[Tensor] = []
        self._given: deque[Tensor] = deque()
        self._channels = []
        self._flag = torch.empty(0)
        for parent, name, gate in _found(graph):
            setattr(parent, name, _Gate(gate, self))
            self._channels.append(gate.squeeze.in_channels)

    def give(self, means: Tensor) -> None:
        """Set the means for the graph's next run."""
        self._flag, *given = torch.split(means.reshape(1, -1, 1, 1), [1, *self._channels], 1)
        self._given = deque(given)
        self.seen = []

    def used(self, own: Tensor) -> Tensor:
        """What the next gate takes in place of its picture's own means."""
        self.seen.append(own)
        given = self._given.popleft()
        return own + (self._flag * (given - own)).to(own.dtype)


class _Gate(nn.Module):
    def __init__(self, gate: SqueezeExcitation, gates: _Gates) -> None:
        super().__init__()
        self.gate = gate
        self._gates = gates

    def forward(self, x: Tensor) -> Tensor:
        return x * self.gate.scale(self._gates.used(x.mean((2, 3), keepdim=True)))


def _found(graph: nn.Module) -> list[tuple[nn.Module, str, SqueezeExcitation]]:
    """(parent, name, gate) of every gate, in the order of the blocks."""
    return [
        (parent, name, child)
        for parent in graph.modules()
        for name, child in parent.named_children()
        if isinstance(child, SqueezeExcitation)
    ]
