"""What a step of training is fed: samples of all sources side by side, one batch for each step."""

from __future__ import annotations

import itertools
import logging
from collections.abc import Iterator
from dataclasses import dataclass, fields, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from vderain.clips import Window
from vderain.errors import SourceError
from vderain.training.config.base import RunConfig
from vderain.training.config.nlcl import NlclTrainConfig
from vderain.training.config.semi_drdnet import TrainConfig
from vderain.training.data.cache import ImageCache
from vderain.training.data.images import ClipFile, read_window
from vderain.training.data.layouts.find import find_samples
from vderain.training.data.patches import Batch, PairedBatch, PatchSampler, UnpairedSampler
from vderain.training.data.sources import Samples, Source, load_sources
from vderain.training.data.stacks import window_of
from vderain.training.data.synthetic_clips import reach
from vderain.training.distributed import World
from vderain.training.methods.distillation import Teacher, TeacherPool
from vderain.training.rain.mining import MinedLayer, draw_mined, mine_streaks

_log = logging.getLogger(__name__)
_RANK_STRIDE = 7919  # processes of one run draw different patches
_MINED_STREAM = 2  # another one than those of patches.py
_CLIPS = {"rainy_clips"}
# Of a clip: its first seconds show all that its rain has to show, and layers fill memory.
_MINED_FRAMES = 48


@dataclass(frozen=True, slots=True)
class StepBatch:
    """The patches of one step, float32 RGB in [0, 1], (N, 3, P, P); what a run does not use is None.

    Attributes:
        rainy: paired or rendered rain, (N, 3 + T - 1, P, P) for a network of T frames.
        background: its ground truth.
        weight: how much each pixel counts, (N, 1, P, P).
        answer: a teacher's prediction for ``rainy``, (N, 3, P, P).
        real: real rain without ground truth, (M, 3, P, P).
        clean: clean images of other scenes, (M, 3, P, P).
        mined: rain layers mined from real footage, (M, 3, P, P), light to add.

    """

    rainy: Tensor
    background: Tensor
    weight: Tensor
    answer: Tensor | None = None
    real: Tensor | None = None
    clean: Tensor | None = None
    mined: Tensor | None = None

    def to(self, device: torch.device) -> StepBatch:
        """The same on a device, channels last."""
        return StepBatch(**_moved(self, device))


@dataclass(frozen=True, slots=True)
class UnpairedBatch:
    """Rainy and clean patches of different scenes, each (N, 3, P, P) float32 RGB in [0, 1]."""

    rainy: Tensor
    clean: Tensor

    def to(self, device: torch.device) -> UnpairedBatch:
        """The same on a device, channels last."""
        return UnpairedBatch(**_moved(self, device))


def _moved(batch: StepBatch | UnpairedBatch, device: torch.device) -> dict[str, Any]:
    return {
        item.name: tensor.to(device, memory_format=torch.channels_last, non_blocking=True)
        for item in fields(batch)
        if (tensor := getattr(batch, item.name)) is not None
    }


def step_batches(
    config: TrainConfig, data: Path, kept: Path, start: int, world: World
) -> Iterator[StepBatch]:
    """Batches from step ``start`` on, without end; batch k depends on the seed and k alone.

    The sources are opened, and the teacher predicts, before this returns: a thread could not be interrupted.
    The predictions are kept below the folder ``kept``; where they are already there, the sources stay closed.
    Raises SourceError for folders in which nothing can be used, and what Teacher and TeacherPool raise.
    """
    teacher = Teacher.of(config) if config.teacher is not None else None
    window = teacher.window if teacher else window_of(config.network_config)
    cache = ImageCache(config.cache_mb)
    seed = config.seed + _RANK_STRIDE * world.rank
    mined = _mined(config, data)
    around = reach(config.network_config.frames)

    def drawn(first: int) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
        sources = load_sources(config.sources, data, cache, reach=around)
        sampler = paired_sampler(config, sources, mined, seed, window)
        return _tensors(sampler.batches(first, workers=config.workers))

    if teacher is None:
        paired = (StepBatch(*batch) for batch in drawn(start))
    else:
        folder = kept / (f"teacher-{world.rank}" if world.rank else "teacher")
        pool = TeacherPool(teacher, config, partial(drawn, 0), folder, seed, world.device)
        paired = (StepBatch(*predicted) for predicted in pool.batches(start))
    if not config.is_semi_supervised:
        if unused := [n for n, table in config.real.items() if table.get("reader") not in _CLIPS]:
            reason = (
                "real rain is not used: name clean images under [unpaired], and a contrast above 0"
            )
            _log.warning("%s: %s", ", ".join(unused), reason)
        return paired
    unpaired = _unpaired_sampler(config, data, cache, config.real_batch, seed).batches(start)
    return _together(paired, unpaired, _layers(config, mined, seed, start))


