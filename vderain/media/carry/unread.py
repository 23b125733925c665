"""What stands inside a video stream and FFmpeg's decoders do not hand out: carried, or named as a loss."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from vderain.interfaces import SourceStats
from vderain.media.bitstream.nal import NalFormat
from vderain.media.bitstream.sei import REGISTERED, sei_messages, unread_name
from vderain.media.carry.messages import Message
from vderain.media.io.open import codec_name

# How user data of ITU-T T.35 begins that FFmpeg reads: captions, active format, HDR10+, HDR Vivid, LCEVC.
_READ = (
    b"\xb5\x00\x31GA94\x03", b"\xb5\x00\x31DTG1", b"\xb5\x00\x3c\x00\x01\x04", b"\x26\x00\x04\x00\x05",
    b"\xb4\x50\x00",
)  # fmt: skip
_MOST_WAITING = 256  # packets whose frames may still come
_USER_DATA = b"\x00\x00\x01\xb2"  # of MPEG-2
_READ_USER_DATA = (b"GA94\x03", b"DTG1", b"CC\x01\xf8", b"Lavc")
_AV1_METADATA, _AV1_READ = 5, (0, 1, 2, 3, 4)  # HDR, scalability and T.35


class UnreadMessages:
    """Looks into the packets of H.264, HEVC, MPEG-2 and AV1 before they are decoded.

    User data of ITU-T T.35 that FFmpeg does not know is kept for its frame; what cannot be written again becomes a
    loss in ``stats``, each kind once.
    """

    def __init__(self, stream: Any, stats: SourceStats) -> None:
        self._stats = stats
        self._codec = codec_name(stream)
        self._form: NalFormat | None = None
        self._waiting: dict[int, tuple[Message, ...]] = {}
        if self._codec in ("h264", "hevc"):
            try:
                self._form = NalFormat.of(self._codec, stream.codec_context.extradata)
            except ValueError:
                self._codec = ""  # the decoder says what is wrong

    def see(self, packet: Any) -> None:
        """Take the next packet of the video."""
        if self._form is not None:
            self._see_units(self._form, packet)
        elif self._codec == "mpeg2video":
            if any(not data.startswith(_READ_USER_DATA) for data in _user_data(bytes(packet))):
                self._lose("user data of MPEG-2 that FFmpeg does not read")
        elif self._codec == "av1":
            for kind in _av1_metadata(bytes(packet)):
                if kind not in _AV1_READ:
                    self._lose(
                        "timecode of AV1" if kind == 5 else f"metadata of kind {kind} of AV1"
                    )

    def take(self, pts: int | None) -> tuple[Message, ...]:
        """What is kept for the frame of a time."""
        return self._waiting.pop(pts, ()) if pts is not None else ()

    def _see_units(self, form: NalFormat, packet: Any) -> None:
        kept = []
        for unit in form.split(bytes(packet)):
            if _is_of_another_layer(form, unit):
                self._lose("another layer (view, depth, alpha or quality)")
                continue
            for kind, payload in sei_messages(form, unit):
                if kind == REGISTERED and not payload.startswith(_READ):
                    kept.append(Message(kind, payload))
                elif (name := unread_name(kind)) is not None:
                    self._lose(name)
        if not kept:
            return
        if packet.pts is None:
            self._lose("user data (ITU-T T.35) of frames without a time")
            return
        self._waiting[packet.pts] = tuple(kept)
        while len(self._waiting) > _MOST_WAITING:
            del self._waiting[next(iter(self._waiting))]

    def _lose(self, what: str) -> None:
        self._stats.lose([f"inside the video stream: {what} is not kept"])


def _is_of_another_layer(form: NalFormat, unit: bytes) -> bool:
    """Whether a unit holds samples of a view or layer that FFmpeg leaves out."""
    if form.codec == "h264":
        return form.kind(unit) in (20, 21)  # MVC, SVC and 3D
    layer = (unit[0] & 1) << 5 | unit[1] >> 3 if len(unit) > 1 else 0
    return layer > 0 and form.is_slice(unit)


def _user_data(payload: bytes) -> Iterator[bytes]:
    place = payload.find(_USER_DATA)
    while place >= 0:
        yield payload[place + 4 : place + 12]
        place = payload.find(_USER_DATA, place + 4)


def _av1_metadata(payload: bytes) -> Iterator[int]:
    """The kinds of the metadata OBUs in a packet; ends where they cannot be read."""
    place = 0
    while place < len(payload):
        head = payload[place]
        place += 2 if head & 4 else 1
        if not head & 2:  # without a size it is the last one
            return
        size, place = _leb128(payload, place)
        if head >> 3 & 15 == _AV1_METADATA:
            yield _leb128(payload, place)[0]
        place += size


def _leb128(payload: bytes, place: int) -> tuple[int, int]:
    value = 0
    for index in range(8):
        if place >= len(payload):
            break
        value |= (payload[place] & 127) << 7 * index
        place += 1
        if not payload[place - 1] & 128:
            break
    return value, place
