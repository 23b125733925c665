"""The card next to a weights file: what the network is, what it was trained on, under which terms."""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any

from vderain.errors import WeightsError
from vderain.network.config import CONFIGS, AnyConfig, NetworkConfig

SCHEMA = 1


@dataclass(frozen=True, slots=True)
class Card:
    """Metadata of a weights file; ``<name>.json`` next to ``<name>.safetensors``.

    Attributes:
        tier: the name that reports use.
        config: the network's shape; its class says which network it is.
        sha256: of the weights file, checked at load.
        scores: measured figures by data set.
        training: steps, time, hardware and the command that made the weights.
        data: what they were trained on.
        terms: under which terms they may be used.
        int8: range of the input of each convolution that eight bits suffice for, by its name in the
            folded network; empty where nobody measured them.

    """

    tier: str
    config: AnyConfig
    sha256: str
    scores: dict[str, Any] = field(default_factory=dict)
    training: dict[str, Any] = field(default_factory=dict)
    data: str = ""
    terms: str = ""
    int8: dict[str, tuple[float, float]] = field(default_factory=dict)

    @property
    def network(self) -> str:
        """Which network it is: a name in ``vderain.network.config.CONFIGS``."""
        return self.config.kind

    def save(self, weights: Path) -> None:
        """Write the card of a weights file."""
        values = {
            **asdict(self),
            "schema": SCHEMA,
            "network": self.network,
            "config": self.config.to_dict(),
        }
        card_path(weights).write_text(json.dumps(values, indent=2) + "\n")

    @classmethod
    def load(cls, weights: Path) -> Card:
        """Read the card of a weights file; WeightsError where it is missing or does not fit."""
        path = card_path(weights)
        try:
            values = json.loads(path.read_text())
            schema = values.pop("schema")
            network = values.pop("network", NetworkConfig.kind)  # the first cards do not say it
            unknown = set(values) - {item.name for item in fields(cls)}
            if schema != SCHEMA or unknown:
                raise ValueError(f"schema {schema}, unknown entries {sorted(unknown)}")
            if network not in CONFIGS:
                raise ValueError(f"network {network!r}, known are {', '.join(CONFIGS)}")
            config = CONFIGS[network].from_dict(values["config"])
            scales = values.pop("int8", {}).items()
            int8 = {name: (float(low), float(high)) for name, (low, high) in scales}
            return cls(**{**values, "config": config, "int8": int8})
        except FileNotFoundError:
            raise WeightsError(
                f"{path}: no such card; a weights file needs its card next to it (training writes both)"
            ) from None
        except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
            raise WeightsError(f"{path}: not a card this version can read ({error})") from None


def card_path(weights: Path) -> Path:
    """Where the card of a weights file lies."""
    return weights.with_suffix(".json")


def file_sha256(path: Path) -> str:
    """The sha256 of a file, as hexadecimal digits; WeightsError where it cannot be read."""
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise WeightsError(f"{path}: cannot be read ({error.strerror})") from None
