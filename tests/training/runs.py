"""Short runs of supervised training on the clean images of a folder."""

import csv

from tests.networks import TINY
from vderain.training.config.semi_drdnet import TrainConfig

SHAPE = TINY.to_dict()
CLEAN = {"clean": {"reader": "clean", "path": "clean", "share": 1.0}}


def config(**changes):
    settings = {"batch": 2, "patch": 32, "steps": 30, "warmup_steps": 5, "checkpoint_every": 10}
    return TrainConfig(**{"sources": CLEAN, "network": SHAPE, **settings, **changes})


def log_of(run):
    with (run / "log.csv").open() as file:
        return list(csv.DictReader(file))
