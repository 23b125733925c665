"""Encodes a camera's frames once, in a thread, and passes the packets to every outlet."""

from __future__ import annotations

import logging
import threading
import time
from collections import deque
from collections.abc import Callable
from fractions import Fraction
from typing import Any

from vderain.errors import VderainError
from vderain.frames import Frame, PlaneFormat
from vderain.live.outputs import OutletWorker
from vderain.live.states import RetryOptions
from vderain.live.stats import CameraStats
from vderain.media.live.types import LiveFrame, Outlet, Sound, Streams, VideoEncoder

logger = logging.getLogger(__name__)

_WAITING_FRAMES = 3  # before the encoder; more would only add latency
_IDLE_S = 0.2
_ENCODER_RETRY_S = 5.0

MakeEncoder = Callable[[Frame, Fraction | None, Fraction], VideoEncoder]


class Broadcast:
    """Encodes one camera's frames and feeds its outlets; no method blocks the caller.

    Args:
        name: of the camera, for the log.
        outlets: for each outlet a function that makes it.
        make_encoder: is called with the first frame of a format, the frame rate and the pixel shape.
        stats: of the camera.
        retry: delays for outlets that fail.
        timeout_s: after which an outlet counts as hanging.

    """

    def __init__(
        self,
        name: str,
        outlets: list[Callable[[], Outlet]],
        make_encoder: MakeEncoder,
        stats: CameraStats,
        retry: RetryOptions,
        *,
        timeout_s: float,
    ) -> None:
        self._name = name
        self._make_encoder = make_encoder
        self._stats = stats
        self.workers = [
            OutletWorker(make, stats, retry, timeout_s=timeout_s, ask_key=self._ask_key)
            for make in outlets
        ]
        self._frames: deque[tuple[LiveFrame, Fraction | None]] = deque()
        self._ready = threading.Condition()
        self._stopping = False
        self._wants_key = False
        self._encoder: VideoEncoder | None = None
        self._encoded: tuple[PlaneFormat, Fraction] | None = None
        self._retry_s = 0.0
        self._sound: Sound | None = None
        self._announced: tuple[Any, ...] = ()
        self.notes: dict[str, None] = {}
        self._thread = threading.Thread(target=self._encode, name="vderain-encode", daemon=True)

    def start(self) -> None:
        """Start the thread."""
        for worker in self.workers:
            worker.start()
        self._thread.start()

    def put(self, frame: LiveFrame, rate: Fraction | None) -> None:
        """Queue a frame; where the encoder is behind, the oldest waiting frame is dropped."""
        with self._ready:
            self._frames.append((frame, rate))
            dropped = len(self._frames) > _WAITING_FRAMES
            if dropped:
                self._frames.popleft()
            self._ready.notify()
        self._stats.dropped("encoder", dropped)

    def sound(self, sound: Sound | None) -> None:
        """Set the sound of a new connection, or None; the caller closes it."""
        self._sound = sound
        self._announce()

    def sound_packet(self, packet: Any, offset_s: Fraction) -> None:
        """Queue a packet of sound."""
        if self._sound is None or not self._announced:
            return
        for encoded in self._sound.packets(packet, offset_s):
            for worker in self.workers:
                worker.put(encoded)

    def check(self) -> None:
        """Replace outlets that hang; call it several times a second."""
        for worker in self.workers:
            worker.check()
            worker.connection.check()

    def stop(self) -> None:
        """Encode the waiting frames, complete every outlet, and end."""
        with self._ready:
            self._stopping = True
            self._ready.notify_all()
        self._thread.join(timeout=10.0)
        for worker in self.workers:
            worker.stop()
        if self._encoder is not None and not self._thread.is_alive():
            self._encoder.close()

    @property
    def waiting(self) -> int:
        """Number of frames before the encoder."""
        return len(self._frames)

    def _ask_key(self) -> None:
        self._wants_key = True

    def _encode(self) -> None:
        while True:
            with self._ready:
                if not self._frames and not self._stopping:
                    self._ready.wait(_IDLE_S)
                if not self._frames:
                    if self._stopping:
                        return
                    continue
                frame, rate = self._frames.popleft()
            try:
                with self._stats.busy("encode"):
                    self._encode_one(frame, rate)
            except VderainError as error:
                self._encoder_failed(str(error))
            except Exception as error:  # the camera must continue
                self._encoder_failed(f"unexpected {type(error).__name__}: {error}")

    def _encode_one(self, live: LiveFrame, rate: Fraction | None) -> None:
        frame = live.dry
        if self._encoder is None or (frame.format, live.pixel_shape) != self._encoded:
            if time.monotonic() < self._retry_s:
                self._stats.dropped("encoder")
                return
            self._open(frame, rate, live.pixel_shape)
        assert self._encoder is not None
        key, self._wants_key = self._wants_key, False
        for packet in self._encoder.encode(frame, live.time_s, key=key):
            for worker in self.workers:
                worker.put(packet)
        self._stats.frame("emitted")
        self._stats.latency("emit", time.monotonic() - live.arrived_s)

    def _open(self, frame: Frame, rate: Fraction | None, pixel_shape: Fraction) -> None:
        """Make an encoder for a new format; outlets begin a new stream."""
        if self._encoder is not None:
            logger.info("%s is %s now", self._name, frame.format, extra={"camera": self._name})
            self._encoder.close()
            self._encoder = None
        self._encoder = self._make_encoder(frame, rate, pixel_shape)
        self._encoded = frame.format, pixel_shape
        for note in self._encoder.notes:
            self.notes[note] = None
        self._announce()

    def _announce(self) -> None:
        """Send the outlets the stream's description, where it is new."""
        encoder, sound = self._encoder, self._sound
        if encoder is None:
            return
        signature = (encoder, sound.signature if sound is not None else None)
        if signature == self._announced:
            return
        self._announced = signature
        streams = Streams(
            encoder.stream,
            sound.stream if sound is not None else None,
            sound.aac_stream if sound is not None else None,
        )
        for worker in self.workers:
            worker.streams(streams)
        self._wants_key = True

    def _encoder_failed(self, reason: str) -> None:
        logger.error("%s: %s", self._name, reason, extra={"camera": self._name})
        self._stats.dropped("encoder")
        encoder, self._encoder = self._encoder, None
        self._retry_s = time.monotonic() + _ENCODER_RETRY_S
        if encoder is not None:
            encoder.close()
