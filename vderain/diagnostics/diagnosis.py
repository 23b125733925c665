"""What vderain finds on a machine: versions, processor, graphics, engines, encoders, disk space."""

from __future__ import annotations

import platform
import shutil
import subprocess
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from vderain import __version__
from vderain.diagnostics.rates import TierRate, tier_rates
from vderain.engines import usable_engines
from vderain.engines.backends.openvino import openvino_devices
from vderain.engines.store.cache import EngineCache
from vderain.errors import EngineLoadError
from vderain.machine import CPUINFO, cpu_fields, cpu_flags, cpu_model, package_version, usable_cores
from vderain.media import probe_encoders
from vderain.media.io.ffmpeg import ffmpeg_version

_PACKAGES = {
    "torch": ("torch",),
    "openvino": ("openvino",),
    "av": ("av",),
    "numpy": ("numpy",),
    "cv2": ("opencv-python-headless", "opencv-python"),
}
# Instruction sets that engines gain from: x86 names, then ARM names, by prefix.
_INSTRUCTION_SETS = (
    *("avx2", "avx512f", "avx512_bf16", "avx512_vnni", "avx512_fp16", "avx_vnni", "amx_"),
    *("asimd", "bf16", "i8mm", "sve"),
)
_TOOL_TIMEOUT_S = 10.0


@dataclass(frozen=True, slots=True)
class Processor:
    """The CPU; ``cores`` are those that this process may use, ``features`` its instruction sets."""

    model: str
    cores: int
    features: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Usable:
    """An engine or encoder: whether it works here, and on what, or why not."""

    name: str
    usable: bool
    detail: str


@dataclass(frozen=True, slots=True)
class Diagnosis:
    """Everything that ``vderain doctor`` shows; sizes in MiB."""

    versions: Mapping[str, str | None]
    processor: Processor
    graphics: tuple[str, ...]
    engines: tuple[Usable, ...]
    encoders: tuple[Usable, ...]
    tiers: tuple[TierRate, ...]
    cache_folder: str
    cache_mib: float
    cache_free_mib: float
    here_free_mib: float

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return asdict(self)


def diagnose() -> Diagnosis:
    """Look at this machine, without importing torch; what is missing is part of the result.

    Every tier runs for a few frames, after the cache is measured, since these runs fill it.
    """
    cache = EngineCache()
    folder = cache.folder
    return Diagnosis(
        versions=installed_versions(),
        processor=processor(),
        graphics=graphics(),
        engines=tuple(Usable(*state) for state in usable_engines()),
        encoders=tuple(Usable(*state) for state in probe_encoders()),
        cache_folder=str(folder) if folder else "none, the user has no home directory",
        cache_mib=round(cache.size / 2**20, 1),
        cache_free_mib=free_mib(folder) if folder else 0.0,
        here_free_mib=free_mib(Path.cwd()),
        tiers=tuple(tier_rates()),
    )


def installed_versions() -> dict[str, str | None]:
    """Version of everything that decides what runs; None for what is not installed."""
    versions: dict[str, str | None] = {
        "vderain": __version__,
        "python": platform.python_version(),
        "system": platform.platform(),
        "ffmpeg": ffmpeg_version(),
    }
    return {
        **versions,
        **{name: package_version(*packages) for name, packages in _PACKAGES.items()},
    }


def processor(cpuinfo: Path = CPUINFO) -> Processor:
    """The CPU as Linux describes it; elsewhere its name only."""
    fields = cpu_fields(cpuinfo)
    return Processor(
        model=cpu_model(fields),
        cores=usable_cores(),
        features=cpu_flags(fields, _INSTRUCTION_SETS),
    )


def graphics() -> tuple[str, ...]:
    """Graphics processors that the NVIDIA driver or OpenVINO names."""
    try:
        devices = openvino_devices()
    except EngineLoadError:
        devices = {}
    others = (name for device, name in devices.items() if device.startswith("GPU"))
    return (*nvidia_gpus(shutil.which("nvidia-smi")), *others)


def nvidia_gpus(tool: str | None) -> tuple[str, ...]:
    """Name, driver and memory of each NVIDIA GPU, asked of nvidia-smi; none without it."""
    if tool is None:
        return ()
    query = [tool, "--query-gpu=name,driver_version,memory.total", "--format=csv,noheader"]
    try:
        done = subprocess.run(
            query, capture_output=True, text=True, timeout=_TOOL_TIMEOUT_S, check=True
        )
    except (OSError, subprocess.SubprocessError):
        return ()
    return tuple(line.strip() for line in done.stdout.splitlines() if line.strip())


def free_mib(folder: Path) -> float:
    """Free space where a folder is, or will be."""
    place = next(path for path in (folder, *folder.absolute().parents) if path.exists())
    return round(shutil.disk_usage(place).free / 2**20, 1)
