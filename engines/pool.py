"""One engine for any number of plane formats: opens what a clip needs and keeps the engines used last.

If an engine fails during a run, the next one computes the clips that were in flight again. An engine that
takes minutes to build is built during the run and used when it is ready.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace

from vderain.clips import Window, aligned_clip
from vderain.engines import registry, tiers
from vderain.engines.backends.openvino import SLOTS
from vderain.engines.background import BackgroundBuild, ProcessBuild
from vderain.engines.engine import Backend, BuildsSlowly
from vderain.engines.profile import stored_choices
from vderain.engines.resize import ScaledEngine, scaled_format
from vderain.engines.store.cache import EngineCache
from vderain.errors import (
    EngineBuildError,
    EngineFailedError,
    EngineLoadError,
    NoRoomError,
    WeightsError,
)
from vderain.flow.future import Future
from vderain.frames import Clip, Plane, PlaneFormat
from vderain.interfaces import Engine, EngineSpec, aligns
from vderain.options import EngineOptions
from vderain.weights import find_weights

# Over all open formats; an engine of the fast tier takes about 70 bytes per pixel.
KEEP_PIXELS = 2 * 1920 * 1080

_UNUSABLE = (EngineBuildError, EngineLoadError, WeightsError)  # the engine; another one may run

_Start = Callable[[Engine, Clip], Future]

StartBuild = Callable[[str, EngineOptions, PlaneFormat], BackgroundBuild]


@dataclass(slots=True)
class _Open:
    """An open engine and its possible replacements."""

    name: str
    engine: Engine
    spec: EngineSpec
    rest: tuple[str, ...] = ()  # fallbacks, in this order
    frames: int = 0  # clips submitted to it
    awaited: str = ""  # name of the engine that is being built
    build: BackgroundBuild | None = None
    notes: list[str] = field(default_factory=list)

    def close(self) -> None:
        if self.build is not None:
            self.build.close()
        self.engine.close()


class EnginePool:
    """``Engine`` for every plane format, as ``EngineOptions`` says.

    Raises WeightsError for missing or damaged weights and OptionError for options that contradict each other,
    both at once. ``auto`` tries the fastest engine first; the notes of ``open`` name the engines that could not
    be used, with the reason. If an engine fails, the next one computes its pending clips again.
    """

    def __init__(
        self,
        options: EngineOptions,
        *,
        keep: int = 4,
        start_build: StartBuild = ProcessBuild,
    ) -> None:
        tier = tiers.chosen(options)
        self._options = options = replace(options, tier=tier.tier)
        self._tier_reason = tier.reason
        self._keep = keep
        self._start_build = start_build
        self._candidates = registry.candidates(options)
        self._weights, self._card = find_weights(options.tier, options.weights)
        self._cache = EngineCache()
        self._tuned = stored_choices(options, self._card, self._cache)
        tuned = [name for name in self._tuned if name in self._candidates]
        self._candidates = (*tuned, *(name for name in self._candidates if name not in tuned))
        self._backends: dict[tuple[str, EngineOptions], Backend] = {}
        self._open: OrderedDict[PlaneFormat, _Open] = OrderedDict()
        self._specs: dict[PlaneFormat, EngineSpec] = {}
        self._aligns = False
        self._lock = threading.RLock()
        self._closed = False

    @property
    def slots(self) -> int:
        """Slots of the open engine that has most; an estimate before an engine is open."""
        with self._lock:
            return max((entry.engine.slots for entry in self._open.values()), default=SLOTS)

    @property
    def aligns(self) -> bool:
        """Whether all open engines align neighbours; does not wait for one that is being opened."""
        return self._aligns

    @property
    def window(self) -> Window:
        """As the protocol says."""
        config = self._card.config
        return Window.of(config.frames, config.ranks)

    def open(self, fmt: PlaneFormat) -> EngineSpec:
        """Open the engine of a format at the first call; return the engine in use, or the last one.

        Building takes seconds, and minutes for TensorRT with ``wait_engine``.
        """
        with self._lock:
            if self._closed or fmt not in self._specs:
                self._entry(fmt)
            return self._specs[fmt]

    def submit(self, clip: Clip, *, strength: float = 1.0, on_device: bool = False) -> Future:
        """Submit a clip to the engine of its format."""
        return self._started(
            clip,
            lambda engine, given: engine.submit(given, strength=strength, on_device=on_device),
        )

    def change(self, clip: Clip) -> Future:
        """As the protocol says, by the engine of the clip's format."""
        return self._started(clip, lambda engine, given: engine.change(given))

    def _started(self, clip: Clip, start: _Start) -> Future:
        """The result of the engine in use, or of the next engine where that one fails."""
        with self._lock:  # another thread's clip might close this engine before it is used
            entry = self._entry(clip.format)
            if entry.build is not None:
                entry = self._newest(clip.format, entry)
            engine = entry.engine
            try:
                entry.frames += 1
                computed = start(engine, clip if aligns(engine) else aligned_clip(clip))
            except EngineFailedError as error:
                return self._restarted(clip, start, engine, error)
        return Future(lambda: self._result(computed, clip, start, engine))

    def _result(
        self, computed: Future, clip: Clip, start: _Start, engine: Engine
    ) -> Sequence[Plane]:
        try:
            return computed.result()
        except EngineFailedError as error:
            return self._restarted(clip, start, engine, error).result()

    def _restarted(
        self, clip: Clip, start: _Start, failed: Engine, error: EngineFailedError
    ) -> Future:
        """Submit a clip whose engine failed to the next one; raises ``error`` where there is none."""
        with self._lock:
            if self._closed:
                raise error
            entry = self._open.get(clip.format)
            if entry is not None and entry.engine is failed:
                self._fall_back(clip.format, entry, error)
            return self._started(clip, start)

    def close(self) -> None:
        """Close every engine."""
        with self._lock:
            self._closed = True
            while self._open:
                self._open.popitem()[1].close()
            self._backends.clear()

    def _entry(self, fmt: PlaneFormat) -> _Open:
        """The engine of a format, open and marked as used last; the caller holds the lock."""
        if self._closed:
            raise EngineLoadError("the engine is closed")
        if fmt not in self._open:
            self._trim(fmt)
            self._keep_open(fmt, self._opened(fmt, self._candidates, self._options, []))
        self._open.move_to_end(fmt)
        return self._open[fmt]

    def _keep_open(self, fmt: PlaneFormat, entry: _Open) -> None:
        self._open[fmt] = entry
        self._specs[fmt] = entry.spec
        self._aligns = all(aligns(kept.engine) for kept in self._open.values())

    def _trim(self, fmt: PlaneFormat) -> None:
        """Close the engines used least recently until one for ``fmt`` fits."""

        def pixels() -> int:
            return sum(kept.width * kept.height for kept in (*self._open, fmt))

        while self._open and (len(self._open) >= self._keep or pixels() > KEEP_PIXELS):
            self._open.popitem(last=False)[1].close()

    def _opened(
        self,
        fmt: PlaneFormat,
        names: tuple[str, ...],
        options: EngineOptions,
        notes: list[str],
    ) -> _Open:
        """The first of ``names`` that runs, at the size that the options ask for."""
        working = scaled_format(fmt, self._options.scale)
        awaited, build = "", None
        for index, name in enumerate(names):
            rest = names[index + 1 :]
            try:
                backend = self._backend(name, options, at_once=build is not None)
                if build is None and rest and self._may_wait(backend, working):
                    awaited, build = name, self._start_build(name, options, working)
                    notes.append(
                        f"{name} is being built for {working} and is used when it is ready "
                        "(vderain engine build does it ahead of time)"
                    )
                    continue
                engine = self._running(backend, name, options, working)
            except (EngineBuildError, EngineLoadError) as error:
                if not rest and not notes:
                    raise
                notes.append(f"{name} cannot run: {error}")
                continue
            if working != fmt:
                engine = ScaledEngine(engine, fmt, working)
            spec = engine.open(fmt)
            spec = replace(spec, notes=(*notes, *spec.notes), tier_reason=self._tier_reason)
            return _Open(name, engine, spec, rest, awaited=awaited, build=build, notes=notes)
        if build is not None:
            build.close()
        raise EngineBuildError("no engine runs here: " + "; ".join(notes))

    def _may_wait(self, backend: Backend, fmt: PlaneFormat) -> bool:
        """Whether the run begins with another engine while this one is built."""
        return (
            not self._options.wait_engine
            and isinstance(backend, BuildsSlowly)
            and self._cache.usable
            and not backend.is_built(fmt)
        )

    def _newest(self, fmt: PlaneFormat, entry: _Open) -> _Open:
        """The engine built in the background, once it is ready; else the engine in use."""
        assert entry.build is not None
        outcome = entry.build.outcome()
        if outcome is None:
            return entry
        entry.build.close()
        entry.build = None
        note = f"{entry.awaited} could not be built, {entry.name} continues: {outcome}"
        if not outcome:
            try:
                fresh = self._opened_next_to(fmt, entry)
            except _UNUSABLE as error:
                note = f"{entry.awaited} was built and cannot run, {entry.name} continues: {error}"
            else:
                return self._opened_in_place(fmt, entry) if fresh is None else fresh
        entry.spec = replace(entry.spec, notes=(*entry.spec.notes, note))
        self._specs[fmt] = entry.spec
        return entry

    def _opened_next_to(self, fmt: PlaneFormat, entry: _Open) -> _Open | None:
        """The built engine, opened before the one in use is closed; None where the memory does not hold both."""
        try:
            fresh = self._built(fmt, entry)
        except NoRoomError:
            return None
        if fresh.engine.slots < entry.engine.slots:
            fresh.close()  # without the other one it may get more slots
            return None
        entry.close()  # its clips in flight complete first
        self._keep_open(fmt, fresh)
        return fresh

    def _opened_in_place(self, fmt: PlaneFormat, entry: _Open) -> _Open:
        """The built engine, opened after the one in use was closed; the latter again where that fails."""
        entry.close()
        del self._open[fmt]
        try:
            fresh = self._built(fmt, entry)
        except _UNUSABLE as error:
            note = f"{entry.awaited} was built and cannot run: {error}"
            names = (entry.name, *entry.rest)
            fresh = self._opened(fmt, names, self._options, [*entry.notes, note])
            fresh.frames = entry.frames
        self._keep_open(fmt, fresh)
        return fresh

    def _built(self, fmt: PlaneFormat, entry: _Open) -> _Open:
        """The engine that was built in the background, open."""
        fresh = self._opened(fmt, (entry.awaited,), self._options, [])
        note = f"{entry.awaited} was built during the run and used after {entry.frames} frames"
        fresh.spec = replace(fresh.spec, notes=(note, *fresh.spec.notes))
        fresh.rest = tuple(n for n in (entry.name, *entry.rest) if n != entry.awaited)
        return fresh

    def _fall_back(self, fmt: PlaneFormat, failed: _Open, error: EngineFailedError) -> None:
        """Open the next engine in place of one that failed during the run."""
        failed.close()
        del self._open[fmt]
        names = failed.rest or registry.fallbacks(failed.name)
        if not names:
            raise error
        # Another precision or device is better than half a file.
        options = replace(self._options, engine="auto", precision="auto", device="auto")
        note = (
            f"{failed.name} failed at frame {failed.frames} ({error}); fell back to the next engine"
        )
        try:
            entry = self._opened(fmt, names, options, [*failed.spec.notes, note])
        except (EngineBuildError, EngineLoadError) as next_error:
            raise EngineLoadError(f"{error}; and then {next_error}") from error
        self._keep_open(fmt, entry)

    def _running(
        self, backend: Backend, name: str, options: EngineOptions, fmt: PlaneFormat
    ) -> Engine:
        """The backend's engine, or the one without a profile: the fastest at one size may fail at another."""
        try:
            return backend.open(fmt)
        except (EngineBuildError, EngineLoadError):
            plain = self._made(name, options)
            if plain is backend or isinstance(
                backend, BuildsSlowly
            ):  # it would fail again, after minutes
                raise
            return plain.open(fmt)

    def _backend(self, name: str, options: EngineOptions, *, at_once: bool) -> Backend:
        """An engine's backend; ``at_once`` leaves out kernels that take a minute to compile."""
        if name in self._tuned and options == self._options:
            tuned = self._tuned[name].options(options)
            options = replace(tuned, compiled=options.compiled) if at_once else tuned
        return self._made(name, options)

    def _made(self, name: str, options: EngineOptions) -> Backend:
        key = (name, options)
        if key not in self._backends:
            self._backends[key] = registry.make_backend(
                name, self._weights, self._card, options, self._cache
            )
        return self._backends[key]
