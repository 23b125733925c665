"""The buffer in which decoded frames wait for the network: only the newest, so that latency cannot grow."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable
from typing import Generic, TypeVar

T = TypeVar("T")


class LatestRing(Generic[T]):
    """Holds the newest ``depth`` items; drops older ones that are too many or have waited too long.

    Depth two keeps both of two frames that arrive together, while the network can follow; ``max_age_s`` (one frame's
    time) keeps the older one from delaying every later frame.
    """

    def __init__(
        self,
        depth: int = 2,
        *,
        max_age_s: float = 0.04,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._items: deque[tuple[float, T]] = deque()
        self._depth = depth
        self._clock = clock
        self._lock = threading.Lock()
        self.max_age_s = max_age_s

    def __len__(self) -> int:
        return len(self._items)

    @property
    def newest(self) -> T | None:
        """The newest item, which stays in the buffer."""
        with self._lock:
            return self._items[-1][1] if self._items else None

    def put(self, item: T) -> int:
        """Add the newest item; the oldest is dropped where there is no room. Returns the number of dropped items."""
        with self._lock:
            self._items.append((self._clock(), item))
            dropped = max(0, len(self._items) - self._depth)
            for _ in range(dropped):
                self._items.popleft()
            return dropped

    def take(self) -> tuple[T | None, int]:
        """The oldest item that has not waited too long, else the newest; and the number of dropped items."""
        with self._lock:
            dropped = 0
            while len(self._items) > 1 and self._clock() - self._items[0][0] > self.max_age_s:
                self._items.popleft()
                dropped += 1
            return (self._items.popleft()[1] if self._items else None), dropped

    def clear(self) -> None:
        """Drop all items without counting them, as after a reconnection."""
        with self._lock:
            self._items.clear()
