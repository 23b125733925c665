"""Passes one encoded stream to several outlets, each with a thread and a bounded queue of its own."""

from __future__ import annotations

import logging
import threading
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass

from vderain.errors import SinkError
from vderain.live.states import FINAL, Connection, RetryOptions, State
from vderain.live.stats import CameraStats
from vderain.media.live.types import EncodedPacket, Outlet, Streams

logger = logging.getLogger(__name__)

# Packets; an output that is further behind continues with a keyframe. Files may lag, viewers may not.
_NETWORK_QUEUE_S, _FILE_QUEUE_S = 5.0, 30.0
_IDLE_S = 0.2
_DRAIN_S = 5.0


@dataclass(frozen=True, slots=True, eq=False)
class _Change:
    """The packets after this one belong to other streams."""

    streams: Streams


class OutletWorker:
    """Writes packets to one outlet; opens it again after a failure, with the next keyframe.

    Args:
        make: makes the outlet, also again where a write hangs.
        stats: of the camera, for drops.
        retry: delays before a failed outlet is opened again.
        timeout_s: after which a write counts as hanging, and its thread is abandoned.
        ask_key: asks the encoder for a keyframe.

    """

    def __init__(
        self,
        make: Callable[[], Outlet],
        stats: CameraStats,
        retry: RetryOptions,
        *,
        timeout_s: float,
        ask_key: Callable[[], None],
    ) -> None:
        self._make = make
        self._outlet = make()
        self._stats = stats
        self._timeout_s = timeout_s
        self._ask_key = ask_key
        self._queue_s = _NETWORK_QUEUE_S if self._outlet.is_network else _FILE_QUEUE_S
        self.name = self._outlet.name
        self.connection = Connection(self.name, retry, stall_s=timeout_s, what="output")
        self.notes: list[str] = []
        self.packets = 0  # that the outlet is known to have received
        self._unconfirmed = 0
        self._queue: deque[EncodedPacket | _Change] = deque()
        self._ready = threading.Condition()
        self._streams: Streams | None = None
        self._stopping = False
        self._needs_key = True
        self._paused = False
        self._writer = _Writer()

    def start(self) -> None:
        """Start the thread."""
        self._spawn()

    def streams(self, streams: Streams) -> None:
        """Set the streams of the following packets; the first of them is a keyframe."""
        with self._ready:
            self._streams = streams
            self._queue.append(_Change(streams))
            self._needs_key = True
            self._ready.notify()

    def put(self, packet: EncodedPacket) -> None:
        """Queue a packet; never blocks. An output too far behind drops all waiting packets."""
        with self._ready:
            behind = self._is_behind(packet.time_s)
            if behind:
                self._drop_waiting()
            is_video = packet.kind == "video"
            if self._paused or (is_video and self._needs_key and not packet.is_key):
                self._stats.dropped("output", is_video)
            else:
                self._needs_key = self._needs_key and not is_video
                self._queue.append(packet)
                self._ready.notify()
        if behind:
            logger.warning("%s is too slow: begins again with a keyframe", self.name)
            self._ask_key()

    def _is_behind(self, time_s: float) -> bool:
        first = next((p for p in self._queue if isinstance(p, EncodedPacket)), None)
        return first is not None and time_s - first.time_s > self._queue_s

    def check(self) -> None:
        """Abandon a thread whose write hangs; call it several times a second."""
        since = self._writer.busy_since_s
        if since is None or time.monotonic() - since <= 2 * self._timeout_s or self._stopping:
            return
        self._writer.abandoned = True
        logger.warning("%s accepts no data any more", self.name)
        delay_s = self.connection.failed("accepts no data any more")
        if delay_s is not None:
            self._outlet = self._make()
            self._spawn(delay_s)

    def stop(self) -> None:
        """Write the queued packets, complete the outlet, and end."""
        with self._ready:
            self._stopping = True
            self._ready.notify_all()
        thread = self._writer.thread
        if thread is not None:
            thread.join(timeout=_DRAIN_S + self._timeout_s)
        self.connection.ended()

    def _drop_waiting(self) -> None:
        """Empty the queue down to the last change of streams; the caller holds the lock."""
        dropped = [p for p in self._queue if isinstance(p, EncodedPacket) and p.kind == "video"]
        changes = [p for p in self._queue if isinstance(p, _Change)]
        self._stats.dropped("output", len(dropped))
        self._queue.clear()
        self._queue.extend(changes[-1:])
        self._needs_key = True

    def _spawn(self, delay_s: float = 0.0) -> None:
        writer = self._writer = _Writer()
        writer.thread = threading.Thread(
            target=self._work, args=(writer, delay_s), name="vderain-outlet", daemon=True
        )
        writer.thread.start()

    def _work(self, writer: _Writer, delay_s: float) -> None:
        outlet = self._outlet
        self._pause(delay_s)
        while not writer.abandoned and not self._done():
            try:
                self._write_on(outlet, writer)
            except SinkError as error:
                failure = str(error)
            except Exception as error:  # an outlet must not take the camera down
                failure = f"{self.name}: unexpected {type(error).__name__}: {error}"
            else:
                failure = ""
            writer.busy_since_s = time.monotonic()  # closing a failed outlet may hang too
            broken = ""
            try:
                self._close(outlet)
            except SinkError as error:
                broken = str(error)
            writer.busy_since_s = None
            if writer.abandoned:
                return
            if failure or broken:
                final = not failure and self._stopping  # an incomplete outlet stays incomplete
                wait_s = self.connection.failed(failure or broken, final=final)
                if wait_s is None:
                    return
                self._pause(wait_s)
        if not writer.abandoned:
            self._conclude(outlet)

    def _write_on(self, outlet: Outlet, writer: _Writer) -> None:
        """Open the outlet and write until the stop; raises SinkError."""
        opened: Streams | None = None
        while not writer.abandoned:
            item = self._next()
            if item is None:
                if self._stopping:
                    return
                continue
            writer.busy_since_s = time.monotonic()
            try:
                streams = item.streams if isinstance(item, _Change) else self._streams
                if streams is not None and streams is not opened:
                    self.connection.connecting()
                    self._close(outlet)
                    outlet.open(streams)
                    opened = streams
                if isinstance(item, EncodedPacket):
                    outlet.write(item)
                    self._unconfirmed += 1
                    if outlet.confirmed:
                        self._count()
                        self.connection.alive()
            finally:
                writer.busy_since_s = None
            self.notes = list(outlet.notes)

    def _close(self, outlet: Outlet) -> None:
        """Complete the outlet; some receive their packets only then. Raises SinkError."""
        try:
            outlet.close()
        finally:
            if outlet.confirmed:
                self._count()
            self._unconfirmed = 0

    def _count(self) -> None:
        self.packets += self._unconfirmed
        self._unconfirmed = 0

    def _next(self) -> EncodedPacket | _Change | None:
        with self._ready:
            if not self._queue and not self._stopping:
                self._ready.wait(_IDLE_S)
            return self._queue.popleft() if self._queue else None

    def _pause(self, seconds: float) -> None:
        """Wait before the next attempt; packets that would be old by then are dropped."""
        if seconds <= 0:
            return
        until_s = time.monotonic() + seconds
        with self._ready:
            self._paused = True
            self._drop_waiting()
            while not self._stopping and (left_s := until_s - time.monotonic()) > 0:
                self._ready.wait(left_s)
            self._paused = False
        self._ask_key()

    def _done(self) -> bool:
        return self._stopping or self.connection.state in FINAL

    def _conclude(self, outlet: Outlet) -> None:
        if self.connection.state is not State.FAILED:
            outlet.finish()
        self.notes = list(outlet.notes)


class _Writer:
    """The thread of a worker; ``abandoned`` once another one has replaced it."""

    def __init__(self) -> None:
        self.thread: threading.Thread | None = None
        self.busy_since_s: float | None = None
        self.abandoned = False
