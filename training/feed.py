"""What a step of training is fed: samples of all sources side by side, one batch for each step."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from vderain.training.cache import PictureCache
from vderain.training.config import TrainConfig
from vderain.training.datasets import Source, load_sources
from vderain.training.distill import TeacherPool
from vderain.training.distributed import World
from vderain.training.layouts import find_clips
from vderain.training.mining import MinedLayer, mine_streaks
from vderain.training.patches import Batch, PatchSampler, UnpairedSampler
from vderain.training.pictures import ClipFile, read_window

_RANK_STRIDE = 7919  # processes of one run draw different patches
_CLIPS = {"rainy_clips"}
_MINED_FRAMES = 120  # of a clip: a few seconds show all that its rain has to show


@dataclass(frozen=True, slots=True)
class StepBatch:
    """The patches of one step, float32 RGB in [0, 1], (N, 3, P, P); what a run does not use is None.

    Attributes:
        rainy: paired or rendered rain.
        background: its ground truth.
        teacher_streaks: a teacher's R of ``rainy``.
        teacher_detail: its D.
        real: real rain without ground truth, (M, 3, P, P).
        clean: clean pictures of other scenes, (M, 3, P, P).

    """

    rainy: Tensor
    background: Tensor
    teacher_streaks: Tensor | None = None
    teacher_detail: Tensor | None = None
    real: Tensor | None = None
    clean: Tensor | None = None

    def to(self, device: torch.device) -> StepBatch:
        """The same on a device, channels last."""
        tensors: dict[str, Any] = {
            item.name: tensor.to(device, memory_format=torch.channels_last, non_blocking=True)
            for item in fields(self)
            if (tensor := getattr(self, item.name)) is not None
        }
        return StepBatch(**tensors)


def step_batches(
    config: TrainConfig, data: Path, run_dir: Path, start: int, world: World
) -> Iterator[StepBatch]:
    """Batches from step ``start`` on, without end; batch k depends on the seed and k alone.

    Raises SourceError for folders in which nothing can be used, and what TeacherPool raises.
    """
    cache = PictureCache(config.cache_mb)
    seed = config.seed + _RANK_STRIDE * world.rank
    paired = _paired(config, data, run_dir, cache, seed, start)
    if not config.is_semi_supervised:
        yield from paired
        return
    real = load_sources(config.real, data, cache)
    clean = load_sources(config.unpaired, data, cache)
    unpaired = UnpairedSampler(
        real,
        clean,
        {name: samples.share for name, samples in real.items()},
        {name: samples.share for name, samples in clean.items()},
        patch=config.patch,
        batch=config.real_batch,
        seed=seed,
    ).batches(start)
    for batch, sides in zip(paired, unpaired, strict=False):
        rainy, background = (torch.from_numpy(side) for side in sides)
        yield replace(batch, real=rainy, clean=background)


def _paired(
    config: TrainConfig, data: Path, run_dir: Path, cache: PictureCache, seed: int, start: int
) -> Iterator[StepBatch]:
    sources = load_sources(config.sources, data, cache)
    sampler = PatchSampler(
        sources,
        {name: samples.share for name, samples in sources.items()},
        patch=config.patch,
        batch=config.batch,
        dry_share=config.dry_share,
        seed=seed,
        rain_model=config.rain_model,
        mined=_mined(config, data),
    )
    if config.teacher is not None:
        pool = TeacherPool(config, _tensors(sampler.batches()), run_dir / "teacher", seed)
        for rainy, background, streaks, detail in pool.batches(start):
            yield StepBatch(rainy, background, streaks, detail)
    for rainy, background in _tensors(sampler.batches(start)):
        yield StepBatch(rainy, background)


def _tensors(batches: Iterator[Batch]) -> Iterator[tuple[Tensor, Tensor]]:
    for rainy, background in batches:
        yield torch.from_numpy(rainy), torch.from_numpy(background)


def _mined(config: TrainConfig, data: Path) -> list[MinedLayer]:
    """Streak layers of the real rainy clips, where the configuration names some."""
    tables = {name: table for name, table in config.real.items() if table.get("reader") in _CLIPS}
    layers: list[MinedLayer] = []
    for name, table in tables.items():
        folder = data / Source.from_table(name, table).path
        for clip in find_clips(folder):
            layers += mine_streaks(read_window(ClipFile(clip, 0, _MINED_FRAMES), at_most=True))
    return layers
