"""One engine for any number of plane formats: opens what a clip needs, keeps what was used last."""

from __future__ import annotations

import importlib.util
import threading
from collections import OrderedDict
from dataclasses import replace
from pathlib import Path

from vderain.engines.cache import EngineCache
from vderain.engines.contract import Backend
from vderain.engines.openvino import SLOTS, OpenVinoBackend, openvino_devices
from vderain.engines.scaled import ScaledEngine, scaled_format
from vderain.errors import EngineBuildError, EngineLoadError, OptionError
from vderain.frames import Clip, PlaneFormat
from vderain.interfaces import Engine, EngineSpec, Pending
from vderain.network.card import Card
from vderain.options import EngineOptions
from vderain.weights import find_weights

# Over all formats kept open: an engine of the fast tier takes about 70 bytes per pixel.
KEEP_PIXELS = 2 * 1920 * 1080


class EnginePool:
    """``Engine`` for every plane format, as ``EngineOptions`` says.

    Raises WeightsError at once where the weights are missing or damaged, OptionError where the options
    contradict each other. ``auto`` tries openvino, then the reference; what it could not use, and why,
    is in the notes of ``spec_for``.
    """

    slots = SLOTS

    def __init__(self, options: EngineOptions, *, keep: int = 4) -> None:
        self._options = options
        self._keep = keep
        self._candidates = _candidates(options)
        self._weights, self._card = find_weights(options.tier, options.weights)
        self._cache = EngineCache()
        self._backends: dict[str, Backend] = {}
        self._open: OrderedDict[PlaneFormat, tuple[Engine, EngineSpec]] = OrderedDict()
        self._lock = threading.Lock()
        self._closed = False

    def spec_for(self, fmt: PlaneFormat) -> EngineSpec:
        """Which engine serves a format; opens it, which takes seconds where it must be built."""
        with self._lock:
            return self._entry(fmt)[1]

    def submit(self, clip: Clip) -> Pending:
        """Start computing in the engine of the clip's format."""
        with self._lock:  # or another thread's clip might close this engine before it is used
            return self._entry(clip.format)[0].submit(clip)

    def close(self) -> None:
        """Close every engine."""
        with self._lock:
            self._closed = True
            while self._open:
                self._open.popitem()[1][0].close()
            self._backends.clear()

    def _entry(self, fmt: PlaneFormat) -> tuple[Engine, EngineSpec]:
        """The engine of a format, open and marked as used last; the lock is held."""
        if self._closed:
            raise EngineLoadError("the engine is closed")
        if fmt not in self._open:
            self._trim(fmt)
            self._open[fmt] = self._opened(fmt)
        self._open.move_to_end(fmt)
        return self._open[fmt]

    def _trim(self, fmt: PlaneFormat) -> None:
        """Close the engines used least recently until one for ``fmt`` fits in."""

        def pixels() -> int:
            return sum(kept.width * kept.height for kept in (*self._open, fmt))

        while self._open and (len(self._open) >= self._keep or pixels() > KEEP_PIXELS):
            self._open.popitem(last=False)[1][0].close()

    def _opened(self, fmt: PlaneFormat) -> tuple[Engine, EngineSpec]:
        """The first candidate that runs, at the size that the options ask for."""
        working = scaled_format(fmt, self._options.scale)
        notes: list[str] = []
        for name in self._candidates:
            try:
                engine: Engine = self._backend(name).open(working)
            except (EngineBuildError, EngineLoadError) as error:
                if len(self._candidates) == 1:
                    raise
                notes.append(f"{name} cannot run: {error}")
                continue
            if working != fmt:
                engine = ScaledEngine(engine, fmt, working)
            spec = engine.spec_for(fmt)
            return engine, replace(spec, notes=(*notes, *spec.notes))
        raise EngineBuildError("no engine runs here: " + "; ".join(notes))

    def _backend(self, name: str) -> Backend:
        if name not in self._backends:
            self._backends[name] = _make_backend(
                name, self._weights, self._card, self._options, self._cache
            )
        return self._backends[name]


def usable_engines() -> list[tuple[str, bool, str]]:
    """(name, usable, the devices or the reason) of every engine, the fastest first."""
    try:
        devices = ", ".join(f"{name} ({full})" for name, full in openvino_devices().items())
        openvino = ("openvino", True, devices)
    except EngineLoadError as error:
        openvino = ("openvino", False, str(error))
    torch = importlib.util.find_spec("torch") is not None
    return [
        openvino,
        ("reference", torch, "CPU" if torch else "torch is missing; pip install torch"),
    ]


def _candidates(options: EngineOptions) -> tuple[str, ...]:
    """Engines to try, in this order; a device or a precision asked for by name is not traded away."""
    special = options.device.lower() not in ("auto", "cpu") or options.precision in (
        "bfloat16",
        "float16",
    )
    if options.engine == "reference" and special:
        raise OptionError("--engine reference computes on the CPU in float32 only")
    if options.engine != "auto":
        return (options.engine,)
    return ("openvino",) if special else ("openvino", "reference")


def _make_backend(
    name: str, weights: Path, card: Card, options: EngineOptions, cache: EngineCache
) -> Backend:
    if name == "openvino":
        return OpenVinoBackend(weights, card, options, cache)
    try:
        from vderain.engines.reference import ReferenceBackend
    except ImportError as error:
        raise EngineLoadError(f"torch cannot be imported ({error}); pip install torch") from error
    return ReferenceBackend(weights, card, threads=options.threads)
