"""Distillation (ours): a larger network predicts a pool of patches once, and the student learns from them."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from vderain.errors import OptionError, SinkError
from vderain.network.base import ChangeNetwork
from vderain.network.card import file_sha256
from vderain.network.config import NetworkConfig
from vderain.training.config.semi_drdnet import TrainConfig
from vderain.weights import find_weights, load_network

_PARTS = {
    "rainy": np.int16,
    "background": np.uint8,
    "weight": np.uint8,
    "streaks": np.float16,
    "detail": np.float16,
}
# Settings that the predictions do not depend on, except the network's frames.
_STUDENT_ONLY = {"network", "tier", "steps", "learning_rate", "warmup_steps", "ema", "clip_norm"}
_STUDENT_ONLY |= {"penalty", "derained_weight", "ssim_weight", "dry_weight", "checkpoint_every"}
_STUDENT_ONLY |= {"teacher_change", "teacher_branches", "data", "terms", "cache_mb", "initial"}
_STUDENT_ONLY |= {"unpaired", "real_batch", "semi_from", "background_contrast", "rain_contrast"}
_STUDENT_ONLY |= {"encoder", "encoder_width", "encoder_weights", "compiled", "workers"}

Predicted = tuple[Tensor, Tensor, Tensor, Tensor, Tensor]
"""Rainy, background, weight (N, 1, P, P), R, D; the others (N, 3, P, P); float32."""


class TeacherPool:
    """Patches with a teacher's predictions, kept in files below a folder and mapped from there.

    Raises WeightsError for the teacher's file, OptionError where a patch does not suit it, SinkError
    where the predictions cannot be written.
    """

    def __init__(
        self,
        config: TrainConfig,
        batches: Iterator[tuple[Tensor, Tensor, Tensor]],
        folder: Path,
        seed: int,
        device: torch.device,
    ) -> None:
        assert config.teacher is not None
        self._seed, self._batch = seed, config.batch
        path, card = find_weights(config.tier, config.teacher)
        if config.patch % card.config.multiple:
            raise OptionError(
                f"patch {config.patch}: the teacher {path} needs a multiple of {card.config.multiple}"
            )
        key = {name: value for name, value in config.to_dict().items() if name not in _STUDENT_ONLY}
        key["frames"] = config.network_config.frames
        told = json.dumps({**key, "teacher": file_sha256(path), "seed": seed}, sort_keys=True)
        if not isinstance(card.config, NetworkConfig):
            raise OptionError(
                f"teacher {path}: is a {card.network} network, which has no branches to learn from; "
                "name weights of Semi-DRDNet"
            )
        theirs, ours = card.config.frames, config.network_config.frames
        if theirs not in (1, ours):
            raise OptionError(
                f"teacher {path}: sees {theirs} frames and the student {ours}; "
                "name one of as many, or of one frame"
            )
        known = folder / "key.json"
        if not known.exists() or known.read_text() != told:
            try:
                _predict(load_network(path, card).to(device), batches, folder, config)
                known.write_text(told)
            except OSError as error:
                raise SinkError(
                    f"{folder}: the teacher's predictions cannot be kept ({error})"
                ) from error
        self._parts = [np.load(folder / f"{name}.npy", mmap_mode="r") for name in _PARTS]

    def batches(self, start: int = 0) -> Iterator[Predicted]:
        """Endless batches; number k is drawn from (seed, k) and mirrored half of the time."""
        index = start
        while True:
            rng = np.random.default_rng((self._seed, index))
            chosen = np.sort(rng.integers(len(self._parts[0]), size=self._batch))
            step = -1 if rng.random() < 0.5 else 1
            drawn = [np.ascontiguousarray(part[chosen][..., ::step]) for part in self._parts]
            yield tuple(_tensor(part) for part in drawn)  # type: ignore[misc]  # as many as _PARTS
            index += 1


def _tensor(part: npt.NDArray[np.generic]) -> Tensor:
    values = torch.from_numpy(part).float()
    return values / 255 if np.issubdtype(part.dtype, np.integer) else values


def _predict(
    teacher: ChangeNetwork,
    batches: Iterator[tuple[Tensor, Tensor, Tensor]],
    folder: Path,
    config: TrainConfig,
) -> None:
    """Fill the pool: all parts under their names only when the last patch is predicted."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "key.json").unlink(missing_ok=True)
    count = -(-config.teacher_patches // config.batch) * config.batch
    device = next(teacher.parameters()).device
    teacher = teacher.to(memory_format=torch.channels_last)  # type: ignore[call-overload]  # undeclared in torch
    parts = {}
    for name, dtype in _PARTS.items():
        channels = {"rainy": config.network_config.channels, "weight": 1}.get(name, 3)
        shape = (count, channels, config.patch, config.patch)
        parts[name] = np.lib.format.open_memmap(folder / f"{name}.part", "w+", dtype, shape)
    enabled = config.precision != "float32"
    for first in range(0, count, config.batch):
        rainy, background, weight = next(batches)
        with torch.inference_mode(), torch.autocast(device.type, torch.bfloat16, enabled=enabled):
            seen = rainy if teacher.config.frames > 1 else rainy[:, :3]
            streaks, detail = teacher(seen.to(device, memory_format=torch.channels_last))
        window = slice(first, first + config.batch)
        parts["rainy"][window] = (rainy * 255).round().short().numpy()
        parts["background"][window] = (background * 255).round().byte().numpy()
        parts["weight"][window] = (weight * 255).round().byte().numpy()
        parts["streaks"][window] = streaks.float().cpu().numpy()
        parts["detail"][window] = detail.float().cpu().numpy()
    for name, part in parts.items():
        part.flush()
        os.replace(folder / f"{name}.part", folder / f"{name}.npy")
