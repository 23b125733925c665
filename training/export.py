"""From a checkpoint to a weights file with its card: the only thing that training hands over."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch

from vderain.errors import WeightsError
from vderain.machine import cpu_fields, cpu_model
from vderain.network.card import Card
from vderain.network.config import TIERS
from vderain.network.semi_drdnet import SemiDRDNet
from vderain.training.trainer import TrainConfig
from vderain.weights import save_network


def export(
    config: TrainConfig, checkpoint: Path, weights: Path, *, command: str, scores: dict[str, Any]
) -> Card:
    """Write the averaged weights of a checkpoint as float16, and their card.

    Raises WeightsError where the checkpoint is missing, damaged or of another configuration.
    """
    network = SemiDRDNet(TIERS[config.tier])
    try:
        state = torch.load(checkpoint, map_location="cpu", weights_only=True)
        network.load_state_dict(state["averaged"])
    except (OSError, RuntimeError, KeyError, ValueError) as error:
        reason = str(error).splitlines()[0]
        raise WeightsError(
            f"{checkpoint}: not a checkpoint of tier {config.tier} ({reason})"
        ) from None
    card = Card(
        tier=config.tier,
        config=TIERS[config.tier],
        sha256="",
        scores=scores,
        training={
            "command": command,
            "steps": state["step"],
            "history": config.history,
            "hours": round(state["seconds"] / 3600, 2),
            "hardware": f"{cpu_model(cpu_fields())}, {torch.get_num_threads()} thread(s)",
            "torch": torch.__version__,
        },
        data=config.data,
        terms=config.terms,
    )
    return save_network(network.half(), weights, card)


def read_scores(path: Path | None) -> dict[str, Any]:
    """The scores that ``benchmarks/scores.py --json`` wrote, or none."""
    return dict(json.loads(path.read_text())) if path is not None else {}