def unpaired_batches(
    config: NlclTrainConfig, data: Path, start: int, world: World
) -> Iterator[UnpairedBatch]:
    """Batches from step ``start`` on, without end; batch k depends on the seed and k alone.

    Raises SourceError, before this returns, for folders in which nothing can be used.
    """
    cache = ImageCache(config.cache_mb)
    seed = config.seed + _RANK_STRIDE * world.rank
    sampler = _unpaired_sampler(config, data, cache, max(config.batch, config.encoder_batch), seed)
    batches = sampler.batches(start, workers=config.workers)
    return (UnpairedBatch(*map(torch.from_numpy, batch)) for batch in batches)


def _together(
    paired: Iterator[StepBatch], unpaired: Iterator[Batch], layers: Iterator[Tensor | None]
) -> Iterator[StepBatch]:
    for batch, sides, mined in zip(paired, unpaired, layers, strict=False):
        rainy, background = (torch.from_numpy(side) for side in sides)
        yield replace(batch, real=rainy, clean=background, mined=mined)


def paired_sampler(
    config: TrainConfig,
    sources: dict[str, Samples],
    mined: list[MinedLayer],
    seed: int,
    window: Window,
) -> PatchSampler:
    """The batches with ground truth of a configuration, from its opened sources."""
    return PatchSampler(
        sources,
        {name: samples.share for name, samples in sources.items()},
        patch=config.patch,
        batch=config.batch,
        dry_share=config.dry_share,
        close_drops=config.close_drops,
        past_share=config.past_share,
        seed=seed,
        window=window,
        rain_model=config.rain_model,
        mined=mined,
    )


def _unpaired_sampler(
    config: RunConfig, data: Path, cache: ImageCache, batch: int, seed: int
) -> UnpairedSampler:
    real = load_sources(config.real, data, cache, "real")
    clean = load_sources(config.unpaired, data, cache, "unpaired")
    return UnpairedSampler(
        real,
        clean,
        {name: samples.share for name, samples in real.items()},
        {name: samples.share for name, samples in clean.items()},
        patch=config.patch,
        batch=batch,
        seed=seed,
        renders=any(table.get("rendered") for table in config.real.values()),
    )


def _layers(
    config: TrainConfig, mined: list[MinedLayer], seed: int, start: int
) -> Iterator[Tensor | None]:
    """As many mined layers for each step as real patches, (M, 3, P, P); None where nothing was mined."""
    shape = (config.patch, config.patch, 3)
    for number in itertools.count(start):
        if not mined:
            yield None
            continue
        rng = np.random.default_rng((seed, number, _MINED_STREAM))
        drawn = (draw_mined(rng, mined, *shape[:2]) for _ in range(config.real_batch))
        light = [np.broadcast_to(one if one.ndim == 3 else one[..., None], shape) for one in drawn]
        yield torch.from_numpy(np.minimum(np.stack(light), 1).transpose(0, 3, 1, 2))


def _tensors(batches: Iterator[PairedBatch]) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
    for rainy, background, weight in batches:
        yield torch.from_numpy(rainy), torch.from_numpy(background), torch.from_numpy(weight)


def _mined(config: TrainConfig, data: Path) -> list[MinedLayer]:
    """Streak layers of the real rainy clips, where the configuration names some."""
    tables = {name: table for name, table in config.real.items() if table.get("reader") in _CLIPS}
    layers: list[MinedLayer] = []
    for name, table in tables.items():
        source = Source.from_table(name, table)
        samples = find_samples(data / source.path, source).samples
        for clip in dict.fromkeys(sample.path for sample in samples):
            try:
                frames = read_window(ClipFile(clip, 0, _MINED_FRAMES), at_most=True)
            except SourceError as error:
                _log.warning("%s: no streaks mined: %s", name, error)
                continue
            mined = mine_streaks(frames)
            if not mined:
                _log.warning("%s: %s: no streaks found that could be mined", name, clip)
            layers += mined
    return layers
