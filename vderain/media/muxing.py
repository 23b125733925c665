"""The muxer of an output, and the copying of packets into one of its tracks."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Protocol

import av
from av.container import OutputContainer

from vderain.media.frames.timing import DecodingTimes, TtaEnd
from vderain.media.io.streams import MP4_FAMILY

_NO_STRICT_TIMES = 0x20000  # FFmpeg's AVFMT_TS_NONSTRICT: two packets may have the same time


@dataclass(slots=True)
class Muxer:
    """The output container; its packets begin ``negative_s`` before zero, 0 or more."""

    container: OutputContainer
    negative_s: float = 0.0

    def mux(self, packet: Any) -> None:
        """Pass one packet to FFmpeg, which interleaves. Raises av.FFmpegError."""
        if packet.dts is not None and packet.dts < 0:
            self.negative_s = max(self.negative_s, float(-packet.dts * packet.time_base))
        self.container.mux_one(packet)


class TrackWriter(Protocol):
    """Writes the packets of one track."""

    def write(self, packet: Any) -> None:
        """Write one packet."""


@dataclass(slots=True)
class CopiedTrack:
    """Writes packets unchanged; ``repaired`` counts times that went backwards."""

    muxer: Muxer
    stream: Any
    convert: Callable[[bytes], bytes] | None = None
    order: DecodingTimes | TtaEnd | None = None
    repaired: int = 0
    repeats: bool = field(init=False)  # whether two packets may have the same time
    _last_dts: int | None = None

    def __post_init__(self) -> None:
        relaxed = int(self.muxer.container.format.flags) & _NO_STRICT_TIMES
        self.repeats = bool(relaxed) or self.stream.type not in ("audio", "video")

    def write(self, packet: Any) -> None:
        """Mux one packet. Raises av.FFmpegError."""
        if self.convert is not None:
            payload = self.convert(bytes(packet))
            if not payload:
                return
            packet = _with_payload(packet, payload)
        for ready in [packet] if self.order is None else self.order.push(packet):
            self._mux(ready)

    @property
    def is_left_out(self) -> bool:
        """Whether the container leaves out the track, as MP4 and MOV do with one without packets."""
        return self._last_dts is None and self.muxer.container.format.name in MP4_FAMILY

    def flush(self) -> None:
        """Mux the packets that were held back. Raises av.FFmpegError."""
        for packet in [] if self.order is None else self.order.flush():
            self._mux(packet)

    def _mux(self, packet: Any) -> None:
        if packet.dts is None:
            packet.dts = packet.pts if packet.pts is not None else 0  # a cover image has no time
        # Muxers refuse times that go backwards, which damage or concatenation causes; some also refuse the
        # same time twice, except for text and data.
        twice = packet.dts == self._last_dts and not self.repeats
        if self._last_dts is not None and (packet.dts < self._last_dts or twice):
            self.repaired += 1
            packet.dts = self._last_dts + 1
        if packet.pts is None or packet.pts < packet.dts:
            packet.pts = packet.dts
        self._last_dts = packet.dts
        packet.stream = self.stream
        self.muxer.mux(packet)


def _with_payload(packet: Any, payload: bytes) -> Any:
    changed: Any = av.Packet(payload)
    changed.pts, changed.dts, changed.duration = packet.pts, packet.dts, packet.duration
    changed.time_base = packet.time_base
    changed.is_keyframe = True
    return changed
