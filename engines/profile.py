"""Measures which engine, precision and number of slots is fastest here, and keeps the result as a profile.

A profile is valid for one machine, one set of package versions and one network. It has the best candidate of
each engine, for the engine that runs while another is built and for engines chosen by name. ``run`` uses it
where the options leave the choice.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
import statistics
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from typing import Any

from vderain.engines.engine import Backend
from vderain.engines.measure import frames_per_s
from vderain.engines.registry import FASTEST_FIRST, candidates, make_backend
from vderain.engines.store.cache import EngineCache
from vderain.engines.store.key import cpu_features, package_versions
from vderain.engines.tiers import with_tier
from vderain.errors import EngineBuildError, EngineLoadError
from vderain.frames import PlaneFormat
from vderain.machine import nvidia_gpu_names
from vderain.network.card import Card
from vderain.options import EngineOptions
from vderain.weights import find_weights

PROFILE = "profile.json"
SCHEMA = 2
DEFAULT_FORMAT = PlaneFormat("yuv420", 1280, 720)

_PRECISIONS = {
    "tensorrt": ("float16",),
    "cuda": ("float16",),
    "openvino": ("int8", "bfloat16", "float16", "float32"),
    "reference": ("float32",),
}
_SLOTS = {"tensorrt": (2, 3, 4), "cuda": (2, 3), "openvino": (1, 2, 3), "reference": (1,)}
_MANY_CORES = 4
_ROUND_S = 1.0  # one measurement of one candidate
_ROUNDS = 3  # candidates take turns, so that a busy moment slows all of them

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Choice:
    """An engine with its settings, and its speed; ``frames_per_s`` is 0 where it cannot run, for ``reason``."""

    engine: str
    precision: str
    slots: int
    threads: int = 0
    compiled: bool = False
    frames_per_s: float = 0.0
    reason: str = ""

    def options(self, options: EngineOptions) -> EngineOptions:
        """``options`` with this precision, and with these numbers where the options leave them open."""
        return replace(
            options,
            precision=self.precision,
            slots=options.slots or self.slots,
            threads=options.threads or self.threads,
            compiled=options.compiled or self.compiled,
        )

    def fails_as(self, other: Choice) -> bool:
        """Whether the other candidate's failure applies here: numbers of slots and threads change no result."""
        mine = (self.engine, self.precision, self.compiled)
        return mine == (other.engine, other.precision, other.compiled)

    def __str__(self) -> str:
        """``openvino int8, 2 in flight, 3 threads``."""
        parts = [f"{self.engine} {self.precision}", f"{self.slots} in flight"]
        parts += [f"{self.threads} threads"] if self.threads else []
        return ", ".join([*parts, "compiled"] if self.compiled else parts)


def tune(
    options: EngineOptions,
    fmt: PlaneFormat = DEFAULT_FORMAT,
    *,
    budget_s: float = 60.0,
    on_measured: Callable[[Choice], None] | None = None,
) -> list[Choice]:
    """All candidates that the options allow, the fastest first; stores the profile of this machine.

    Candidates that fail the self-check or cannot run here come last, with the reason. ``budget_s`` limits the
    measurements, not the building of engines. Raises WeightsError, OptionError.
    """
    options = with_tier(options)
    weights, card = find_weights(options.tier, options.weights)
    cache = EngineCache()
    tried = list(_choices(options))
    measured: dict[Choice, list[float]] = {}
    failed: list[Choice] = []
    until = time.monotonic() + budget_s
    for round_number in range(_ROUNDS):
        for candidate in tried:
            if any(candidate.fails_as(other) for other in failed):
                continue
            if round_number and time.monotonic() > until:
                break
            try:
                backend = make_backend(
                    candidate.engine, weights, card, candidate.options(options), cache
                )
                rate, failure = _rate(backend, candidate, fmt)
            except (EngineBuildError, EngineLoadError) as error:
                rate, failure = 0.0, str(error)
            if failure:
                failed.append(replace(candidate, reason=failure))
                continue
            measured.setdefault(candidate, []).append(rate)
    ranked = [
        replace(candidate, frames_per_s=statistics.median(r)) for candidate, r in measured.items()
    ]
    ranked.sort(key=lambda choice: -choice.frames_per_s)
    for choice in (*ranked, *failed):
        if on_measured is not None:
            on_measured(choice)
    if ranked and options.engine == "auto" and options.precision == "auto":
        _store(cache, card, options, ranked, fmt)
    return [*ranked, *failed]


