"""What every run has, whatever its method: settings, how they are read and checked, and what may change later."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import MISSING, Field, asdict, dataclass, field, fields
from pathlib import Path
from typing import Any, ClassVar, Self

from vderain.errors import OptionError
from vderain.network.config import AnyConfig
from vderain.options import check_options, option
from vderain.training.config.settings import overridden, read_settings

DEFAULT_METHOD = "semi_drdnet"  # where a configuration or an early checkpoint names none
# What a resumed run may change: how long, how often and from where, never what is trained.
_RESUMABLE = frozenset(
    {
        "steps",
        "batch",
        "learning_rate",
        "clip_norm",
        "precision",
        "checkpoint_every",
        "cache_mb",
        "compiled",
        "workers",
        "data",
        "terms",
        "real",
        "unpaired",
    }
)


@dataclass(frozen=True, slots=True)
class RunConfig:
    """What a run of any method needs; a TOML file holds the same names, and ``method``.

    A source is a table ``{path, share, reader, ...}``: a folder below the data folder, how often it is
    drawn relative to the others, and how it is read (see ``sources.READERS``).

    Attributes:
        network: settings of the network to change, for experiments.
        real: real rain without ground truth, by name.
        unpaired: clean images that the real rain's backgrounds should look like, by name.

    """

    method: ClassVar[str]
    resumable: ClassVar[frozenset[str]] = _RESUMABLE

    tier: str = option("", "Name of the weights in reports.")
    network: dict[str, Any] = field(default_factory=dict)
    real: dict[str, dict[str, Any]] = field(default_factory=dict)
    unpaired: dict[str, dict[str, Any]] = field(default_factory=dict)
    initial: str | None = option(
        None, "Tier or weights file to start from [default: from nothing]."
    )
    steps: int = option(20_000, "Optimiser steps; the schedule ends there.", low=1)
    batch: int = option(16, "Patches of a step.", low=1, high=4096)
    patch: int = option(128, "Side of a patch in pixels.", low=16, high=4096)
    learning_rate: float = option(1e-3, "Of Adam, at its highest.", low=0.0, high=1.0)
    clip_norm: float = option(1.0, "Gradients are clipped to this norm; 0 leaves them.", low=0.0)
    ema: float = option(
        0.999, "Decay of the averaged weights, which are exported.", low=0.0, high=1.0
    )
    encoder_width: int = option(16, "Channels of the discriminator's first level.", low=4, high=512)
    seed: int = option(1, "Of weights, patches and rain.", low=0)
    precision: str = option(
        "bfloat16", "Arithmetic of the convolutions.", choices=("float32", "bfloat16", "float16")
    )
    compiled: bool = option(
        False, "Compile the network: minutes at the start, then faster steps; needs a C++ compiler."
    )
    checkpoint_every: int = option(500, "Steps between checkpoints.", low=1)
    workers: int = option(0, "Threads that make patches; 0 for one.", low=0, high=256)
    cache_mb: int = option(2000, "Decoded images kept in memory.", low=0)
    data: str = option("", "What the sources are, in words, for the card.")
    terms: str = option("", "Under which terms the weights may be used, for the card.")

    def __post_init__(self) -> None:
        check_options(self)
        multiple = self.network_config.multiple
        if self.patch % multiple:
            raise OptionError(f"patch {self.patch}: must be a multiple of {multiple}")

    @property
    def network_config(self) -> AnyConfig:
        """What is trained; OptionError where ``network`` cannot be."""
        raise NotImplementedError

    def to_dict(self) -> dict[str, Any]:
        """Plain values."""
        return asdict(self)

    def to_state(self) -> dict[str, Any]:
        """Plain values for a checkpoint, which a later version reads as they were meant."""
        return self.to_dict()

    @classmethod
    def from_dict(cls, values: Mapping[str, Any], where: str) -> Self:
        """From plain values; OptionError, naming ``where``, for names and types that do not exist."""
        known = {item.name: item for item in fields(cls)}
        if unknown := sorted(set(values) - set(known)):
            raise OptionError(
                f"{where}: unknown settings {', '.join(unknown)}; known are {', '.join(known)}"
            )
        for name, value in values.items():
            _check_type(name, value, known[name], where)
        try:
            return cls(**values)
        except OptionError as error:
            # check_options would call them options of the command line.
            text = re.sub(r"^--[\w-]+", lambda flag: flag[0][2:].replace("-", "_"), str(error))
            raise OptionError(f"{where}: {text}") from None

    @classmethod
    def load(cls, path: Path, overrides: Sequence[str] = (), **values: Any) -> Self:
        """Read a TOML file, or a shipped one by its name; then ``values``, then "name=value" texts.

        Raises OptionError for a file that cannot be read or is another method's, and names or values that
        cannot be used.
        """
        method, settings = read_run(path, overrides, **values)
        if method != cls.method:
            raise OptionError(f"{path}: is of method {method}, not {cls.method}")
        return cls.from_dict(settings, str(path))

    def differences(self, other: RunConfig) -> dict[str, tuple[Any, Any]]:
        """Settings that differ, as (ours, theirs); one network described in two ways is none."""
        ours, theirs = self.to_dict(), other.to_dict()
        if self.network_config == other.network_config:
            theirs["network"] = ours["network"]
        return {name: (ours[name], theirs[name]) for name in ours if ours[name] != theirs[name]}

    def fixed_differences(self, other: Self) -> list[str]:
        """Settings that differ although a run cannot go on with another value of them."""
        return sorted(set(self.differences(other)) - self.resumable)


def read_run(
    path: Path, overrides: Sequence[str] = (), **values: Any
) -> tuple[str, dict[str, Any]]:
    """The method of a run and its settings, not checked yet: see ``RunConfig.load``.

    Raises OptionError for a file or a text that cannot be read.
    """
    settings = overridden({**read_settings(path), **values}, overrides)
    return str(settings.pop("method", DEFAULT_METHOD)), settings


def default_of(item: Field[Any]) -> Any:
    """What a setting is where nothing else is said."""
    return item.default_factory() if item.default_factory is not MISSING else item.default


def _check_type(name: str, value: Any, item: Any, where: str) -> None:
    default = default_of(item)
    kinds: tuple[type, ...] = (str, type(None)) if default is None else (type(default),)
    if kinds == (float,):
        kinds = (float, int)
    if type(value) not in kinds:
        raise OptionError(f"{where}: {name} must be {kinds[0].__name__}, got {value!r}")
    if name in ("sources", "real", "unpaired"):
        for source, table in value.items():
            if not isinstance(table, dict):
                raise OptionError(f"{where}: write a table [{name}.NAME], got {source} = {table!r}")
