"""Properties of this machine: processor, memory, GPUs, installed packages; imports none of these packages."""

from __future__ import annotations

import ctypes
import logging
import os
import platform
from collections.abc import Callable
from contextlib import suppress
from importlib import metadata
from pathlib import Path
from typing import Any

logger = logging.getLogger(__name__)

CPUINFO = Path("/proc/cpuinfo")
_BLOCKING_SYNC = 4  # CU_CTX_SCHED_BLOCKING_SYNC, which FFmpeg requires of a primary context


def cpu_fields(cpuinfo: Path = CPUINFO) -> dict[str, str]:
    """The fields of the first core in Linux's cpuinfo, by their names; empty on other systems."""
    try:
        lines = cpuinfo.read_text().split("\n\n")[0].splitlines()
    except OSError:
        return {}
    pairs = (line.partition(":") for line in lines)
    return {name.strip(): value.strip() for name, _, value in pairs}


def cpu_flags(fields: dict[str, str], prefixes: tuple[str, ...]) -> tuple[str, ...]:
    """Instruction sets whose names begin with one of ``prefixes``, sorted; x86 and Arm."""
    flags = fields.get("flags", fields.get("Features", "")).split()
    return tuple(sorted({flag for flag in flags if flag.startswith(prefixes)}))


def cpu_model(fields: dict[str, str]) -> str:
    """The processor's name, as well as the system knows it."""
    return fields.get("model name") or platform.processor() or platform.machine()


def usable_cores() -> int:
    """How many cores this process may use."""
    usable = getattr(os, "sched_getaffinity", None)  # not on every system
    return len(usable(0)) if usable else os.cpu_count() or 1


def package_version(*names: str) -> str | None:
    """The installed version of the first of ``names`` that is there."""
    for name in names:
        try:
            return metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return None


def available_bytes(meminfo: Path = Path("/proc/meminfo")) -> int | None:
    """Memory that can be had without swapping, as Linux estimates it; None elsewhere."""
    try:
        lines = meminfo.read_text().splitlines()
    except OSError:
        return None
    sizes = dict(line.split(":", 1) for line in lines if ":" in line)
    kib = sizes.get("MemAvailable", "").split()
    return int(kib[0]) * 1024 if kib else None


def give_back_memory() -> None:
    """Return what was freed to the system, where the C library is glibc; elsewhere nothing happens.

    glibc keeps up to eight pools for each core, and a thread takes any of them: work in threads that come
    and go leaves free memory in all of them, hundreds of megabytes on two cores.
    """
    with suppress(OSError, AttributeError, TypeError):
        ctypes.CDLL(None).malloc_trim(0)


def has_nvidia_gpu() -> bool:
    """Whether the NVIDIA driver is loaded and finds a GPU."""
    return bool(nvidia_gpu_names())


def nvidia_gpu_names() -> tuple[str, ...]:
    """The GPUs that the NVIDIA driver finds, each with the CUDA version it offers; asks it without torch."""
    for library in ("libcuda.so.1", "nvcuda.dll"):
        try:
            driver = ctypes.CDLL(library)
            count, version = ctypes.c_int(0), ctypes.c_int(0)
            if driver.cuInit(0) == 0 and driver.cuDeviceGetCount(ctypes.byref(count)) == 0:
                driver.cuDriverGetVersion(ctypes.byref(version))
                names = (_device_name(driver, index) for index in range(count.value))
                return tuple(f"{name}, CUDA {version.value}" for name in names)
        except (OSError, AttributeError):
            continue
    return ()


def _device_name(driver: ctypes.CDLL, index: int) -> str:
    device, name = ctypes.c_int(0), ctypes.create_string_buffer(256)
    if driver.cuDeviceGet(ctypes.byref(device), index) == 0:
        driver.cuDeviceGetName(name, len(name), device)
    return name.value.decode(errors="replace") or f"GPU {index}"


def share_context(index: int, load: Callable[[str], Any] = ctypes.CDLL) -> None:
    """Make a GPU's primary context, which torch uses, one that FFmpeg accepts.

    FFmpeg refuses a context whose threads spin while they wait, which is torch's default. So this is called before
    torch makes the context, and before FFmpeg takes it, since others may have made it meanwhile.
    """
    number = ctypes.c_int()
    try:
        driver = load("libcuda.so.1" if os.name == "posix" else "nvcuda.dll")
        if driver.cuInit(0) or driver.cuDeviceGet(ctypes.byref(number), index):
            return
        failed = driver.cuDevicePrimaryCtxSetFlags_v2(number, _BLOCKING_SYNC)
    except (OSError, AttributeError) as error:  # no driver, or one that is too old
        logger.debug("the CUDA driver's way to wait cannot be set: %s", error)
        return
    if failed:
        logger.warning("the CUDA driver refuses to wait as FFmpeg requires (error %d)", failed)
