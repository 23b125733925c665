"""One training run as a frozen dataclass: read from TOML, overridden from the command line, kept in checkpoints."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import MISSING, asdict, dataclass, field, fields
from importlib.resources import files
from pathlib import Path
from typing import Any, get_type_hints

from vderain.errors import OptionError
from vderain.network.config import TIERS, NetworkConfig
from vderain.options import check_options, option

_CONFIGS = files("vderain.training") / "configs"
# What a resumed run may change: how long, how often and from where, never what is trained.
_RESUMABLE = {
    "steps",
    "batch",
    "learning_rate",
    "warmup_steps",
    "dry_share",
    "dry_weight",
    "clip_norm",
}
_RESUMABLE |= {
    "checkpoint_every",
    "cache_mb",
    "workers",
    "data",
    "terms",
    "sources",
    "real",
    "unpaired",
}
_RESUMABLE |= {"rain_model", "precision", "background_contrast", "rain_contrast"}


@dataclass(frozen=True, slots=True)
class TrainConfig:
    """One training run; a TOML file holds the same names.

    A source is a table ``{path, share, reader, ...}``: a folder below the data folder, how often it is
    drawn beside the others, and how it is read (see ``datasets.READERS``).

    Attributes:
        sources: pairs, and clean pictures or clips to render rain on, by name.
        real: unpaired real rain: its clips are mined for streak layers, and with ``unpaired`` all of it
            takes part in semi-supervised training.
        unpaired: clean pictures that the real rain's backgrounds should look like.
        network: settings of the tier's network to change, for experiments.

    """

    tier: str = option("fast", "Which network is trained.", choices=tuple(TIERS))
    network: dict[str, Any] = field(default_factory=dict)
    sources: dict[str, dict[str, Any]] = field(default_factory=dict)
    real: dict[str, dict[str, Any]] = field(default_factory=dict)
    unpaired: dict[str, dict[str, Any]] = field(default_factory=dict)
    initial: str | None = option(None, "Weights file to start from [default: from nothing].")
    steps: int = option(20_000, "Optimiser steps; the cosine schedule ends there.", low=1)
    batch: int = option(16, "Paired or rendered patches of a step.", low=1, high=4096)
    patch: int = option(128, "Side of a patch in pixels.", low=16, high=4096)
    learning_rate: float = option(1e-3, "Of Adam, at its highest.", low=0.0, high=1.0)
    warmup_steps: int = option(
        200, "Over which the learning rate rises, a tenth of all steps at most.", low=0
    )
    rain_model: str = option(
        "full", "How rain is rendered: by every mechanism, or the literature's two simple models.",
        choices=("full", "simple"),
    )  # fmt: skip
    dry_share: float = option(0.15, "Rendered samples that stay dry.", low=0.0, high=1.0)
    dry_weight: float = option(1.0, "How much more a dry sample counts.", low=0.0, high=100.0)
    penalty: str = option("l1", "How a wrong pixel counts.", choices=("l1", "charbonnier", "mse"))
    derained_weight: float = option(0.1, "Of rainy - R beside rainy - R + D.", low=0.0, high=10.0)
    ssim_weight: float = option(0.0, "Of 1 - SSIM beside the penalty.", low=0.0, high=10.0)
    semi_from: float = option(0.3, "Share of the steps that stay supervised.", low=0.0, high=1.0)
    real_batch: int = option(
        8, "Real rainy patches of a step, and as many clean.", low=1, high=4096
    )
    background_contrast: float = option(0.1, "Weight of the background side.", low=0.0, high=100.0)
    rain_contrast: float = option(0.1, "Weight of the rain side.", low=0.0, high=100.0)
    encoder: str = option(
        "discriminator", "What the contrast looks through.", choices=("discriminator", "vgg19")
    )
    encoder_width: int = option(16, "Channels of the discriminator's first level.", low=4, high=512)
    encoder_weights: str | None = option(None, "File with torchvision's VGG-19 weights.")
    teacher: str | None = option(None, "Weights file of a larger network to learn from.")
    teacher_patches: int = option(8192, "Patches whose answers are computed once.", low=1)
    teacher_change: float = option(1.0, "Weight of the teacher's change.", low=0.0, high=100.0)
    teacher_branches: float = option(0.0, "Weight of the teacher's R and D.", low=0.0, high=100.0)
    clip_norm: float = option(1.0, "Gradients are clipped to this norm; 0 leaves them.", low=0.0)
    ema: float = option(
        0.999, "Decay of the averaged weights, which are exported.", low=0.0, high=1.0
    )
    seed: int = option(1, "Of weights, patches and rain.", low=0)
    precision: str = option(
        "bfloat16", "Arithmetic of the convolutions.", choices=("float32", "bfloat16", "float16")
    )
    checkpoint_every: int = option(500, "Steps between checkpoints.", low=1)
    workers: int = option(0, "Threads that make patches; 0 for one.", low=0, high=256)
    cache_mb: int = option(2000, "Decoded pictures kept in memory.", low=0)
    data: str = option("", "What the sources are, in words, for the card.")
    terms: str = option("", "Under which terms the weights may be used, for the card.")

    def __post_init__(self) -> None:
        check_options(self)
        multiple = self.network_config.multiple
        if self.patch % multiple:
            raise OptionError(f"patch {self.patch}: must be a multiple of {multiple}")
        if not self.sources:
            raise OptionError("sources: name at least one folder to train on")
        if self.unpaired and not self.real:
            raise OptionError("unpaired: useless without real; name folders with real rain as well")
        if self.encoder == "vgg19" and self.encoder_weights is None:
            raise OptionError(
                "encoder vgg19: name the file of its weights, from torchvision, as encoder_weights"
            )

    @property
    def network_config(self) -> NetworkConfig:
        """The tier's network with this run's changes; OptionError where they cannot be."""
        try:
            return NetworkConfig.from_dict({**TIERS[self.tier].to_dict(), **self.network})
        except ValueError as error:
            raise OptionError(f"network: {error}") from None

    @property
    def is_semi_supervised(self) -> bool:
        """Whether real rain takes part."""
        return any(self.contrasted_sides)

    @property
    def contrasted_sides(self) -> tuple[bool, bool]:
        """Whether the background side and the rain side take part; each has parameters of its own."""
        with_real = bool(self.unpaired)
        return with_real and self.background_contrast > 0, with_real and self.rain_contrast > 0

    def to_dict(self) -> dict[str, Any]:
        """Plain values for a checkpoint."""
        return asdict(self)

    @classmethod
    def from_dict(cls, values: Mapping[str, Any], where: str) -> TrainConfig:
        """From plain values; OptionError, naming ``where``, for names and types that do not exist."""
        hints = get_type_hints(cls)
        unknown = sorted(set(values) - set(hints))
        if unknown:
            raise OptionError(
                f"{where}: unknown settings {', '.join(unknown)}; known are {', '.join(hints)}"
            )
        for name, value in values.items():
            _check_type(name, value, next(f for f in fields(cls) if f.name == name), where)
        try:
            return cls(**values)
        except OptionError as error:
            # Settings are no options of the command line, as which check_options knows them.
            told = re.sub(r"^--[\w-]+", lambda flag: flag[0][2:].replace("-", "_"), str(error))
            raise OptionError(f"{where}: {told}") from None

    @classmethod
    def load(cls, path: Path, overrides: Sequence[str] = (), **values: Any) -> TrainConfig:
        """Read a TOML file, or a shipped one by its name; then ``values``, then "name=value" texts.

        Raises OptionError for a file that cannot be read, and names or values that cannot be used.
        """
        shipped = _CONFIGS / f"{path}.toml"
        try:
            file = shipped if not path.is_file() and shipped.is_file() else path
            text = file.read_text(encoding="utf-8")
            settings = tomllib.loads(text)
        except (OSError, ValueError) as error:
            shipped_names = (p.name.removesuffix(".toml") for p in _CONFIGS.iterdir())
            names = ", ".join(sorted(name for name in shipped_names if name in TIERS))
            raise OptionError(
                f"{path}: not a readable configuration ({error}); name a TOML file, or one of {names}"
            ) from None
        settings.update(values)
        for item in overrides:
            _update(settings, _override(item), merge="." in item.partition("=")[0])
        return cls.from_dict(settings, str(path))

    def differences(self, other: TrainConfig) -> dict[str, tuple[Any, Any]]:
        """Settings that differ, as (ours, theirs)."""
        ours, theirs = self.to_dict(), other.to_dict()
        return {name: (ours[name], theirs[name]) for name in ours if ours[name] != theirs[name]}


def is_resumable(name: str) -> bool:
    """Whether a run may go on from a checkpoint with another value of this setting."""
    return name in _RESUMABLE


def _override(item: str) -> dict[str, Any]:
    name, equals, value = item.partition("=")
    if not equals:
        raise OptionError(f"{item}: write name=value")
    try:
        return tomllib.loads(f"{name} = {value}")
    except tomllib.TOMLDecodeError:
        return {name.strip(): value}  # a text needs no quotes here


def _update(settings: dict[str, Any], values: dict[str, Any], *, merge: bool) -> None:
    """Set values; with ``merge``, of a dotted name, only what it names inside a table."""
    for name, value in values.items():
        known = settings.get(name)
        if merge and isinstance(value, dict) and isinstance(known, dict):
            _update(known, value, merge=True)
        else:
            settings[name] = value


def _check_type(name: str, value: Any, item: Any, where: str) -> None:
    default = item.default_factory() if item.default is MISSING else item.default
    kinds: tuple[type, ...] = (str, type(None)) if default is None else (type(default),)
    if kinds == (float,):
        kinds = (float, int)
    if type(value) not in kinds:
        raise OptionError(f"{where}: {name} must be {kinds[0].__name__}, got {value!r}")
    if name in ("sources", "real", "unpaired"):
        for source, table in value.items():
            if not isinstance(table, dict):
                raise OptionError(f"{where}: write a table [{name}.NAME], got {source} = {table!r}")
