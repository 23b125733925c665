"""The stages of a run as threads, and the time that each of them works."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, closing, contextmanager
from types import TracebackType
from typing import TypeVar

from vderain.flow.prefetch import prefetch

T = TypeVar("T")
U = TypeVar("U")


class StageClock:
    """Seconds that a stage works; stopped while the stage waits for another one."""

    def __init__(self) -> None:
        self.work_s = 0.0
        self._since_s: float | None = None

    @contextmanager
    def working(self) -> Iterator[None]:
        """Count the time of the block, except for that in ``waiting``."""
        self._since_s = time.monotonic()
        try:
            yield
        finally:
            self._halt()

    @contextmanager
    def waiting(self) -> Iterator[None]:
        """Do not count the time of the block."""
        self._halt()
        try:
            yield
        finally:
            self._since_s = time.monotonic()

    def add(self, seconds: float) -> None:
        """Count work that other threads did for the stage."""
        self.work_s += seconds

    def _halt(self) -> None:
        if self._since_s is not None:
            self.work_s += time.monotonic() - self._since_s
        self._since_s = None


class Stages:
    """The stages of a run by name; each but the last is a thread, at most ``depth`` items ahead of the next.

    Leaving the context ends all threads; ``cancel`` ends a blocked read.
    """

    def __init__(self, names: Sequence[str], depth: int, cancel: Callable[[], None]) -> None:
        self.clocks = {name: StageClock() for name in names}
        self._depth = depth
        self._stop = _Stop(cancel)
        self._threads = ExitStack()  # closes the last stage first, so that none reads a closed one

    def first(self, name: str, items: Iterable[T]) -> Iterator[T]:
        """The first stage: it yields ``items``."""
        made = prefetch(_each(items, self.clocks[name].working), self._depth, self._stop)
        return self._threads.enter_context(closing(made))

    def then(
        self, name: str, items: Iterable[T], work: Callable[[Iterator[T]], Iterable[U]]
    ) -> Iterator[U]:
        """The next stage: it yields what ``work`` makes of the items of the stage before."""
        return self.first(name, work(_each(items, self.clocks[name].waiting)))

    @property
    def work_s(self) -> dict[str, float]:
        """Seconds that each stage has worked."""
        return {name: clock.work_s for name, clock in self.clocks.items()}

    @property
    def limiting(self) -> str:
        """The stage that has worked longest."""
        return max(self.clocks, key=lambda name: self.clocks[name].work_s)

    def __enter__(self) -> Stages:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._threads.close()


class _Stop(threading.Event):
    """Stops a run; ends a blocked read at once, since workers are joined after this is set."""

    def __init__(self, cancel: Callable[[], None]) -> None:
        super().__init__()
        self._cancel = cancel

    def set(self) -> None:
        """Stop every stage."""
        super().set()
        self._cancel()


def _each(
    items: Iterable[T], around: Callable[[], AbstractContextManager[None]]
) -> Generator[T, None, None]:
    """``items``; each is made within the context ``around``."""
    iterator = iter(items)
    try:
        while True:
            with around():
                try:
                    item = next(iterator)
                except StopIteration:
                    return
            yield item
    finally:
        if isinstance(iterator, Generator):
            iterator.close()
