"""The future of a frame's planes, which all engines return."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence

from vderain.frames import Plane


class Future:
    """Planes that are computed, or waited for, at the first call of ``result``.

    Args:
        compute: called once, by the first caller. What it holds is released when it has returned; an error that it
        raises is raised again for every caller.

    """

    def __init__(self, compute: Callable[[], Sequence[Plane]]) -> None:
        self._compute: Callable[[], Sequence[Plane]] | None = compute
        self._planes: Sequence[Plane] = ()
        self._error: Exception | None = None
        self._lock = threading.Lock()

    def result(self) -> Sequence[Plane]:
        """The planes, which belong to the caller; the same at each call, from any thread."""
        self.settle()
        if self._error is not None:
            raise self._error
        return self._planes

    def settle(self) -> None:
        """Compute or wait; an error is kept for ``result``."""
        with self._lock:
            if self._compute is None:
                return
            try:
                self._planes = self._compute()
            except Exception as error:  # raised by ``result``, perhaps in another thread
                self._error = error
            self._compute = None

    def then(self, step: Callable[[Sequence[Plane]], Sequence[Plane]]) -> Future:
        """The future of ``step`` applied to the planes."""
        return Future(lambda: step(self.result()))
