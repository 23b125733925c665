"""NAL units of H.264 and HEVC: split, joined, classified and renumbered."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass

_START = b"\0\0\0\1"
_ESCAPED = re.compile(rb"\0\0(?=[\0-\3])")
_H264_IDR, _H264_SEI, _H264_SPS, _H264_PPS = 5, 6, 7, 8
_HEVC_BLA, _HEVC_CRA, _HEVC_IRAP = 18, 21, range(16, 22)  # BLA without leading images
_HEVC_VPS, _HEVC_SPS, _HEVC_PPS = 32, 33, 34
_SETS = {"h264": (_H264_SPS, _H264_PPS), "hevc": (_HEVC_SPS, _HEVC_PPS)}
_RECOVERY_POINT = 6
_HEAD = 256  # bytes of a unit that hold all fields read here


@dataclass(frozen=True, slots=True)
class NalFormat:
    """The packing of NAL units in a stream of ``codec`` (h264 or hevc).

    ``length_size`` is the number of bytes of the length before each unit, 0 for start codes (Annex B); ``sets`` are
    the parameter sets of the stream's header.
    """

    codec: str
    length_size: int = 0
    sets: tuple[bytes, ...] = ()

    @classmethod
    def of(cls, codec: str, extradata: bytes | None) -> NalFormat:
        """From the header of a stream: avcC, hvcC or Annex B. Raises ValueError for a damaged one."""
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
        """The id of a parameter set, by which others refer to it; -1 for a damaged one."""
        bits = _bits(unescaped(unit))
        if self.codec == "hevc" and self.kind(unit) == _HEVC_VPS:
            return int(bits[16:20] or "0", 2)
        try:
            return _golomb(bits, self.number_place(unit, bits))[0]
        except ValueError:
            return -1

    def is_slice(self, unit: bytes) -> bool:
        """Whether a unit holds samples of an image."""
        return 1 <= self.kind(unit) <= 5 if self.codec == "h264" else self.kind(unit) < 32

    def is_delimiter(self, unit: bytes) -> bool:
        """Whether a unit is an access unit delimiter, which must be first."""
        return self.kind(unit) == (9 if self.codec == "h264" else 35)

    def is_reset(self, units: Iterable[bytes]) -> bool:
        """Whether no frame after this keyframe refers to a frame before it.

        HEVC's CRA counts: its leading images, which may refer back, are recognised by their times.
        """
        kinds = {self.kind(unit) for unit in units}
        if self.codec == "h264":
            return _H264_IDR in kinds
        return not kinds.isdisjoint(_HEVC_IRAP)

    def is_entry(self, units: list[bytes]) -> bool:
        """Whether decoding may begin here, and is exact from this image's time on."""
        return self.is_reset(units) or (
            self.codec == "h264" and any(map(_is_recovery_point, units))
        )

    def number_place(self, unit: bytes, bits: str) -> int:
        """The position of the id of an SPS or PPS, in bits."""
        if self.codec == "h264":
            return 32 if self.kind(unit) == _H264_SPS else 8
        return _hevc_sps_number_at(bits) if self.kind(unit) == _HEVC_SPS else 16

    def number_of_pps(self, unit: bytes) -> tuple[int, int]:
        """The id of a slice's PPS, and its position in bits. Raises ValueError."""
        bits = _bits(unescaped(unit[:_HEAD]))
        if self.codec == "hevc":
            place = 17 + (self.kind(unit) in range(16, 24))
        else:
            place = _golomb(bits, _golomb(bits, 8)[1])[1]
        return _golomb(bits, place)[0], place

    def cut_off(self, units: Iterable[bytes]) -> list[bytes]:
        """A keyframe's units, changed to begin a new sequence after another encoder's packets.

        An IDR does so. HEVC's CRA would continue the sequence before it; renamed to BLA, as the standard has it for
        spliced streams, it does not.
        """
        if self.codec == "h264":
            return list(units)
        return [
            bytes((unit[0] & 0x81 | _HEVC_BLA << 1,)) + unit[1:]
            if self.kind(unit) == _HEVC_CRA
            else unit
            for unit in units
        ]


def annex_b(units: Iterable[bytes]) -> bytes:
    """NAL units with start codes, which every muxer takes and converts to its own form."""
    return b"".join(_START + unit for unit in units)


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
    """Whether an H.264 SEI marks images as exact from this one on."""
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
    """The data behind profile and level, whose length depends on the layers."""
    layers = int(bits[20:23], 2)
    place = 24 + 96
    if layers:
        present = bits[place : place + 2 * layers]
        place += 16 + 88 * present[::2].count("1") + 8 * present[1::2].count("1")
    return place


