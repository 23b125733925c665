"""Opens engines: the first precision that passes the self-check, from the cache or built."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from typing import TypeVar

from vderain.engines.store.cache import Built, EngineCache
from vderain.engines.store.key import EngineKey
from vderain.engines.store.selfcheck import CheckResult
from vderain.errors import EngineBuildError, EngineLoadError, NoRoomError
from vderain.frames import PlaneFormat
from vderain.interfaces import Engine

logger = logging.getLogger(__name__)

_Opened = TypeVar("_Opened", bound=Engine)

Load = Callable[[PlaneFormat, str, list[str]], tuple[_Opened, CheckResult]]
"""(format, precision, notes so far) -> an engine and the result of its self-check."""


def first_passing(
    name: str, fmt: PlaneFormat, precisions: Sequence[str], load: Load[_Opened]
) -> _Opened:
    """An engine in the first precision that passes; EngineBuildError where none passes."""
    notes: list[str] = []
    for precision in precisions:
        engine, check = load(fmt, precision, notes)
        if check.passed:
            return engine
        engine.close()
        notes.append(f"{name} in {precision} is not used, it fails the self-check: {check}")
    raise EngineBuildError(f"{fmt}: {'; '.join(notes)}; try engine='reference'")


def load_cached(
    cache: EngineCache,
    key: EngineKey,
    build: Callable[[], Built],
    make: Callable[[bytes, list[str]], _Opened],
    notes: list[str],
) -> tuple[_Opened, CheckResult]:
    """An engine made of the cached binary, which is built again where it cannot be used.

    It is not built again where memory is short: a build needs more memory than the engine.
    """
    built = cache.fetch(key, build, notes)
    before = len(notes)
    try:
        engine = make(built.blob, notes)
    except NoRoomError:
        raise
    except EngineLoadError as error:
        del notes[before:]  # they are about the binary that is replaced
        logger.warning("the cached engine for %s is built again: %s", key.format, error)
        built = cache.fetch(key, build, notes, fresh=True)
        engine = make(built.blob, notes)
    return engine, CheckResult(**built.check)
