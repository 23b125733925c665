"""From a checkpoint to a weights file with its card: the only thing that training hands over."""

from __future__ import annotations

import copy
import json
import logging
import os
import shlex
from collections.abc import Iterator
from dataclasses import replace
from itertools import islice
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError

from vderain.errors import OptionError, SinkError, SourceError, WeightsError
from vderain.machine import cpu_fields, cpu_model
from vderain.metrics import mean_psnr, psnr
from vderain.network.base import ChangeNetwork
from vderain.network.build import build_network
from vderain.network.card import Card, card_path
from vderain.training.calibrate import clean_scales, int8_scales
from vderain.training.checkpoint import checkpoint_path, load_checkpoint
from vderain.training.config.base import RunConfig
from vderain.training.config.methods import load_config, state_config
from vderain.training.config.nlcl import NlclTrainConfig
from vderain.training.config.semi_drdnet import TrainConfig
from vderain.training.config.settings import overrides_between
from vderain.training.data.cache import ImageCache
from vderain.training.data.sources import load_sources
from vderain.training.distributed import World
from vderain.training.evaluation.predict import derain_image
from vderain.training.rain.render import Image
from vderain.weights import find_weights, load_network, save_network

_log = logging.getLogger(__name__)

# What repeats a run, in addition to its recipe's name; the texts of the card are not repeated.
_OTHER_KEYS = ("data", "terms")
_DRY_IMAGES, _DRY_PX = 8, 256  # how many are measured, and the side of the middle that is


def export_weights(
    checkpoint: Path,
    weights: Path,
    *,
    scores: dict[str, Any] | None = None,
    overwrite: bool = False,
    clean: Path | None = None,
    for_int8: bool = True,
) -> Card:
    """Write the averaged weights of a run's folder or checkpoint as float16, and their card.

    The card of a network that draws the whole image also has ``dry_psnr_db`` among its scores: how near
    it comes to dry images of the run's own clean source, null where these are not there any more. Of a
    SemiDRDNet the card has the ranges that int8 needs, measured on the run's sources, or on rain rendered
    onto the images of ``clean``, unless ``for_int8`` is false. ``checkpoint`` may be weights already, whose
    card is kept but for these and ``scores``.

    Raises WeightsError where the checkpoint is missing or damaged, SinkError where ``weights`` exists or
    cannot be written, OptionError for a name that is none of a weights file.
    """
    check_output(weights, overwrite=overwrite)
    if checkpoint.suffix == ".safetensors":
        return _rewritten(checkpoint, weights, scores, clean)
    path = checkpoint_path(checkpoint)
    state = load_checkpoint(path)
    config = state_config(state, path)
    network = build_network(config.network_config)
    try:
        network.load_state_dict(state["averaged"])
    except (RuntimeError, KeyError) as error:
        reason = str(error).splitlines()[0]
        raise WeightsError(f"{path}: does not fit its configuration ({reason})") from None
    scores = dict(scores or {})
    if isinstance(config, NlclTrainConfig):
        scores["dry_psnr_db"] = _dry_psnr_db(network, config, Path(state["folder"]))
    card = Card(
        tier=config.tier,
        config=config.network_config,
        sha256="",
        scores=scores,
        training={
            "command": command(config),
            "config": {k: _named(v) for k, v in config.to_dict().items() if k not in _OTHER_KEYS},
            "steps": state["step"],
            "changes": state["history"],
            "hours": round(state["seconds"] / 3600, 2),
            "hardware": state["hardware"],
            "torch": state["torch"],
        },
        data=config.data,
        terms=config.terms,
        int8=_int8_scales(network, config, Path(state["folder"]), clean) if for_int8 else {},
    )
    return write_weights(network, weights, card)


def command(config: RunConfig) -> str:
    """The command that repeats a run, with what differs from the shipped configuration of its tier.

    Files and folders are named without the folders around them. Where no configuration of that name is
    shipped, every setting is given, to override a file of the user's own.
    """
    try:
        shipped = load_config(Path(config.tier))
        known = shipped.to_dict() if type(shipped) is type(config) else {}
    except OptionError:
        known = {}
    wanted = {k: _named(v) for k, v in config.to_dict().items() if k not in _OTHER_KEYS}
    texts = overrides_between(known, {k: v for k, v in wanted.items() if v is not None})
    sets = (f"--set {shlex.quote(text)}" for text in texts)
    return " ".join(["vderain train", config.tier if known else "CONFIG", *sets])


