"""The programs of an MPEG-TS file."""

from __future__ import annotations

import os
from collections.abc import Iterator

_LOOK_BYTES = 1 << 20  # a program table comes several times a second
_SYNC = 0x47
_FORMS = ((0, 188), (4, 192), (0, 204))  # position of the sync byte, and size of a packet
_TABLE = 0  # of programs
_HEADER, _CHECKSUM, _ENTRY = 8, 4, 4  # bytes in a table


def program_losses(path: str) -> list[str]:
    """The line of a report where a local file has several programs: an output has one."""
    numbers = programs(path) if os.path.isfile(path) else []
    if len(numbers) < 2:
        return []
    return [
        f"{len(numbers)} programs of MPEG-TS ({', '.join(map(str, numbers))}): their tracks are in one, without"
        " their names"
    ]


def programs(path: str) -> list[int]:
    """Numbers of the programs in the first program table of a local MPEG-TS file; none for other files."""
    with open(path, "rb") as file:
        data = file.read(_LOOK_BYTES)
    for payload in _payloads(data):
        table = payload[1 + payload[0] :]  # behind what fills up to its beginning
        if len(table) < _HEADER or table[0] != _TABLE:
            continue
        end = min(len(table), 3 + (int.from_bytes(table[1:3], "big") & 0xFFF) - _CHECKSUM)
        entries = range(_HEADER, end - _ENTRY + 1, _ENTRY)
        numbers = [int.from_bytes(table[at : at + 2], "big") for at in entries]
        return [number for number in numbers if number]  # 0 is the network's table
    return []


def _payloads(data: bytes) -> Iterator[bytes]:
    """Payloads of packets with the number of the program table, in which a table begins."""
    for start, size in _FORMS:
        places = range(start, len(data) - size + 1, size)
        if len(places) > 1 and all(data[at] == _SYNC for at in places[:5]):
            break
    else:
        return
    for at in places:
        head = data[at : at + 188]
        begins, number = head[1] & 0x40, int.from_bytes(head[1:3], "big") & 0x1FFF
        if head[0] != _SYNC or number or not begins or not head[3] & 0x10:
            continue
        payload = head[5 + head[4] :] if head[3] & 0x20 else head[4:]
        if payload:
            yield payload
