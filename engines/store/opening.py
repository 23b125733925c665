"""How every backend opens an engine: the first precision that passes the self-check, from the cache or built."""

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
"""From a format, a precision and the notes so far to an engine and the self-check's verdict of it."""


def first_passing(
    name: str, fmt: PlaneFormat, precisions: Sequence[str], load: Load[_Opened]
) -> _Opened:
    """An engine in the first precision that passes; EngineBuildError where none does."""
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
    """An engine made of what the cache holds, which is built again where it cannot be used.

    Not where the memory is full: another build would need the same, and more while it goes on.
    """
    built = cache.fetch(key, build, notes)
    before = len(notes)
    try:
        engine = make(built.blob, notes)
    except NoRoomError:
        raise
    except EngineLoadError as error:
        del notes[before:]  # what was tried with bytes that are of no use
        logger.warning("the cached engine for %s is built again: %s", key.format, error)
        built = cache.fetch(key, build, notes, fresh=True)
        engine = make(built.blob, notes)
    return engine, CheckResult(**built.check)
