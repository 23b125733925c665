"""The shipped weights and how weights are found, checked and loaded. Torch is imported when a network is."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vderain.errors import WeightsError, needs_torch
from vderain.network.card import Card, file_sha256
from vderain.network.config import TIERS

if TYPE_CHECKING:
    from vderain.network.base import ChangeNetwork


def find_weights(tier: str, weights: str | None = None) -> tuple[Path, Card]:
    """The weights file of a tier, or the user's own, checked against its card.

    ``weights`` is a file, or the name of the tier whose shipped weights are meant.

    Raises WeightsError where file or card is missing, or the file is not the one the card describes.
    """
    if not weights or weights in TIERS:
        path = Path(__file__).parent / f"{weights or tier}.safetensors"
    else:
        path = Path(weights)
    if not os.path.isfile(path):  # unlike Path.is_file, it also bears names that are too long
        raise WeightsError(f"{path}: no such weights file")
    card = Card.load(path)
    if file_sha256(path) != card.sha256:
        raise WeightsError(
            f"{path}: damaged, its sha256 is not the card's; install or copy it again"
        )
    return path, card


def load_network(path: Path, card: Card) -> ChangeNetwork:
    """The network of a checked weights file, in float32 and evaluation mode; WeightsError where it does not fit."""
    try:
        from safetensors import SafetensorError
        from safetensors.torch import load_file

        from vderain.network.build import build_network
    except ImportError as error:
        raise WeightsError(f"{path}: {needs_torch('reading it')}") from error

    network = build_network(card.config)
    try:
        network.load_state_dict(load_file(path))
    except (SafetensorError, RuntimeError) as error:
        raise WeightsError(
            f"{path}: does not fit its card ({str(error).splitlines()[0]})"
        ) from None
    return network.eval().requires_grad_(False)


def save_network(network: ChangeNetwork, path: Path, card: Card) -> Card:
    """Write weights and card; returns the card with the file's sha256. Tensors keep their dtype."""
    from safetensors.torch import save_file

    state: dict[str, Any] = {
        name: value.contiguous() for name, value in network.state_dict().items()
    }
    save_file(state, path)
    path.chmod(0o644)  # safetensors writes files that only their owner may read
    card = replace(card, sha256=file_sha256(path))
    card.save(path)
    return card
