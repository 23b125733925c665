"""One camera from end to end: reads it, derains its newest frames, feeds the outlets."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from fractions import Fraction
from typing import Any

from vderain.clips import Recent
from vderain.errors import LoginError, SourceError, UnusableError, VderainError
from vderain.frames import PassedPacket, PlaneFormat
from vderain.interfaces import StreamInfo
from vderain.live.broadcast import Broadcast
from vderain.live.options import LiveOptions
from vderain.live.preview import Preview
from vderain.live.scheduling.camera import ScheduledCamera
from vderain.live.scheduling.scheduler import Scheduler
from vderain.live.states import FINAL, Connection, RetryOptions
from vderain.live.stats import CameraStats
from vderain.live.timeline import Timeline
from vderain.media.live.types import Camera, LiveFrame, Sound

logger = logging.getLogger(__name__)

_HANG_S = 10.0  # beyond its own timeouts; then a reading thread is abandoned
_FRAME_S = (1 / 120, 0.2)  # bounds of the time between two frames


def retry_options(options: LiveOptions) -> RetryOptions:
    """Delays before a camera or an outlet is tried again."""
    return RetryOptions(
        max_s=options.backoff_max_s, tries=options.tries, login_tries=options.login_tries
    )


@dataclass(frozen=True, slots=True)
class SessionParts:
    """The parts of a session; ``open_camera`` connects, ``make_sound`` wraps a camera's sound."""

    open_camera: Callable[[], Camera]
    make_sound: Callable[[Any], Sound] | None
    broadcast: Broadcast | None
    scheduled: ScheduledCamera
    scheduler: Scheduler


