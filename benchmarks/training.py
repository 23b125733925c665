"""Steps per second of training, and the share of time that the network waits for data; prints, asserts nothing.

VDERAIN_DATA=<folder with train/> OMP_NUM_THREADS=1 python benchmarks/training.py [CONFIG] [--set NAME=VALUE]
"""

from __future__ import annotations

import os
import platform
import tempfile
import time
from importlib.metadata import version
from pathlib import Path

import click
import torch

from vderain.machine import cpu_fields, cpu_model
from vderain.training.config.methods import TrainConfig
from vderain.training.train import Trainer, TrainProgress

WARM_UP = 20  # steps, in which the queue of batches fills


@click.command()
@click.argument("config", type=click.Path(path_type=Path), default="fast")
@click.option("--steps", default=100, help="Measured steps.")
@click.option("--set", "settings", multiple=True, metavar="NAME=VALUE", help="Change a setting.")
def main(config: Path, steps: int, settings: tuple[str, ...]) -> None:
    """Train some steps in a folder that is thrown away."""
    packages = ("vderain", "torch", "opencv-python-headless")
    print(f"{cpu_model(cpu_fields())}, {os.cpu_count()} cores, {torch.get_num_threads()} thread(s), "
          f"Python {platform.python_version()}, "
          + ", ".join(f"{name} {version(name)}" for name in packages))  # fmt: skip
    chosen = TrainConfig.load(config, settings, steps=WARM_UP + steps)
    since = {}

    def note(progress: TrainProgress) -> None:
        if progress.step in (WARM_UP, WARM_UP + steps):
            since[progress.step] = time.monotonic(), progress.waiting_share

    with tempfile.TemporaryDirectory() as folder:
        Trainer(chosen, Path(folder)).train(Path(os.environ.get("VDERAIN_DATA", ".")), note)
    (began, _), (ended, share) = since[WARM_UP], since[WARM_UP + steps]
    print(f"{config}: batch {chosen.batch} of {chosen.patch} px, {chosen.precision}: "
          f"{steps / (ended - began):.2f} steps/s, waits for data {share:.1%} of the time since the start")  # fmt: skip


if __name__ == "__main__":
    main()
