"""Engines: they run the network of a weights file on a device. Imported as vderain.engines.

Importing this package loads neither torch nor openvino.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if __name__ != "vderain.engines":  # under two names the same file would define two of every class
    raise ImportError("import this package as vderain.engines (pip install -e .)")

if TYPE_CHECKING:
    from vderain.engines.pool import EnginePool
    from vderain.interfaces import EngineSpec
    from vderain.options import EngineOptions


def open_engine(options: EngineOptions) -> EnginePool:
    """An engine for every plane format, chosen by the options; the caller closes it.

    Raises WeightsError for missing or damaged weights and OptionError for options that contradict each
    other. Each engine is opened, and raises its errors, with the first clip of its format.
    """
    from vderain.engines.pool import EnginePool

    return EnginePool(options)


def gpu_bytes(spec: EngineSpec, options: EngineOptions) -> int | None:
    """Memory in use on the GPU that the engine runs on; None for engines on other devices."""
    if spec.name not in ("cuda", "tensorrt"):
        return None
    from vderain.engines.backends.device import used_bytes

    return used_bytes(options.device)


def usable_engines() -> list[tuple[str, bool, str]]:
    """(name, usable, devices or reason) of every engine, the fastest first."""
    from vderain.engines import registry

    return registry.usable_engines()
