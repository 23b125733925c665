"""Messages inside a video stream: read with each frame, and written with the same frame.

Cameras write speed, position and time into user data of H.264 and HEVC, broadcasters captions. FFmpeg's encoders
could write some of them, but PyAV gives frames no side data; so they are inserted into the packets.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

import av

from vderain.media.bitstream.nal import NalFormat, annex_b, escaped
from vderain.media.bitstream.sei import REGISTERED, UNREGISTERED

# x264's and x265's descriptions of their settings, which are not those of the output.
_SETTINGS = (
    bytes.fromhex("dc45e9bde6d948b7962cd820d923eeef"),
    bytes.fromhex("2ca2de09b51747dbbb55a4fe7fc2fc4e"),
)
_ATSC = b"\xb5\x00\x31"  # United States, ATSC
_MOST_CAPTIONS = 31  # sets of three bytes in one message
_SEI = {"h264": b"\x06", "hevc": b"\x4e\x01"}


@dataclass(frozen=True, slots=True)
class Message:
    """One supplemental enhancement message: its ``kind`` (payload type) and its payload."""

    kind: int
    payload: bytes


def messages_of(side_data: Iterable[Any]) -> tuple[Message, ...]:
    """The messages in a decoded frame's side data that can be written again."""
    found = []
    for data in side_data:
        name = data.type.name
        if name == "SEI_UNREGISTERED" and bytes(data)[:16] not in _SETTINGS:
            found.append(Message(UNREGISTERED, bytes(data)))
        elif name == "A53_CC":
            found.extend(_captions(bytes(data)))
        elif name == "AFD":
            shape = 0xF0 | bytes(data)[0]
            found.append(Message(REGISTERED, _ATSC + b"DTG1\x41" + bytes((shape,))))
    return tuple(found)


def _captions(sets: bytes) -> Iterable[Message]:
    """Closed captions in sets of three bytes, in the format of A/53."""
    for start in range(0, len(sets), 3 * _MOST_CAPTIONS):
        part = sets[start : start + 3 * _MOST_CAPTIONS]
        count = 0x40 | len(part) // 3
        yield Message(REGISTERED, _ATSC + b"GA94\x03" + bytes((count, 0xFF)) + part + b"\xff")


def can_hold_messages(codec: str) -> bool:
    """Whether a codec, by its name in ``EncodeOptions.codec``, has such messages."""
    return codec.removesuffix("_nvenc") in _SEI


def with_messages(packet: bytes, codec: str, messages: Iterable[Message]) -> bytes:
    """An encoder's packet (Annex B) with messages inserted before its image."""
    name = codec.removesuffix("_nvenc")
    form = NalFormat(name)
    units = form.split(packet)
    place = next((i for i, unit in enumerate(units) if form.is_slice(unit)), len(units))
    added = [_SEI[name] + escaped(_payload(message) + b"\x80") for message in messages]
    return annex_b([*units[:place], *added, *units[place:]])


def _payload(message: Message) -> bytes:
    return _number(message.kind) + _number(len(message.payload)) + message.payload


def _number(value: int) -> bytes:
    return b"\xff" * (value // 255) + bytes((value % 255,))


def timecode_of(side_data: Iterable[Any]) -> str | None:
    """The timecode in a frame's side data, as ``10:20:30:04``; with ``;`` in drop-frame timecode.

    None where there is none, and where it is zero, which streams without a timecode count from.
    """
    for data in side_data:
        content = bytes(data)
        if data.type.name == "S12M_TIMECODE" and len(content) >= 8:
            count, code = struct.unpack_from("=II", content)
            return _smpte(code) if count and code & 0x3F7F7F3F else None
        if data.type.name == "GOP_TIMECODE" and len(content) >= 8:
            (code,) = struct.unpack_from("=q", content)
            return _of_group(code) if code & 0xFFEFFF else None
    return None


def _smpte(code: int) -> str:
    """ST 12-1: decimal digits in four bits each, hours last."""
    frame, second, minute, hour = (code >> shift & 0xFF for shift in (24, 16, 8, 0))
    parts = [10 * (hour >> 4 & 3) + (hour & 15), 10 * (minute >> 4 & 7) + (minute & 15)]
    parts += [10 * (second >> 4 & 7) + (second & 15), 10 * (frame >> 4 & 3) + (frame & 15)]
    return _written(parts, dropped=bool(frame & 0x40))


def _of_group(code: int) -> str:
    """MPEG-2's 25 bits: drop flag, hours, minutes, marker, seconds, frames."""
    parts = [code >> 19 & 31, code >> 13 & 63, code >> 6 & 63, code & 63]
    return _written(parts, dropped=bool(code >> 24 & 1))


def _written(parts: list[int], *, dropped: bool) -> str:
    hour, minute, second, frame = parts
    return f"{hour:02}:{minute:02}:{second:02}{';' if dropped else ':'}{frame:02}"


class Messages:
    """The messages of frames in an encoder, which returns packets in another order.

    ``losses`` has those that the codec cannot hold.
    """

    def __init__(self, codec: str) -> None:
        self._codec = codec
        self._can = can_hold_messages(codec)
        self._waiting: dict[Fraction, tuple[Message, ...]] = {}
        self._lost_frames = 0

    def keep(self, time_s: Fraction, messages: tuple[Message, ...]) -> None:
        """Store the messages of the frame with this time."""
        if messages and self._can:
            self._waiting[time_s] = messages
        self._lost_frames += bool(messages) and not self._can

    def put_into(self, packet: Any) -> Any:
        """The packet with the messages of its frame."""
        if not self._waiting or packet.pts is None:
            return packet
        messages = self._waiting.pop(packet.pts * packet.time_base, None)
        if messages is None:
            return packet
        changed: Any = av.Packet(with_messages(bytes(packet), self._codec, messages))
        changed.pts, changed.dts, changed.duration = packet.pts, packet.dts, packet.duration
        changed.time_base, changed.is_keyframe = packet.time_base, packet.is_keyframe
        changed.stream = packet.stream
        return changed

    @property
    def losses(self) -> list[str]:
        """Losses, for the report."""
        if not self._lost_frames:
            return []
        return [
            f"user data or captions inside the video stream, with {self._lost_frames} frames: {self._codec} cannot"
            " hold them, h264 and hevc can"
        ]
