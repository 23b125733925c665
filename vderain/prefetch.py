"""The one place where a thread stands between two stages."""

from __future__ import annotations

import queue
import threading
from collections.abc import Generator, Iterable
from typing import TypeVar

T = TypeVar("T")

_POLL_S = 0.1  # how soon a blocked worker notices that its consumer has gone


class _End:
    """Marks the end of the worker's items and carries its exception, if any."""

    def __init__(self, error: BaseException | None) -> None:
        self.error = error


def prefetch(items: Iterable[T], depth: int) -> Generator[T, None, None]:
    """Iterate ``items`` in a thread that runs at most ``depth`` items ahead of the consumer.

    An exception of the worker is raised again in the consumer. When the consumer stops early, or ends,
    the worker is stopped and joined, and a generator given as ``items`` is closed, in the worker's thread.
    """
    handover: queue.Queue[T | _End] = queue.Queue(maxsize=depth)
    stop = threading.Event()

    def put(item: T | _End) -> bool:
        while not stop.is_set():
            try:
                handover.put(item, timeout=_POLL_S)
                return True
            except queue.Full:
                continue
        return False

    def work() -> None:
        error: BaseException | None = None
        iterator = iter(items)
        try:
            for item in iterator:
                if not put(item):
                    break
        except BaseException as raised:  # carried across the thread boundary
            error = raised
        finally:
            close = getattr(iterator, "close", None)
            if close is not None:
                close()
        put(_End(error))

    thread = threading.Thread(target=work, name="vderain-prefetch", daemon=True)
    thread.start()
    try:
        while True:
            item = handover.get()
            if isinstance(item, _End):
                if item.error is not None:
                    raise item.error
                return
            yield item
    finally:
        stop.set()
        thread.join()
