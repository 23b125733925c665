"""Runs a stage in a thread of its own; the only place with a thread between two stages."""

from __future__ import annotations

import queue
import threading
from collections.abc import Generator, Iterable
from dataclasses import dataclass
from typing import TypeVar

T = TypeVar("T")

_POLL_S = 0.1  # after which a blocked side notices that the run was stopped


@dataclass(frozen=True, slots=True)
class _End:
    """Marks the end of the worker's items and carries its exception, if any."""

    error: BaseException | None = None


def prefetch(
    items: Iterable[T], depth: int, stop: threading.Event | None = None
) -> Generator[T, None, None]:
    """Iterate ``items`` in a thread that runs at most ``depth`` items ahead of the consumer.

    An exception of the worker is raised again in the consumer. When the consumer stops early, or ends,
    the worker is stopped and joined, and a generator given as ``items`` is closed, in the worker's thread.
    ``stop`` is shared by all prefetches of a run, so that stopping the last stage also frees a worker
    that waits for an earlier one.
    """
    stop = stop or threading.Event()
    handover: queue.Queue[T | _End] = queue.Queue(maxsize=depth)
    thread = threading.Thread(
        target=_work, args=(items, handover, stop), name="vderain-prefetch", daemon=True
    )
    thread.start()
    ended = False  # a stage that ends by itself leaves the later ones time to finish
    try:
        while not ended:
            item = _get(handover, stop)
            if not isinstance(item, _End):
                yield item
                continue
            ended = True
            if item.error is not None:
                raise item.error
    finally:
        if not ended:
            stop.set()
        _join(thread)


def _work(items: Iterable[T], handover: queue.Queue[T | _End], stop: threading.Event) -> None:
    error: BaseException | None = None
    try:
        iterator = iter(items)
        try:
            for item in iterator:
                if not _put(handover, item, stop):
                    break
        finally:
            if isinstance(iterator, Generator):
                iterator.close()
    except BaseException as raised:  # carried across the thread boundary
        error = raised
    _put(handover, _End(error), stop)


def _put(handover: queue.Queue[T | _End], item: T | _End, stop: threading.Event) -> bool:
    """Pass an item on; False when the run was stopped."""
    while not stop.is_set():
        try:
            handover.put(item, timeout=_POLL_S)
            return True
        except queue.Full:
            continue
    return False


def _get(handover: queue.Queue[T | _End], stop: threading.Event) -> T | _End:
    """Wait for an item; the end when the run was stopped."""
    while True:
        try:
            return handover.get(timeout=_POLL_S)
        except queue.Empty:
            if stop.is_set():
                return _End()


def _join(thread: threading.Thread) -> None:
    """Wait for a stopped worker, also through further interrupts: it must not outlive what it uses."""
    while thread.is_alive():
        try:
            thread.join()
        except KeyboardInterrupt:
            continue
