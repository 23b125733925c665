"""The program of a worker on a cluster, and the values that it returns; needs no Ray."""

from __future__ import annotations

import os
import socket
import threading
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import vderain
from vderain.batch.jobs import SegmentJob, attempt
from vderain.errors import EngineLoadError, OptionError, SinkError, VderainError
from vderain.interfaces import Engine
from vderain.options import EngineOptions
from vderain.pipeline import Progress

MARKER = ".ray-"  # prefix of the file that a worker must see
EngineFactory = Callable[[EngineOptions], Engine]


@dataclass(frozen=True, slots=True)
class Failure:
    """An error as plain values: chained exceptions cannot be pickled."""

    kind: type[Exception]
    args: tuple[Any, ...]
    errno: int | None = None  # of the error's cause

    @classmethod
    def of(cls, error: Exception) -> Failure:
        """The values of an error."""
        if isinstance(error, OSError):
            return cls(OSError, (error.errno, error.strerror or str(error), error.filename))
        behind: BaseException | None = error
        while behind is not None and getattr(behind, "errno", None) is None:
            behind = behind.__cause__ or behind.__context__
        return cls(type(error), (str(error),), getattr(behind, "errno", None))

    def error(self) -> Exception:
        """The error, made again."""
        error = self.kind(*self.args)
        if self.errno is not None and not isinstance(error, OSError):
            error.__cause__ = OSError(self.errno, os.strerror(self.errno))
        return error


Key = tuple[int, int]  # clip and number of a segment


class Worker:
    """An engine and the segment in work; methods but ``open`` and ``derain`` may be called from another thread."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._begun: Key | None = None
        self._released: set[Key] = set()
        self._at: tuple[Key, Progress] | None = None

    def open(
        self, factory: EngineFactory, options: EngineOptions, paths: list[Path], version: str
    ) -> Failure | None:
        """Check that this machine can work, and open the engine."""
        machine = socket.gethostname()
        if vderain.__version__ != version:
            other = f"{machine}: has vderain {vderain.__version__}, not {version}"
            return Failure(OptionError, (f"{other}; install the same on all machines",))
        for path in paths:
            if not path.exists():
                shown = path.parent if path.name.startswith(MARKER) else path
                why = f"{shown}: is not seen on {machine}; all machines must share it by this path"
                return Failure(SinkError, (why,))
        try:
            self._engine = factory(options)
        except (VderainError, OSError) as error:
            return Failure.of(error)
        return None

    def derain(self, job: SegmentJob) -> tuple[dict[str, Any] | None, Failure | None]:
        """A record, or an error; neither where the job was released."""
        key = job.clip, job.number
        with self._lock:
            if key in self._released:
                self._released.remove(key)
                return None, None
            self._begun = key
        outcome = attempt(job, self._engine, self._note)
        self._at = None
        return outcome.record, None if outcome.error is None else Failure.of(outcome.error)

    def release(self, key: Key) -> bool:
        """Give back a job that waits behind another one; False where it has begun."""
        with self._lock:
            if self._begun != key:
                self._released.add(key)
            return self._begun != key

    def progress(self) -> tuple[Key, Progress] | None:
        """The segment in work and its progress."""
        return self._at

    def _note(self, job: SegmentJob, progress: Progress) -> None:
        self._at = (job.clip, job.number), progress


def open_default(options: EngineOptions) -> Engine:
    """The engine of a batch in one process.

    Raises EngineLoadError at once for an engine, chosen by name, that cannot run here.
    """
    from vderain.engines import open_engine
    from vderain.engines.registry import obstacle

    reason = obstacle(options) if options.engine != "auto" else ""
    if reason:
        raise EngineLoadError(
            f"{socket.gethostname()}: cannot run {options.engine} in {options.precision}: {reason}; let only"
            " machines work that can, or choose another engine and precision, which begins unfinished"
            " clips again (they go on with what they began with)"
        )
    return open_engine(options)
