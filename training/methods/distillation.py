"""Distillation (ours): a larger network predicts a pool of patches once, and the student learns from them."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from vderain.clips import Window
from vderain.errors import OptionError, SinkError
from vderain.network.card import file_sha256
from vderain.network.config import AnyConfig, NetworkConfig
from vderain.training.config.semi_drdnet import TrainConfig
from vderain.training.data.stacks import window_of
from vderain.weights import find_weights, load_network

_PARTS = {
    "rainy": np.int16,
    "background": np.uint8,
    "weight": np.uint8,
    "answer": np.uint8,
}
# Settings that the predictions do not depend on, except the network's frames.
_STUDENT_ONLY = {"network", "tier", "steps", "learning_rate", "warmup_steps", "ema", "clip_norm"}
_STUDENT_ONLY |= {"penalty", "derained_weight", "ssim_weight", "dry_weight", "checkpoint_every"}
_STUDENT_ONLY |= {"teacher_share", "data", "terms", "cache_mb", "initial"}
_STUDENT_ONLY |= {"unpaired", "real_batch", "semi_from", "background_contrast", "rain_contrast"}
_STUDENT_ONLY |= {"encoder", "encoder_width", "encoder_weights", "compiled", "workers"}

Predicted = tuple[Tensor, Tensor, Tensor, Tensor]
"""Rainy, background, weight (N, 1, P, P), the teacher's prediction; the others (N, 3, P, P); float32."""


@dataclass(frozen=True, slots=True)
class Teacher:
    """A larger network, checked against its student.

    Attributes:
        path: its weights file.
        config: its shape.
        student: the student's shape.

    """

    path: Path
    config: AnyConfig
    student: NetworkConfig

    @classmethod
    def of(cls, config: TrainConfig) -> Teacher:
        """The teacher that a run names: a tier, or a weights file.

        Raises WeightsError for the file, OptionError where teacher and student do not fit together.
        """
        assert config.teacher is not None
        path, card = find_weights(config.tier, config.teacher)
        theirs, ours = card.config, config.network_config
        if config.patch % theirs.multiple:
            raise OptionError(
                f"patch {config.patch}: the teacher {path} needs a multiple of {theirs.multiple}"
            )
        if theirs.frames not in (1, ours.frames):
            raise OptionError(
                f"teacher {path}: sees {theirs.frames} frames and the student {ours.frames}; "
                "name one of as many, or of one frame"
            )
        if theirs.frames > 1 and not set(ours.seen_ranks) <= set(theirs.seen_ranks):
            raise OptionError(
                f"teacher {path}: sees the neighbours' ranks {theirs.seen_ranks} and the student "
                f"{ours.seen_ranks}; name one that sees at least the student's"
            )
        return cls(path, theirs, ours)

    @property
    def window(self) -> Window:
        """What the patches of its pool hold."""
        return window_of(self.student if self.config.frames == 1 else self.config)

    @property
    def students_channels(self) -> list[int]:
        """Which channels of those patches the student sees."""
        if self.config.frames == 1:
            return list(range(self.student.channels))
        ranks = self.config.seen_ranks
        return [0, 1, 2, *(3 + ranks.index(rank) for rank in self.student.seen_ranks)]


class TeacherPool:
    """Patches with a teacher's predictions, kept in files below a folder and mapped from there.

    Raises WeightsError for the teacher's file, SinkError where the predictions cannot be written.
    """

    def __init__(
        self,
        teacher: Teacher,
        config: TrainConfig,
        drawn: Callable[[], Iterator[tuple[Tensor, Tensor, Tensor]]],
        folder: Path,
        seed: int,
        device: torch.device,
    ) -> None:
        """``drawn`` gives batches that hold what ``teacher.window`` says; called only where they are needed."""
        self._seed, self._batch = seed, config.batch
        key = {name: value for name, value in config.to_dict().items() if name not in _STUDENT_ONLY}
        key |= {"frames": teacher.student.frames, "ranks": teacher.student.seen_ranks}
        identity = json.dumps(
            {**key, "teacher": file_sha256(teacher.path), "seed": seed}, sort_keys=True
        )
        known = folder / "key.json"
        if not known.exists() or known.read_text() != identity:
            try:
                _predict(teacher, drawn(), folder, config, device)
                known.write_text(identity)
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
    teacher: Teacher,
    batches: Iterator[tuple[Tensor, Tensor, Tensor]],
    folder: Path,
    config: TrainConfig,
    device: torch.device,
) -> None:
    """Fill the pool: all parts under their names only when the last patch is predicted."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "key.json").unlink(missing_ok=True)
    count = -(-config.teacher_patches // config.batch) * config.batch
    network = load_network(*find_weights(config.tier, str(teacher.path))).to(device)
    network = network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]  # undeclared in torch
    parts = {}
    for name, dtype in _PARTS.items():
        channels = {"rainy": teacher.student.channels, "weight": 1}.get(name, 3)
        shape = (count, channels, config.patch, config.patch)
        parts[name] = np.lib.format.open_memmap(folder / f"{name}.part", "w+", dtype, shape)
    enabled = config.precision != "float32"
    for first in range(0, count, config.batch):
        rainy, background, weight = next(batches)
        with torch.inference_mode(), torch.autocast(device.type, torch.bfloat16, enabled=enabled):
            seen = rainy if teacher.config.frames > 1 else rainy[:, :3]
            change = network.change(seen.to(device, memory_format=torch.channels_last))
        answer = (rainy[:, :3] + change.float().cpu()).clamp(0, 1)
        window = slice(first, first + config.batch)
        parts["rainy"][window] = (rainy[:, teacher.students_channels] * 255).round().short().numpy()
        parts["background"][window] = (background * 255).round().byte().numpy()
        parts["weight"][window] = (weight * 255).round().byte().numpy()
        parts["answer"][window] = (answer * 255).round().byte().numpy()
    for name, part in parts.items():
        part.flush()
        os.replace(folder / f"{name}.part", folder / f"{name}.npy")