def _bits(data: bytes) -> str:
    """The first bytes as a text of 0 and 1; ids are near the beginning."""
    head = data[:_HEAD]
    return f"{int.from_bytes(head, 'big'):0{8 * len(head)}b}"


def _golomb(bits: str, place: int) -> tuple[int, int]:
    """The Exp-Golomb number at a position, and the position behind it. Raises ValueError."""
    zeros = bits.index("1", place) - place
    end = place + 2 * zeros + 1
    return int(bits[place + zeros : end] or "0", 2) - 1, end


@dataclass(frozen=True, slots=True)
class Renumbering:
    """Gives the parameter sets of one encoder ids that another's do not have, and its slices these ids.

    One header can then hold the sets of both, as MP4 requires: its samples may not have sets of their own. All sets
    of the encoder must have the id 0, and there must be one of each kind.
    """

    nals: NalFormat
    vps: int
    sps: int
    pps: int

    @classmethod
    def away_from(cls, others: Iterable[bytes], nals: NalFormat) -> Renumbering:
        """With ids that no set in ``others`` has. Raises ValueError where ``nals`` cannot be changed."""
        kinds = [nals.kind(unit) for unit in nals.sets]
        if len(kinds) != len(set(kinds)) or any(map(nals.number, nals.sets)):
            raise ValueError("the encoder's parameter sets have unusual ids")
        taken = {(nals.kind(unit), nals.number(unit)) for unit in others}
        sps, pps = _SETS[nals.codec]

        def free(kind: int, numbers: Iterable[int]) -> int:
            found = next((number for number in numbers if (kind, number) not in taken), None)
            if found is None:
                raise ValueError("no free parameter-set id")
            return found

        most = range(15, 0, -1)
        # A PPS id from 15 to 30 takes nine bits instead of the one bit of zero: slices then grow by a whole byte,
        # and no bit behind the id moves within its byte.
        return cls(nals, free(_HEVC_VPS, most), free(sps, most), free(pps, range(15, 31)))

    @property
    def sets(self) -> tuple[bytes, ...]:
        """The parameter sets with their new ids."""
        return tuple(map(self._of_set, self.nals.sets))

    def applied(self, units: Iterable[bytes]) -> list[bytes]:
        """The NAL units of a packet with the new ids. Raises ValueError."""
        changed = []
        for unit in units:
            if self.nals.is_parameter_set(unit):
                unit = self._of_set(unit)
            elif self.nals.is_slice(unit):
                unit = self._of_slice(unit)
            changed.append(unit)
        return changed

    def _of_slice(self, unit: bytes) -> bytes:
        number, place = self.nals.number_of_pps(unit)
        if number:
            raise ValueError("a slice refers to an unknown parameter set")
        data = unescaped(unit)
        byte, bit = divmod(place, 8)
        old = f"{data[byte]:08b}"
        new = int(old[:bit] + _code(self.pps) + old[bit + 1 :], 2)
        return escaped(data[:byte] + new.to_bytes(2, "big") + data[byte + 1 :])

    def _of_set(self, unit: bytes) -> bytes:
        kind = self.nals.kind(unit)
        data = unescaped(unit)
        bits = f"{int.from_bytes(data, 'big'):0{8 * len(data)}b}"
        if kind == _HEVC_VPS and self.nals.codec == "hevc":
            return _unit(bits[:16] + f"{self.vps:04b}" + bits[20:])
        place = self.nals.number_place(unit, bits)
        if kind in (_H264_SPS, _HEVC_SPS):
            if self.nals.codec == "hevc":
                bits = bits[:16] + f"{self.vps:04b}" + bits[20:]
            return _unit(bits[:place] + _code(self.sps) + bits[place + 1 :])
        # The id of its SPS follows its own.
        return _unit(bits[:place] + _code(self.pps) + _code(self.sps) + bits[place + 2 :])


def _code(number: int) -> str:
    """The Exp-Golomb code of a number."""
    digits = f"{number + 1:b}"
    return "0" * (len(digits) - 1) + digits


def _unit(bits: str) -> bytes:
    """A NAL unit of any number of bits, with the trailing bits of NAL units."""
    bits = bits.rstrip("0")
    bits += "0" * (-len(bits) % 8)
    return escaped(int(bits, 2).to_bytes(len(bits) // 8, "big"))


def unescaped(unit: bytes) -> bytes:
    """A NAL unit without its emulation prevention bytes."""
    return unit.replace(b"\0\0\3", b"\0\0")


def escaped(unit: bytes) -> bytes:
    """The opposite of ``unescaped``."""
    return _ESCAPED.sub(b"\0\0\3", unit)
