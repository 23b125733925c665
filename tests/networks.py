"""Networks and plane formats that several tests use."""

from dataclasses import replace

import torch
from torch import nn

from vderain.network.base import ChangeNetwork
from vderain.network.config import FAST, TIERS, NetworkConfig, NlclConfig

TINY = NetworkConfig(
    rain_width=8, rain_blocks=1, detail_width=8, detail_blocks=1, squeeze_ratio=4, unshuffle=4
)

COARSE = replace(TINY, rain_blocks=2, coarse_blocks=(1, 1))

TEMPORAL = replace(COARSE, unshuffle=2, frames=3)

# Begins with the median of five frames; its clips hold two planes of neighbours, as those of TEMPORAL do.
MEDIAN = replace(COARSE, unshuffle=2, frames=5, fusion="median", ranks=(1, 2))

FIVE_GATES = replace(FAST, frames=5, fusion="gates", ranks=())
NINE_MEDIAN = replace(FAST, frames=9, fusion="median", ranks=(1, 2, 3, 4))

_NAMED = {**TIERS, "gates of five": FIVE_GATES, "median of nine": NINE_MEDIAN}
# Every tier, and both ways to use neighbours, whichever the tiers have; a shape with two names goes by the first.
EVERY_TIER = {
    name: config for name, config in _NAMED.items() if config not in TIERS.values() or name in TIERS
}

TINY_NLCL = NlclConfig(width=8, blocks=2)


def randomized(network, seed=0):
    """Give normalisation statistics that matter, and return the network in evaluation mode."""
    generator = torch.Generator().manual_seed(seed)

    def uniform(tensor, low, high):
        tensor.copy_(torch.rand(tensor.shape, generator=generator) * (high - low) + low)

    if getattr(network, "gates", None) is not None:
        uniform(network.gates.weight.data, -0.1, 0.1)  # or every pixel would have the same gate
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d | nn.InstanceNorm2d):
            uniform(module.running_mean, -0.2, 0.2)
            uniform(module.running_var, 0.5, 2.0)
        if isinstance(module, nn.BatchNorm2d):
            uniform(module.weight.data, 0.5, 1.5)
            uniform(module.bias.data, -0.2, 0.2)
    return network.eval().requires_grad_(False)


class ConstantChange(ChangeNetwork):
    """A network that darkens every image by the same amount of RGB."""

    def __init__(self, change):
        super().__init__()
        self.amount = change

    def change(self, rainy):
        return torch.full_like(rainy[:, :3], self.amount)
