"""Turns weights into something that runs: vderain.engines.

Importing this package loads neither torch nor openvino.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if (
    __name__ != "vderain.engines"
):  # the same file imported twice under two names would give two of every class
    raise ImportError("import this package as vderain.engines (pip install -e .)")

if TYPE_CHECKING:
    from vderain.engines.pool import EnginePool
    from vderain.interfaces import EngineSpec
    from vderain.options import EngineOptions


def open_engine(options: EngineOptions) -> EnginePool:
    """An engine for every plane format, as the options say; close it when done.

    Raises WeightsError where the weights are missing or damaged, OptionError where the options
    contradict each other; an engine is opened, and its errors raised, with a format's first clip.
    """
    from vderain.engines.pool import EnginePool

    return EnginePool(options)


def gpu_bytes(spec: EngineSpec, options: EngineOptions) -> int | None:
    """Memory in use on the GPU that an engine runs on; None where it runs on none."""
    if spec.name not in ("cuda", "tensorrt"):
        return None
    from vderain.engines.backends.device import used_bytes

    return used_bytes(options.device)


def usable_engines() -> list[tuple[str, bool, str]]:
    """(name, usable, the devices or the reason) of every engine, the fastest first."""
    from vderain.engines import registry

    return registry.usable_engines()
