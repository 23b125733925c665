"""Configurations of short runs of NLCL."""

from tests.networks import TINY_NLCL
from vderain.training.config.nlcl import NlclTrainConfig

TERMS = ("consistency", "sparsity", "adversarial", "layer_contrast", "location_contrast")
WET = {"wet": {"reader": "real", "path": "wet", "share": 1.0}}
DRY = {"dry": {"reader": "clean", "path": "dry", "share": 1.0}}


def config(**changes):
    settings = {
        "network": TINY_NLCL.to_dict(),
        "batch": 2,
        "patch": 32,
        "encoder_width": 4,
        "precision": "float32",
        "checkpoint_every": 10,
        "steps": 8,
    }
    return NlclTrainConfig(real=WET, unpaired=DRY, **{**settings, **changes})