def check_output(weights: Path, *, overwrite: bool) -> None:
    """Raise OptionError or SinkError where weights cannot be written under this name."""
    if weights.suffix != ".safetensors":
        raise OptionError(f"{weights}: name a file ending in .safetensors")
    if not weights.parent.is_dir():
        raise SinkError(f"{weights}: the folder {weights.parent} does not exist; create it first")
    if not overwrite and (weights.exists() or card_path(weights).exists()):
        raise SinkError(f"{weights}: exists already; use overwrite=True to replace it and its card")


def _rewritten(
    source: Path, weights: Path, scores: dict[str, Any] | None, clean: Path | None
) -> Card:
    """Write weights again, with scores or with what int8 needs on their card."""
    if clean is None and not scores:
        raise OptionError(
            f"{source}: weights already; name calibration images for int8, or scores that evaluate wrote"
        )
    path, card = find_weights(source.stem, str(source))
    network = load_network(path, card)
    if scores:
        card = replace(card, scores={**card.scores, **scores})  # what a precision loses stays known
    if clean is not None:
        card = replace(card, int8=clean_scales(network, clean))
    return write_weights(network, weights, card)


def _int8_scales(
    network: ChangeNetwork, config: RunConfig, folder: Path, clean: Path | None
) -> dict[str, tuple[float, float]]:
    """Ranges for int8; none of a network that draws the whole image, or where no image is left."""
    if not isinstance(config, TrainConfig):
        return {}
    rounded = copy.deepcopy(network).half().float().eval()  # as the weights file will hold it
    try:
        if clean is not None:
            return clean_scales(rounded, clean)
        return int8_scales(rounded, config.sources, folder)
    except SourceError as error:
        if clean is not None:
            raise
        _log.warning("the card has no int8 scales (name other calibration images): %s", error)
        return {}


def recipe_scales(
    network: ChangeNetwork, checkpoint: Path, clean: Path | None
) -> dict[str, tuple[float, float]]:
    """Ranges for int8 of weights whose run ended with ``checkpoint``, as ``export_weights`` measures them."""
    path = checkpoint_path(checkpoint)
    state = load_checkpoint(path)
    return _int8_scales(network, state_config(state, path), Path(state["folder"]), clean)


def _named(value: Any) -> Any:
    """A setting without the folders of the machine that it was used on."""
    if isinstance(value, dict):
        return {name: _named(inner) for name, inner in value.items()}
    return Path(value).name if isinstance(value, str) and os.path.isabs(value) else value


def _dry_psnr_db(network: ChangeNetwork, config: RunConfig, folder: Path) -> float | None:
    """Mean PSNR in dB of dry images with what the network makes of them, both in 8 bit; None without any."""
    network.eval()
    try:
        found = [psnr(derain_image(network, image), image) for image in _dry_images(config, folder)]
    except SourceError as error:
        _log.warning("the card does not say how far dry images move: %s", error)
        return None
    return round(mean_psnr(found), 2)


def _dry_images(config: RunConfig, folder: Path) -> Iterator[Image]:
    """The middles of a few clean images, spread over each source of the run, (H, W, 3) uint8 RGB."""
    sources = load_sources(config.unpaired, folder, ImageCache(0), "unpaired")
    each = -(-_DRY_IMAGES // len(sources))
    for samples in sources.values():
        for sample in islice(samples[:: max(1, len(samples) // each)], each):
            assert sample.background is not None  # as load_sources demands
            yield _middle(sample.background)


def _middle(image: Image) -> Image:
    top, left = (max(0, side - _DRY_PX) // 2 for side in image.shape[:2])
    return image[top : top + _DRY_PX, left : left + _DRY_PX]


def write_weights(network: ChangeNetwork, weights: Path, card: Card) -> Card:
    """Write a network as float16, and its card: under hidden names first. Raises SinkError."""
    written = weights.with_name(f".{weights.stem}.part.safetensors")
    try:
        saved = save_network(network.half(), written, card)
        os.replace(card_path(written), card_path(weights))
        os.replace(written, weights)
    except (OSError, SafetensorError) as error:  # the latter for a full disk
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
    except (OSError, ValueError, TypeError, KeyError, RecursionError) as error:
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
