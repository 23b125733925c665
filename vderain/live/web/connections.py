"""HTTP connections with deadlines: a visitor who sends or reads nothing cannot keep others out."""

from __future__ import annotations

import asyncio
from typing import Any

from uvicorn.protocols.http.h11_impl import H11Protocol

MOST = 200  # connections at once
_HEAD_S = 10.0  # for a request head, since the connection or the last response
_LOOK_S = 5.0
_LEAST_BYTES = 16_384  # of a response that a visitor must receive between two checks


class TimedConnection(H11Protocol):
    """uvicorn's HTTP/1.1 connection, with deadlines.

    A connection without a complete request head is closed after ``_HEAD_S``, and at once where a new
    visitor needs its place: a browser sends its head with the first packet. One that does not take its
    response is closed, too. uvicorn itself limits only the time between two requests.
    """

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # as in uvicorn
        """Begin to wait for the first request."""
        super().connection_made(transport)
        self._idle_since_s = self.loop.time()
        self._left_bytes = 0
        self._timer = self.loop.call_later(_LOOK_S, self._look)
        self._make_room()

    def connection_lost(self, exc: Exception | None) -> None:
        """End."""
        self._timer.cancel()
        super().connection_lost(exc)

    def on_response_complete(self) -> None:
        """Begin to wait for the next request."""
        self._idle_since_s = self.loop.time()
        super().on_response_complete()

    @property
    def idle_since_s(self) -> float | None:
        """Since when there is nothing to respond to, by the loop's clock; None while a request is under way."""
        under_way = self.cycle is not None and not self.cycle.response_complete
        return None if under_way else self._idle_since_s

    def _make_room(self) -> None:
        """Close the connection that is idle for longest where there would be too many."""
        opened: list[Any] = [each for each in self.connections if not each.transport.is_closing()]
        idle = [each for each in opened if each is not self and each.idle_since_s is not None]
        if len(opened) >= MOST and idle:
            min(idle, key=lambda each: float(each.idle_since_s)).transport.abort()

    def _look(self) -> None:
        """Close a connection that is over its time; else look again later."""
        left = self.transport.get_write_buffer_size()
        taken, self._left_bytes = self._left_bytes - left, left
        # Where more is left than before, a response was added.
        stalls = left > 0 and 0 <= taken < _LEAST_BYTES
        since_s = self.idle_since_s
        late = left == 0 and since_s is not None and self.loop.time() - since_s > _HEAD_S
        if stalls or late:
            self.transport.abort()
        else:
            self._timer = self.loop.call_later(_LOOK_S, self._look)
