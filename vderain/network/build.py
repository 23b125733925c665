"""From a card's config to its network."""

from __future__ import annotations

from vderain.network.base import ChangeNetwork
from vderain.network.config import AnyConfig, NlclConfig
from vderain.network.nlcl import NlclNetwork
from vderain.network.semi_drdnet import SemiDRDNet


def build_network(config: AnyConfig) -> ChangeNetwork:
    """The network of a config, with random weights."""
    return NlclNetwork(config) if isinstance(config, NlclConfig) else SemiDRDNet(config)
