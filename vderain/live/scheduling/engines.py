"""The engines of a live process: opened in the background, replaced when they fail."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from typing import Literal

from vderain.frames import PlaneFormat
from vderain.interfaces import Engine, EngineSpec
from vderain.live.scheduling.tier_control import Rung

logger = logging.getLogger(__name__)

_RETRY_S = 15.0
_RETRY_MAX_S = 600.0


class Entry:
    """An engine for one rung and plane format, or the attempt to open it."""

    def __init__(self, rung: Rung, fmt: PlaneFormat) -> None:
        self.rung = rung
        self.fmt = fmt
        self.state: Literal["opening", "ready", "failed"] = "opening"
        self.engine: Engine | None = None
        self.spec: EngineSpec | None = None
        self.error = ""
        self.failures = 0
        self.retry_s = 0.0
        self.in_flight = 0
        self._lock = threading.Lock()

    def begin(self) -> None:
        """Note that a clip was submitted."""
        with self._lock:
            self.in_flight += 1

    def end(self) -> None:
        """Note that its result arrived."""
        with self._lock:
            self.in_flight = max(0, self.in_flight - 1)

    @property
    def has_room(self) -> bool:
        """Whether another clip may be submitted."""
        return self.engine is not None and self.in_flight < self.engine.slots


class LiveEngines:
    """Engines by rung and format; each has a pool of its own, so that cameras do not close each other's."""

    def __init__(
        self,
        open_engine: Callable[[Rung], Engine],
        clock: Callable[[], float] = time.monotonic,
        on_ready: Callable[[], None] = lambda: None,
    ) -> None:
        self._open_engine = open_engine
        self._clock = clock
        self.on_ready = on_ready
        self._entries: dict[tuple[Rung, PlaneFormat], Entry] = {}
        self._lock = threading.Lock()
        self._closed = False
        self.specs: list[EngineSpec] = []  # of all engines so far, for the report

    def get(self, rung: Rung, fmt: PlaneFormat) -> Entry:
        """The entry, at once; a thread starts to open an engine that is missing."""
        with self._lock:
            entry = self._entries.get((rung, fmt))
            if entry is None:
                entry = self._entries[rung, fmt] = Entry(rung, fmt)
                self._start(entry)
            elif entry.state == "failed" and self._clock() >= entry.retry_s:
                entry.state = "opening"
                self._start(entry)
            return entry

    def peek(self, rung: Rung, fmt: PlaneFormat) -> Entry | None:
        """The entry, if there is one; opens nothing."""
        with self._lock:
            return self._entries.get((rung, fmt))

    def entries(self) -> list[Entry]:
        """All entries, for telemetry."""
        with self._lock:
            return list(self._entries.values())

    def fail(self, entry: Entry, reason: str, *, hung: bool = False) -> None:
        """Remove a broken engine, which is opened again after a while. One that hangs is not closed."""
        with self._lock:
            if entry.state == "failed":
                return
            engine, entry.engine = entry.engine, None
            entry.in_flight = 0
            self._failed(entry, reason)
        if engine is not None and not hung:
            with suppress(Exception):  # closing a broken engine may fail too
                engine.close()

    def retain(self, formats: set[PlaneFormat]) -> None:
        """Close the engines of formats that no camera has."""
        with self._lock:
            gone = [key for key in self._entries if key[1] not in formats]
            entries = [self._entries.pop(key) for key in gone]
        for entry in entries:
            if entry.engine is not None:
                entry.engine.close()

    def close(self) -> None:
        """Close all engines; one that is opening is closed as soon as it is open."""
        with self._lock:
            self._closed = True
        self.retain(set())

    def _start(self, entry: Entry) -> None:
        threading.Thread(
            target=self._open, args=(entry,), name="vderain-engine", daemon=True
        ).start()

    def _open(self, entry: Entry) -> None:
        engine = None
        try:
            engine = self._open_engine(entry.rung)
            spec = engine.open(entry.fmt)
        except Exception as error:  # kept in the entry; frames pass through without the engine
            if engine is not None:
                engine.close()
            with self._lock:
                self._failed(entry, str(error) or type(error).__name__)
            return
        with self._lock:
            wanted = not self._closed and self._entries.get((entry.rung, entry.fmt)) is entry
            if wanted:
                entry.engine, entry.spec, entry.error, entry.state = engine, spec, "", "ready"
                self.specs.append(spec)
        if not wanted:
            engine.close()
            return
        logger.info(
            "%s runs on %s %s for %s", entry.rung.name, spec.name, spec.precision, entry.fmt
        )
        self.on_ready()

    def _failed(self, entry: Entry, reason: str) -> None:
        entry.state, entry.error = "failed", reason
        delay_s = min(_RETRY_MAX_S, _RETRY_S * 2.0 ** min(entry.failures, 16))
        entry.failures += 1
        entry.retry_s = self._clock() + delay_s
        logger.error(
            "%s for %s failed: %s; tried again in %.0f s",
            entry.rung.name,
            entry.fmt,
            reason,
            delay_s,
        )
