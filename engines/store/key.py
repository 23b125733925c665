"""What makes a built engine usable: everything that changes the binary or its answers, as one digest."""

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

# Raised with every change of the exported graph, the self-check, its bars or its pictures.
WRAPPER_SCHEMA = 2

# What flags of the CPU bear on arithmetic, by how their names begin, on x86 and Arm.
_INSTRUCTION_SETS = ("sse4", "avx", "amx", "fma", "f16c", "asimd", "sve", "bf16", "i8mm", "fphp")


@dataclass(frozen=True)
class EngineKey:
    """Identifies a built engine; two equal keys may share a binary and its self-check."""

    engine: str
    precision: str
    device: str
    features: tuple[str, ...]  # what the device says it can, the CPU's model and instruction sets
    weights: str  # sha256 of the file
    config: AnyConfig  # which network, and T, included
    format: PlaneFormat  # its size too, where the binary depends on it
    versions: tuple[tuple[str, str], ...]  # of the packages that built it and that run it
    calibration: tuple[tuple[str, float, float], ...] = ()  # of int8, which the weights do not hold
    schema: int = WRAPPER_SCHEMA

    @cached_property
    def text(self) -> str:
        """The canonical form: JSON with sorted keys; holds no path."""
        return json.dumps({**asdict(self), "network": self.config.kind}, sort_keys=True)

    @cached_property
    def digest(self) -> str:
        """sha256 of ``text``, as hexadecimal digits."""
        return hashlib.sha256(self.text.encode()).hexdigest()


def package_versions(*names: str) -> tuple[tuple[str, str], ...]:
    """(package, installed version or "none"), read without importing the package."""
    return tuple((name, package_version(name) or "none") for name in names)


def cpu_features(cpuinfo: Path = CPUINFO) -> tuple[str, ...]:
    """The CPU's model and the instruction sets that bear on arithmetic, sorted.

    Where the system does not list instruction sets (not Linux), only the model.
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
