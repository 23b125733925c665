"""Patches per second that the loader makes, for each source of a configuration; prints, asserts nothing.

    VDERAIN_DATA=<folder with train/> python benchmarks/loader.py [CONFIG] [--rain simple] [--workers 2]

Seconds are of CPU in one thread, so that other work on the machine disturbs little; with workers, of the clock.
"""

from __future__ import annotations

import os
import platform
import resource
import time
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path

import click
import cv2

from vderain.machine import cpu_fields, cpu_model
from vderain.training.config.methods import TrainConfig
from vderain.training.data.cache import PictureCache
from vderain.training.data.patches import PatchSampler, UnpairedSampler
from vderain.training.data.sources import load_sources
from vderain.training.data.synthetic_clips import reach
from vderain.training.methods.batches import paired_sampler

WARM_UP, MEASURED = 2, 20  # batches


def unpaired_of(config: TrainConfig, data: Path, cache: PictureCache) -> UnpairedSampler:
    sides = [
        load_sources(getattr(config, section), data, cache, section)
        for section in ("real", "unpaired")
    ]
    shares = [{name: samples.share for name, samples in side.items()} for side in sides]
    return UnpairedSampler(
        *sides, *shares, patch=config.patch, batch=config.real_batch, seed=config.seed
    )


def rate(
    sampler: PatchSampler | UnpairedSampler,
    clock: Callable[[], float],
    workers: int = 0,
) -> float:
    """Batches per second."""
    batches = sampler.batches(workers=workers)
    for _ in range(WARM_UP + workers * 2):
        next(batches)
    since = clock()
    for _ in range(MEASURED):
        next(batches)
    return MEASURED / (clock() - since)


@click.command()
@click.argument("config", type=click.Path(path_type=Path), default="fast")
@click.option("--rain", type=click.Choice(["full", "simple"]), help="Another model of rain.")
@click.option("--workers", default=0, help="Threads to measure besides the single one.")
@click.option("--cache-mb", default=None, type=int, help="Another budget for decoded pictures.")
def main(config: Path, rain: str | None, workers: int, cache_mb: int | None) -> None:
    """Measure the whole mixture, then each source alone."""
    cv2.setNumThreads(1)
    packages = ("vderain", "numpy", "opencv-python-headless")
    print(f"{cpu_model(cpu_fields())}, {os.cpu_count()} cores, Python {platform.python_version()}, "
          + ", ".join(f"{name} {version(name)}" for name in packages))  # fmt: skip
    data = Path(os.environ["VDERAIN_DATA"])
    settings = TrainConfig.load(config, **({"rain_model": rain} if rain else {}))
    cache = PictureCache(settings.cache_mb if cache_mb is None else cache_mb)
    since = time.monotonic()
    around = reach(settings.network_config.frames)
    sources = load_sources(settings.sources, data, cache, reach=around)
    print(f"{config}: {sum(map(len, sources.values()))} samples loaded in {time.monotonic() - since:.1f} s, "
          f"patch {settings.patch}, batch {settings.batch}, rain {settings.rain_model}")  # fmt: skip
    mixture = paired_sampler(settings, sources, [], settings.seed)
    each = settings.batch
    print(f"{'all sources':14} {rate(mixture, time.process_time) * each:7.0f} patches/s")
    if workers:
        made = rate(mixture, time.monotonic, workers) * each
        print(f"{f'{workers} workers':14} {made:7.0f} patches/s")
    for name, samples in sources.items():
        alone = paired_sampler(settings, {name: samples}, [], settings.seed)
        print(
            f"{name:14} {rate(alone, time.process_time) * each:7.0f} patches/s, {len(samples)} samples"
        )
    if settings.real:
        unpaired = rate(unpaired_of(settings, data, cache), time.process_time)
        print(
            f"{'unpaired':14} {unpaired * settings.real_batch:7.0f} real and as many clean patches/s"
        )
    print(f"peak memory {resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024:.0f} MiB")


if __name__ == "__main__":
    main()
