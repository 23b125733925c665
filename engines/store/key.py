"""The key of a built engine: a digest of everything that changes the binary or its results."""

from __future__ import annotations

import hashlib
import json
import platform
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path

from vderain.frames import PlaneFormat
from vderain.machine import CPUINFO, cpu_fields, cpu_flags, package_version
from vderain.network.config import AnyConfig

# Raised with every change of the exported graph, the self-check, its bars or its images.
WRAPPER_SCHEMA = 2

# Prefixes of the CPU flags that affect arithmetic, on x86 and Arm.
_INSTRUCTION_SETS = ("sse4", "avx", "amx", "fma", "f16c", "asimd", "sve", "bf16", "i8mm", "fphp")


@dataclass(frozen=True)
class EngineKey:
    """Identifies a built engine; engines with equal keys share a binary and its self-check."""

    engine: str
    precision: str
    device: str
    features: tuple[str, ...]  # of the device: the CPU's model and instruction sets, or the GPU's
    weights: str  # sha256 of the file
    config: AnyConfig  # of the network, with T
    format: PlaneFormat  # with its size where the binary depends on it
    versions: tuple[tuple[str, str], ...]  # of the packages that build and run it
    calibration: tuple[tuple[str, float, float], ...] = ()  # of int8; not part of the weights
    schema: int = WRAPPER_SCHEMA

    @cached_property
    def text(self) -> str:
        """The canonical form: JSON with sorted keys, without paths."""
        return json.dumps({**asdict(self), "network": self.config.kind}, sort_keys=True)

    @cached_property
    def digest(self) -> str:
        """sha256 of ``text``, as hexadecimal digits."""
        return hashlib.sha256(self.text.encode()).hexdigest()


def package_versions(*names: str) -> tuple[tuple[str, str], ...]:
    """(package, installed version or "none"), read without importing the package."""
    return tuple((name, package_version(name) or "none") for name in names)


def cpu_features(cpuinfo: Path = CPUINFO) -> tuple[str, ...]:
    """The CPU's model and the instruction sets that affect arithmetic, sorted.

    Only the model where the system does not list instruction sets (outside Linux).
    """
    fields = cpu_fields(cpuinfo)
    if not fields:
        return (platform.machine(), platform.processor())
    model = ("vendor_id", "model name", "cpu family", "model", "stepping")
    return (
        platform.machine(),
        " ".join(fields.get(name, "") for name in model),
        *cpu_flags(fields, _INSTRUCTION_SETS),
    )