class CameraSession:
    """Reads one camera until it is stopped, through every failure.

    Call ``start``, then ``tick`` several times a second, then ``stop``. A reading thread that hangs in spite of
    all timeouts is abandoned and replaced.
    """

    def __init__(self, name: str, parts: SessionParts, options: LiveOptions) -> None:
        self.name = name
        self.stats: CameraStats = parts.scheduled.stats
        self.scheduled = parts.scheduled
        self.broadcast = parts.broadcast
        self.preview = Preview()
        self.info: StreamInfo | None = None
        self.format: PlaneFormat | None = None
        self.connection = Connection(name, retry_options(options))
        self.sound_failures = 0
        self._parts = parts
        self._options = options
        self._timeline = Timeline(time.monotonic())
        self._recent = Recent(parts.scheduled.kept_frames)
        self._reader = _Reader()
        self.scheduled.emit = self._emit

    @property
    def ended(self) -> bool:
        """Whether the camera has ended for good."""
        return self.connection.state in FINAL

    @property
    def keeps_sound(self) -> bool:
        """Whether sound is sent on, where the camera has any."""
        return self.broadcast is not None and self._parts.make_sound is not None

    def start(self) -> None:
        """Start the reading thread."""
        self._parts.scheduler.add(self.scheduled)
        if self.broadcast is not None:
            self.broadcast.start()
        self._spawn()

    def tick(self) -> None:
        """Replace what hangs; call it several times a second."""
        self.connection.check()
        if self.broadcast is not None:
            self.broadcast.check()
        reader = self._reader
        limit_s = 3 * self._options.timeout_s + _HANG_S
        if reader.reading_since_s and time.monotonic() - reader.reading_since_s > limit_s:
            reader.stop.set()
            self.scheduled.ring.clear()
            self._recent.clear()
            if self.connection.failed(f"{self.name}: reading hangs") is not None:
                self._spawn()

    def stop(self) -> None:
        """End: complete the outlets first, then release the connection."""
        reader = self._reader
        reader.cancel()
        self._parts.scheduler.remove(self.scheduled)
        if self.broadcast is not None:
            self.broadcast.stop()
        if reader.thread is not None:
            reader.thread.join(timeout=self._options.timeout_s + 3.0)
        self.connection.ended()

    def _spawn(self) -> None:
        reader = self._reader = _Reader()
        reader.thread = threading.Thread(
            target=self._capture, args=(reader,), name="vderain-capture", daemon=True
        )
        reader.thread.start()

    def _capture(self, reader: _Reader) -> None:
        while not reader.stop.is_set():
            self.connection.connecting()
            try:
                if self._read(reader):
                    self.connection.ended("the end of the video")
                    return
            except LoginError as error:
                delay_s = self._failed(reader, str(error), login=True)
            except UnusableError as error:
                delay_s = self._failed(reader, str(error), final=True)
            except VderainError as error:
                delay_s = self._failed(reader, str(error))
            except Exception as error:  # after any error the camera is tried again
                logger.exception("%s", self.name)
                delay_s = self._failed(reader, f"unexpected {type(error).__name__}")
            else:
                delay_s = 0.0
            if delay_s is None:
                return
            reader.stop.wait(delay_s)

    def _failed(self, reader: _Reader, reason: str, **kind: bool) -> float | None:
        """Note a failure, unless this thread was stopped or abandoned in the meantime."""
        return None if reader.stop.is_set() else self.connection.failed(reason, **kind)

    def _read(self, reader: _Reader) -> bool:
        """Connect and read; returns whether the source has ended for good. Raises SourceError and others."""
        reader.alive()
        camera = self._parts.open_camera()
        sound: Sound | None = None
        seen = 0
        try:
            if not reader.begin(camera):
                return False
            sound = self._connected(camera)
            for item in camera:
                if reader.stop.is_set():
                    return False
                reader.alive()
                if isinstance(item, LiveFrame):
                    self._take(item)
                elif sound is not None:
                    self._pass_on(item)
                seen = self._count_errors(camera, seen)
            if camera.is_live and not reader.stop.is_set():
                raise SourceError(f"{self.name}: the camera ended the stream")
            return not reader.stop.is_set()
        finally:
            reader.reading_since_s = None
            self._count_errors(camera, seen)
            self._disconnected(sound)
            reader.camera = None
            camera.close()

    def _connected(self, camera: Camera) -> Sound | None:
        self.info = camera.info
        self._timeline.connected()
        self._recent.clear()
        self.scheduled.ring.clear()
        self.scheduled.control.restart(time.monotonic())
        rate = camera.info.frame_rate
        low, high = _FRAME_S
        self.scheduled.frame_s = min(high, max(low, float(1 / rate))) if rate else 0.04
        self.scheduled.ring.max_age_s = self.scheduled.frame_s
        sound = None
        if self.broadcast is not None:
            if camera.audio is not None and self._parts.make_sound is not None:
                sound = self._parts.make_sound(camera.audio)
            self.broadcast.sound(sound)
        return sound

    def _disconnected(self, sound: Sound | None) -> None:
        self.scheduled.ring.clear()
        self._recent.clear()
        if sound is not None:
            self.sound_failures += sound.failures
            sound.close()

    def _take(self, item: LiveFrame) -> None:
        frame = item.rainy
        self.connection.alive()
        self.stats.frame("decoded")
        if frame.format != self.format:
            self.format = frame.format
            self.scheduled.control.restart(time.monotonic())
        time_s = self._timeline.place(frame.pts * frame.time_base, item.arrived_s)
        placed = replace(item, time_s=time_s, recent=self._recent.add(frame))
        self._parts.scheduler.put(self.scheduled, placed)

    def _pass_on(self, item: PassedPacket) -> None:
        packet = item.payload
        if self.broadcast is None or packet.pts is None:
            return
        time_s = packet.pts * Fraction(packet.time_base)
        offset_s = self._timeline.place(time_s, time.monotonic()) - time_s
        self.broadcast.sound_packet(packet, offset_s)

    def _emit(self, frame: LiveFrame) -> None:
        """Take a frame from the scheduler; called in its thread, so it must not wait."""
        self.preview.put(frame)
        if self.broadcast is not None:
            self.broadcast.put(frame, self.info.frame_rate if self.info else None)
        else:
            self.stats.frame("emitted")
            self.stats.latency("emit", time.monotonic() - frame.arrived_s)

    def _count_errors(self, camera: Camera, seen: int) -> int:
        now = camera.stats.decode_failures
        self.stats.decode_errors += now - seen
        return now


class _Reader:
    """One reading thread and its connection; stopped or abandoned together."""

    def __init__(self) -> None:
        self.thread: threading.Thread | None = None
        self.stop = threading.Event()
        self.camera: Camera | None = None
        self.reading_since_s: float | None = None

    def begin(self, camera: Camera) -> bool:
        """Set the connection; False where the thread was stopped before."""
        self.camera = camera
        return not self.stop.is_set()

    def alive(self) -> None:
        """Note that the thread does not hang."""
        self.reading_since_s = time.monotonic()

    def cancel(self) -> None:
        """End the thread soon."""
        self.stop.set()
        camera = self.camera
        if camera is not None:
            camera.cancel()
