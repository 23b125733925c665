"""vderain takes the rain out of video: same frames, same timestamps, same sound, every other track untouched."""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from vderain.api import Derainer, derain_file
    from vderain.batch.derain_archive import BatchReport, derain_archive
    from vderain.batch.options import BatchOptions
    from vderain.errors import VderainError
    from vderain.options import EncodeOptions, EngineOptions, RunOptions

__version__ = "0.4.0"
__all__ = [
    "BatchOptions",
    "BatchReport",
    "Derainer",
    "EncodeOptions",
    "EngineOptions",
    "RunOptions",
    "VderainError",
    "__version__",
    "derain_archive",
    "derain_file",
]

_HOMES = {
    "Derainer": "vderain.api",
    "derain_file": "vderain.api",
    "derain_archive": "vderain.batch.derain_archive",
    "BatchOptions": "vderain.batch.options",
    "BatchReport": "vderain.batch.derain_archive",
    "VderainError": "vderain.errors",
    "EncodeOptions": "vderain.options",
    "EngineOptions": "vderain.options",
    "RunOptions": "vderain.options",
}


def __getattr__(name: str) -> Any:
    """Import a public name when it is first used, so that ``import vderain`` stays light."""
    if name not in _HOMES:
        raise AttributeError(f"module 'vderain' has no attribute {name!r}")
    from importlib import import_module

    return getattr(import_module(_HOMES[name]), name)
