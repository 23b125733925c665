"""From a checkpoint to a weights file with its card: the only thing that training hands over."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import torch

from vderain.errors import OptionError, SinkError, WeightsError
from vderain.machine import cpu_fields, cpu_model
from vderain.network.card import Card, card_path
from vderain.network.semi_drdnet import SemiDRDNet
from vderain.training.checkpoint import checkpoint_path, load_checkpoint
from vderain.training.config import TrainConfig
from vderain.training.distributed import World
from vderain.weights import save_network

# What repeats a run beside its configuration's name; the texts of the card need not stand there twice.
_OTHER_KEYS = ("data", "terms")


def export_weights(
    checkpoint: Path,
    weights: Path,
    *,
    scores: dict[str, Any] | None = None,
    overwrite: bool = False,
) -> Card:
    """Write the averaged weights of a run's folder or checkpoint as float16, and their card.

    Raises WeightsError where the checkpoint is missing or damaged, SinkError where ``weights`` exists or
    cannot be written, OptionError for a name that is none of a weights file.
    """
    if weights.suffix != ".safetensors":
        raise OptionError(f"{weights}: name a file ending in .safetensors")
    if not weights.parent.is_dir():
        raise SinkError(f"{weights}: the folder {weights.parent} does not exist; create it first")
    if not overwrite and (weights.exists() or card_path(weights).exists()):
        raise SinkError(f"{weights}: exists already; use --overwrite to replace it and its card")
    path = checkpoint_path(checkpoint)
    state = load_checkpoint(path)
    config = TrainConfig.from_dict(state["config"], str(path))
    network = SemiDRDNet(config.network_config)
    try:
        network.load_state_dict(state["averaged"])
    except (RuntimeError, KeyError) as error:
        reason = str(error).splitlines()[0]
        raise WeightsError(f"{path}: does not fit its configuration ({reason})") from None
    card = Card(
        tier=config.tier,
        config=config.network_config,
        sha256="",
        scores=scores or {},
        training={
            "config": {k: _named(v) for k, v in config.to_dict().items() if k not in _OTHER_KEYS},
            "steps": state["step"],
            "changes": state["history"],
            "hours": round(state["seconds"] / 3600, 2),
            "hardware": state["hardware"],
            "torch": state["torch"],
        },
        data=config.data,
        terms=config.terms,
    )
    return _save(network.half(), weights, card)


def _named(value: Any) -> Any:
    """A setting without the folders of the machine that it was used on."""
    if isinstance(value, dict):
        return {name: _named(inner) for name, inner in value.items()}
    return Path(value).name if isinstance(value, str) and os.path.isabs(value) else value


def _save(network: SemiDRDNet, weights: Path, card: Card) -> Card:
    """Both files under hidden names first, then under their own."""
    written = weights.with_name(f".{weights.stem}.part.safetensors")
    try:
        saved = save_network(network, written, card)
        os.replace(card_path(written), card_path(weights))
        os.replace(written, weights)
    except Exception as error:  # safetensors has an error of its own for a full disk
        for path in (written, card_path(written)):
            path.unlink(missing_ok=True)
        raise SinkError(f"{weights}: cannot be written ({error})") from error
    return saved


def read_scores(path: Path | None) -> dict[str, Any]:
    """The scores that ``vderain evaluate --json`` wrote, or none; OptionError where they cannot be read."""
    if path is None:
        return {}
    try:
        return dict(json.loads(path.read_text())["summary"])
    except (OSError, ValueError, TypeError, KeyError) as error:
        raise OptionError(
            f"{path}: not the scores that vderain evaluate writes ({error})"
        ) from None


def hardware(world: World) -> dict[str, str]:
    """What a run trains on, and with which torch, for checkpoints and cards."""
    if world.device.type == "cuda":
        name = torch.cuda.get_device_name(world.device)
    else:
        name = f"{cpu_model(cpu_fields())}, {torch.get_num_threads()} thread(s)"
    if world.size > 1:
        name = f"{world.size} x {name}"
    return {"hardware": name, "torch": str(torch.__version__)}
