"""NAL units of H.264 and HEVC: split, joined, told apart, and given other numbers."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass

_START = b"\0\0\0\1"
_ESCAPED = re.compile(rb"\0\0(?=[\0-\3])")
_H264_IDR, _H264_SEI, _H264_SPS, _H264_PPS = 5, 6, 7, 8
_HEVC_IDR, _HEVC_CRA, _HEVC_IRAP = (19, 20), 21, range(16, 22)
_HEVC_VPS, _HEVC_SPS, _HEVC_PPS = 32, 33, 34
_RECOVERY_POINT = 6
_HEAD = 256  # bytes that hold all that is read of a unit
_HEVC_END_OF_SEQUENCE = bytes((36 << 1, 1))


@dataclass(frozen=True, slots=True)
class NalFormat:
    """How a stream of ``codec`` (h264 or hevc) packs its NAL units.

    ``length_size`` is how many bytes before each tell its length, 0 for start codes (Annex B);
    ``sets`` are the parameter sets of the stream's header.
    """

    codec: str
    length_size: int = 0
    sets: tuple[bytes, ...] = ()

    @classmethod
    def of(cls, codec: str, extradata: bytes | None) -> NalFormat:
        """Read off the header of a stream: avcC, hvcC or Annex B. Raises ValueError for a broken one."""
        data = extradata or b""
        if data[:1] != b"\1":
            plain = cls(codec)
            return cls(codec, 0, tuple(filter(plain.is_parameter_set, plain.split(data))))
        try:
            size, sets = _avcc(data) if codec == "h264" else _hvcc(data)
        except IndexError:
            raise ValueError("the header of its video is cut off") from None
        return cls(codec, size, tuple(sets))

    def split(self, payload: bytes) -> list[bytes]:
        """The NAL units of a packet, without lengths or start codes."""
        if not self.length_size:
            return [unit for part in payload.split(b"\0\0\1") if (unit := part.rstrip(b"\0"))]
        units, place = [], 0
        while place + self.length_size < len(payload):
            begin = place + self.length_size
            place = begin + int.from_bytes(payload[place:begin], "big")
            if payload[begin:place]:
                units.append(payload[begin:place])
        return units

    def kind(self, unit: bytes) -> int:
        """The type of a NAL unit."""
        return unit[0] & 31 if self.codec == "h264" else unit[0] >> 1 & 63

    def is_parameter_set(self, unit: bytes) -> bool:
        """Whether a unit is an SPS or PPS, or a VPS of HEVC."""
        h264 = (_H264_SPS, _H264_PPS)
        return self.kind(unit) in (h264 if self.codec == "h264" else range(_HEVC_VPS, 35))

    def number(self, unit: bytes) -> int:
        """The number of a parameter set, by which others refer to it; -1 for a broken one."""
        bits = _bits(unescaped(unit))
        if self.codec == "hevc" and self.kind(unit) == _HEVC_VPS:
            return int(bits[16:20] or "0", 2)
        try:
            return _golomb(bits, self._number_at(unit, bits))[0]
        except ValueError:
            return -1

    def is_slice(self, unit: bytes) -> bool:
        """Whether a unit holds samples of a picture."""
        return 1 <= self.kind(unit) <= 5 if self.codec == "h264" else self.kind(unit) < 32

    def is_reset(self, units: Iterable[bytes]) -> bool:
        """Whether nothing behind this keyframe in the stream refers to what lies before it.

        HEVC's CRA counts: what may refer back, its leading pictures, shows by the times.
        """
        kinds = {self.kind(unit) for unit in units}
        if self.codec == "h264":
            return _H264_IDR in kinds
        return not kinds.isdisjoint(_HEVC_IRAP)

    def is_entry(self, units: list[bytes]) -> bool:
        """Whether decoding may begin here, and is exact from this picture's time on."""
        return self.is_reset(units) or (
            self.codec == "h264" and any(map(_is_recovery_point, units))
        )

    def _number_at(self, unit: bytes, bits: str) -> int:
        """Where the number of an SPS or PPS stands, in bits."""
        if self.codec == "h264":
            return 32 if self.kind(unit) == _H264_SPS else 8
        return _hevc_sps_number_at(bits) if self.kind(unit) == _HEVC_SPS else 16

    def needs_end_before(self, units: Iterable[bytes]) -> bool:
        """Whether the sequence before must be ended, so that a keyframe begins one of its own."""
        return self.codec == "hevc" and _HEVC_CRA in map(self.kind, units)


def annex_b(units: Iterable[bytes]) -> bytes:
    """NAL units behind start codes, which every muxer takes and turns into its own form."""
    return b"".join(_START + unit for unit in units)


def end_of_sequence() -> bytes:
    """The NAL unit that ends a sequence of HEVC."""
    return _HEVC_END_OF_SEQUENCE


def _avcc(data: bytes) -> tuple[int, list[bytes]]:
    sets: list[bytes] = []
    place = 6
    for first in (True, False):
        count = data[5] & 31 if first else data[place]
        place += not first
        place = _take(data, place, count, sets)
    return (data[4] & 3) + 1, sets


def _hvcc(data: bytes) -> tuple[int, list[bytes]]:
    sets: list[bytes] = []
    place = 23
    for _ in range(data[22]):
        kind, count = data[place] & 63, int.from_bytes(data[place + 1 : place + 3], "big")
        kept: list[bytes] = []
        place = _take(data, place + 3, count, kept)
        sets += kept if kind in (_HEVC_VPS, _HEVC_SPS, _HEVC_PPS) else []
    return (data[21] & 3) + 1, sets


def _take(data: bytes, place: int, count: int, sets: list[bytes]) -> int:
    for _ in range(count):
        begin = place + 2
        place = begin + int.from_bytes(data[begin - 2 : begin], "big")
        if place > len(data):
            raise IndexError(place)
        sets.append(data[begin:place])
    return place


def _is_recovery_point(unit: bytes) -> bool:
    """Whether an H.264 SEI says that pictures are exact from its own on."""
    if unit[0] & 31 != _H264_SEI:
        return False
    data, place = unescaped(unit), 1
    while place + 2 < len(data):
        fields = []
        for _ in range(2):
            value = 0
            while place < len(data) - 1 and data[place] == 255:
                value, place = value + 255, place + 1
            fields.append(value + data[place])
            place += 1
        if fields[0] == _RECOVERY_POINT:
            return place < len(data) and data[place] >> 7 == 1  # recovery_frame_cnt is 0
        place += fields[1]
    return False


def _hevc_sps_number_at(bits: str) -> int:
    """Behind the profile and level, whose length depends on the layers."""
    layers = int(bits[20:23], 2)
    place = 24 + 96
    if layers:
        present = bits[place : place + 2 * layers]
        place += 16 + 88 * present[::2].count("1") + 8 * present[1::2].count("1")
    return place


def _bits(data: bytes) -> str:
    """The first bytes as a text of 0 and 1; numbers stand near the beginning."""
    return "".join(f"{byte:08b}" for byte in data[:_HEAD])


def _golomb(bits: str, place: int) -> tuple[int, int]:
    """The Exp-Golomb number at a place, and the place behind it. Raises ValueError."""
    zeros = bits.index("1", place) - place
    end = place + 2 * zeros + 1
    return int(bits[place + zeros : end] or "0", 2) - 1, end


def unescaped(unit: bytes) -> bytes:
    """A NAL unit without the bytes that keep start codes out of it."""
    return unit.replace(b"\0\0\3", b"\0\0")


def escaped(unit: bytes) -> bytes:
    """The opposite of ``unescaped``."""
    return _ESCAPED.sub(b"\0\0\3", unit)
