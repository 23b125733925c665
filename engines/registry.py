"""Which engines exist, which ones the options allow, and what each needs to run here."""

from __future__ import annotations

import importlib.util
from pathlib import Path

from vderain.engines.backends.openvino import OpenVinoBackend, openvino_devices
from vderain.engines.engine import Backend
from vderain.engines.store.cache import EngineCache
from vderain.errors import EngineBuildError, EngineLoadError, OptionError, needs_torch
from vderain.machine import has_nvidia_gpu, package_version
from vderain.network.card import Card
from vderain.options import EngineOptions

FASTEST_FIRST = ("tensorrt", "cuda", "openvino", "reference")
ON_NVIDIA = ("tensorrt", "cuda")


def candidates(options: EngineOptions) -> tuple[str, ...]:
    """Engines to try, in this order; a device or precision asked for by name is kept.

    Raises OptionError where the options contradict each other.
    """
    fitting = [name for name in FASTEST_FIRST if _fits(name, options)]
    if options.engine != "auto":
        if options.engine not in fitting:
            raise OptionError(_contradiction(options))
        return (options.engine,)
    if options.device.lower() == "auto" and not has_nvidia_gpu():
        fitting = [name for name in fitting if name not in ON_NVIDIA]
    return tuple(fitting)


def runs_on_nvidia(options: EngineOptions) -> bool:
    """Whether the first allowed engine that this machine has runs on an NVIDIA GPU; imports no torch."""
    return _cuda_state()[0] and candidates(options)[0] in ON_NVIDIA


def _fits(name: str, options: EngineOptions) -> bool:
    device = options.device.lower()
    on_nvidia, on_cpu = device.partition(":")[0] == "cuda", device == "cpu"
    if device != "auto" and on_nvidia != (name in ON_NVIDIA):
        return False
    if name == "reference":
        return (device == "auto" or on_cpu) and options.precision in ("auto", "float32")
    return True


def _contradiction(options: EngineOptions) -> str:
    if options.engine == "reference":
        return "engine='reference' computes on the CPU in float32 only"
    where = "an NVIDIA GPU" if options.engine in ON_NVIDIA else "OpenVINO's devices"
    return f"engine={options.engine!r} runs on {where}, not on device={options.device!r}"


def fallbacks(name: str) -> tuple[str, ...]:
    """Engines that may continue after ``name`` failed, in this order: slower ones whose hardware is here."""
    slower = FASTEST_FIRST[FASTEST_FIRST.index(name) + 1 :]
    return tuple(n for n in slower if n not in ON_NVIDIA or has_nvidia_gpu())


def make_backend(
    name: str, weights: Path, card: Card, options: EngineOptions, cache: EngineCache
) -> Backend:
    """The backend of an engine. Raises EngineLoadError, with what to install, where it cannot run here."""
    if name == "openvino":
        return OpenVinoBackend(weights, card, options, cache)
    try:
        if name == "reference":
            from vderain.engines.backends.reference import ReferenceBackend

            return ReferenceBackend(weights, card, threads=options.threads)
        if name == "cuda":
            from vderain.engines.backends.cuda import CudaBackend

            return CudaBackend(weights, card, options, cache)
        from vderain.engines.backends.tensorrt import TensorRtBackend

        return TensorRtBackend(weights, card, options, cache)
    except ImportError as error:
        raise EngineLoadError(needs_torch(name)) from error


def obstacle(options: EngineOptions) -> str:
    """The reason why this machine cannot run an engine in a precision, "" where it can; builds nothing."""
    from vderain.engines.tiers import weights_of  # which imports this module

    weights, card = weights_of(options)
    try:
        for name in candidates(options):
            make_backend(name, weights, card, options, EngineCache())
    except (EngineBuildError, EngineLoadError, OptionError) as error:
        return str(error)
    return ""


def usable_engines() -> list[tuple[str, bool, str]]:
    """(name, usable, devices or reason) of every engine, the fastest first; imports no torch."""
    return [
        ("tensorrt", *_tensorrt_state()),
        ("cuda", *_cuda_state()),
        ("openvino", *_openvino_state()),
        ("reference", *_torch_state()),
    ]


def _tensorrt_state() -> tuple[bool, str]:
    usable, state = _cuda_state()
    version = package_version("torch-tensorrt")
    if usable and version is None:
        return False, "torch-tensorrt is missing; pip install 'vderain[nvidia]'"
    return usable, f"torch-tensorrt {version}" if usable else state


def _cuda_state() -> tuple[bool, str]:
    torch = package_version("torch")
    if not has_nvidia_gpu():
        return False, "no NVIDIA GPU, or no driver for it"
    if torch is None:
        return False, "torch is missing; pip install 'vderain[train]'"
    if "+cpu" in torch:
        return False, f"torch {torch} is a CPU build; install torch's CUDA build"
    return True, f"torch {torch}"


def _openvino_state() -> tuple[bool, str]:
    try:
        devices = openvino_devices()
    except EngineLoadError as error:
        return False, str(error)
    return True, ", ".join(f"{name} ({full})" for name, full in devices.items())


def _torch_state() -> tuple[bool, str]:
    found = importlib.util.find_spec("torch") is not None
    return found, "CPU" if found else "torch is missing; pip install 'vderain[train]'"
