"""Makes the files that before-0.4.0.zip holds: run by the code of commit 498e34f, in an empty folder.

A training run that is stopped after 4 of 6 steps, weights exported from it, and a batch that is killed when
one of three segments is done.
"""

from pathlib import Path

import cv2
import numpy as np
from click.testing import CliRunner

from tests.media.synth import STEP, write
from vderain.batch.derain_archive import derain_archive
from vderain.batch.jobs import InProcess
from vderain.batch.options import BatchOptions
from vderain.cli.training.export import export
from vderain.network.config import NetworkConfig
from vderain.options import EncodeOptions, EngineOptions
from vderain.training.train import Trainer

ENGINE = EngineOptions(weights="tiny.safetensors", engine="reference", precision="float32")
BATCH = {
    "batch": BatchOptions(segment_s=1.0),
    "engine": ENGINE,
    "encode": EncodeOptions(preset="ultrafast"),
}


class Killed(BaseException):
    """Stands for what no code can catch."""


def images(folder):
    """Clean images to train on."""
    folder.mkdir(parents=True)
    rng = np.random.default_rng(0)
    for index in range(3):
        small = rng.integers(0, 256, (6, 8, 3), np.uint8)
        cv2.imwrite(str(folder / f"{index}.png"), cv2.resize(small, (96, 64)))


def train(folder):
    """A run that is killed behind its checkpoint, and the weights of that."""
    from vderain.training.config.methods import TrainConfig  # where commit 498e34f has it

    network = NetworkConfig(
        rain_width=4, rain_blocks=1, detail_width=4, detail_blocks=1, squeeze_ratio=4, unshuffle=2,
        dilations=(1,),
    )  # fmt: skip
    config = TrainConfig(
        sources={"clean": {"reader": "clean", "path": "clean", "share": 1.0}},
        network=network.to_dict(), encoder_width=4, batch=2, patch=32, steps=6, warmup_steps=2,
        checkpoint_every=3,
    )  # fmt: skip

    def kill(progress):
        if progress.step == 4:
            raise Killed

    images(folder / "data" / "clean")
    try:
        Trainer(config, folder / "run").train(folder / "data", kill)
    except Killed:
        CliRunner().invoke(export, [str(folder / "run"), "-o", str(folder / "tiny.safetensors")])


def derain(folder):
    """To be called with ``folder`` as the working directory."""
    (folder / "in").mkdir()
    write(
        folder / "in" / "a.mp4",
        pts=tuple(range(0, 60 * STEP, STEP)),
        languages=("eng",),
        options={"g": "10", "bf": "2", "x264-params": "open-gop=0:scenecut=0"},
    )
    run = InProcess.run

    def once(self, next_job):
        yield next(run(self, next_job))
        raise Killed

    InProcess.run = once
    try:
        derain_archive(["in"], "out", **BATCH)
    except Killed:
        InProcess.run = run


if __name__ == "__main__":
    train(Path.cwd())
    derain(Path.cwd())
