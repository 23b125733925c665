"""Which settings belong to which method: reads them from TOML files, the command line and checkpoints.

A setting that a method does not have is an error.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from vderain.errors import OptionError
from vderain.network.config import TIERS
from vderain.training.config.adapt import AdaptConfig
from vderain.training.config.base import DEFAULT_METHOD, read_run
from vderain.training.config.nlcl import NlclTrainConfig
from vderain.training.config.semi_drdnet import TrainConfig

AnyTrainConfig = TrainConfig | NlclTrainConfig | AdaptConfig
_METHODS: dict[str, type[AnyTrainConfig]] = {
    config.method: config for config in (TrainConfig, NlclTrainConfig, AdaptConfig)
}

_TIERS_BEFORE: dict[str, dict[str, Any]] = {"fast": {"frames": 5, "fusion": "gates", "ranks": []}}
"""What a tier's network had otherwise before 0.4."""

_SETTINGS_BEFORE = {"teacher_change", "teacher_branches"}
"""Settings in checkpoints from before 0.4 that no longer exist; they mattered to training with a teacher alone."""


def state_config(state: Mapping[str, Any], where: Path) -> AnyTrainConfig:
    """The settings in a checkpoint's state; OptionError, naming ``where``, for what cannot be read."""
    method = state.get("method", DEFAULT_METHOD)
    settings = {k: v for k, v in state["config"].items() if k not in _SETTINGS_BEFORE}
    if method == TrainConfig.method:
        settings["network"] = _network_changes(settings)
    return _class_of(method, str(where)).from_dict(settings, str(where))


def _network_changes(settings: Mapping[str, Any]) -> dict[str, Any]:
    """What a checkpoint's network changes about its tier, as this version has that tier."""
    tier = settings["tier"]
    network = settings["network"]
    if "fusion" not in network:  # written before 0.4, which stored changes alone
        network = {**_TIERS_BEFORE.get(tier, {}), **network}
    known = TIERS[tier].to_dict()
    return {name: value for name, value in network.items() if known.get(name) != value}


def load_config(path: Path, overrides: Sequence[str] = (), **values: Any) -> AnyTrainConfig:
    """A TOML file, or a shipped one by its name, of any method; then ``values``, then "name=value" texts.

    Raises OptionError for a file that cannot be read, and names or values that cannot be used.
    """
    method, settings = read_run(path, overrides, **values)
    return config_from(method, settings, str(path))


def config_from(method: str, settings: Mapping[str, Any], where: str) -> AnyTrainConfig:
    """The settings of a run of a method, checked; OptionError, naming ``where``, for what cannot be used."""
    return _class_of(method, where).from_dict(settings, where)


def method_of(path: Path, overrides: Sequence[str] = ()) -> str:
    """Which method a configuration is of; OptionError where it cannot be read."""
    return read_run(path, overrides)[0]


def _class_of(method: str, where: str) -> type[AnyTrainConfig]:
    if method not in _METHODS:
        raise OptionError(f"{where}: method {method}: choose one of {', '.join(_METHODS)}")
    return _METHODS[method]