def stored_choices(options: EngineOptions, card: Card, cache: EngineCache) -> dict[str, Choice]:
    """Engine -> its best candidate by ``tune`` on this machine, the fastest engine first.

    Empty where nothing was measured, or the options name a precision or a device.
    """
    if (options.precision, options.device.lower()) != ("auto", "auto"):
        return {}
    return {choice.engine: choice for choice in _stored(cache).get(_key(card, options), ())}


def _choices(options: EngineOptions) -> Iterator[Choice]:
    usable = candidates(options)
    for engine in (name for name in FASTEST_FIRST if name in usable):
        for precision in _PRECISIONS[engine]:
            if options.precision not in ("auto", precision):
                continue
            for slots in (options.slots,) if options.slots else _SLOTS[engine]:
                for threads in _thread_counts(engine, options):
                    yield Choice(engine, precision, slots, threads, options.compiled)
            if engine == "cuda" and not options.compiled:
                yield Choice(engine, precision, options.slots or _SLOTS[engine][0], compiled=True)


def _thread_counts(engine: str, options: EngineOptions) -> tuple[int, ...]:
    """All cores, and all but one, which is left to the decoder and the encoder."""
    cores = os.cpu_count() or 1
    if options.threads or engine != "openvino" or cores < _MANY_CORES:
        return (options.threads,)
    return (0, cores - 1)


def _rate(backend: Backend, candidate: Choice, fmt: PlaneFormat) -> tuple[float, str]:
    """Frames per second, and the reason where the candidate cannot be used."""
    with closing(backend.open(fmt)) as engine:
        spec = engine.open(fmt)
        if spec.precision != candidate.precision:
            return 0.0, spec.notes[0] if spec.notes else f"runs in {spec.precision} instead"
        return frames_per_s(engine, fmt, _ROUND_S), ""


def _key(card: Card, options: EngineOptions) -> str:
    facts: tuple[object, ...] = (
        cpu_features(),
        nvidia_gpu_names(),
        package_versions("vderain", "torch", "openvino", "torch-tensorrt"),
        card.sha256,
        sorted(card.int8),
        options.threads,
    )
    return hashlib.sha256(repr(facts).encode()).hexdigest()


def _store(
    cache: EngineCache,
    card: Card,
    options: EngineOptions,
    ranked: Sequence[Choice],
    fmt: PlaneFormat,
) -> None:
    path = cache.private_path(PROFILE)
    if path is None:
        return
    best: dict[str, Choice] = {}
    for one in ranked:
        best.setdefault(one.engine, one)
    known = {key: [asdict(one) for one in values] for key, values in _stored(cache).items()}
    known[_key(card, options)] = [asdict(one) for one in best.values()]
    head = {"schema": SCHEMA, "measured": datetime.now(UTC).isoformat(timespec="seconds")}
    cache.keep(path, json.dumps({**head, "at": str(fmt), "choices": known}, indent=2).encode())


def _stored(cache: EngineCache) -> dict[str, list[Choice]]:
    """The profiles of all networks; empty where the file is missing or cannot be read."""
    path = cache.private_path(PROFILE)
    try:
        values: dict[str, Any] = json.loads(path.read_text()) if path is not None else {}
        if values.get("schema") != SCHEMA:
            return {}
        return {
            key: [Choice(**choice) for choice in choices]
            for key, choices in values["choices"].items()
        }
    except FileNotFoundError:
        return {}
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        logger.warning("%s cannot be read and is left alone: %s", path, error)
        return {}
