"""The programs of an MPEG-TS file, and the name of the only one, which PyAV does not show."""

from __future__ import annotations

import os
from collections.abc import Iterator

_LOOK_BYTES = 1 << 20  # a program table comes several times a second
_SYNC = 0x47
_FORMS = ((0, 188), (4, 192), (0, 204))  # position of the sync byte, and size of a packet
_TABLE = 0  # of programs
_SERVICES = 0x11  # number of the packets that name services
_SERVICE_TABLE = 0x42
_SERVICE = 0x48  # descriptor with a name
_SERVICE_HEADER, _SERVICE_ENTRY = 11, 5  # bytes in the table of services
_UTF8 = 0x15  # before a text; other numbers below 32 are those of other alphabets
_WRITER = {"service_name": "Service01", "service_provider": "FFmpeg"}  # where nobody gave a name
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
    for payload in _payloads(data, _TABLE):
        table = payload[1 + payload[0] :]  # behind what fills up to its beginning
        if len(table) < _HEADER or table[0] != _TABLE:
            continue
        end = min(len(table), 3 + (int.from_bytes(table[1:3], "big") & 0xFFF) - _CHECKSUM)
        entries = range(_HEADER, end - _ENTRY + 1, _ENTRY)
        numbers = [int.from_bytes(table[at : at + 2], "big") for at in entries]
        return [number for number in numbers if number]  # 0 is the network's table
    return []


def service_tags(path: str) -> dict[str, str]:
    """Name and provider of the program of a local MPEG-TS file, as tags; none for several programs and other files."""
    if not os.path.isfile(path):
        return {}
    with open(path, "rb") as file:
        data = file.read(_LOOK_BYTES)
    for payload in _payloads(data, _SERVICES):
        table = payload[1 + payload[0] :]
        if len(table) < _SERVICE_HEADER or table[0] != _SERVICE_TABLE:
            continue
        end = 3 + (int.from_bytes(table[1:3], "big") & 0xFFF) - _CHECKSUM
        services = list(_services(table[_SERVICE_HEADER:end]))
        tags = services[0] if len(services) == 1 and end <= len(table) else {}
        return {key: text for key, text in tags.items() if text and text != _WRITER[key]}
    return {}


def _services(entries: bytes) -> Iterator[dict[str, str]]:
    while len(entries) >= _SERVICE_ENTRY:
        end = _SERVICE_ENTRY + (int.from_bytes(entries[3:5], "big") & 0xFFF)
        yield _named(entries[_SERVICE_ENTRY:end])
        entries = entries[end:]


def _named(descriptors: bytes) -> dict[str, str]:
    while len(descriptors) >= 2:
        kind, size = descriptors[0], descriptors[1]
        content, descriptors = descriptors[2 : 2 + size], descriptors[2 + size :]
        if kind == _SERVICE and len(content) >= 2:
            provider, rest = content[2 : 2 + content[1]], content[2 + content[1] :]
            return {"service_name": _text(rest[1:]), "service_provider": _text(provider)}
    return {}


def _text(data: bytes) -> str:
    if not data or data[0] == _UTF8:
        return data[1:].decode("utf-8", "replace")
    if data[0] < 32:
        return data[1:].decode("latin-1")
    try:
        return data.decode()
    except UnicodeDecodeError:
        return data.decode("latin-1")


def _payloads(data: bytes, wanted: int) -> Iterator[bytes]:
    """Payloads of packets of this number in which a table begins."""
    for start, size in _FORMS:
        places = range(start, len(data) - size + 1, size)
        if len(places) > 1 and all(data[at] == _SYNC for at in places[:5]):
            break
    else:
        return
    for at in places:
        head = data[at : at + 188]
        begins, number = head[1] & 0x40, int.from_bytes(head[1:3], "big") & 0x1FFF
        if head[0] != _SYNC or number != wanted or not begins or not head[3] & 0x10:
            continue
        payload = head[5 + head[4] :] if head[3] & 0x20 else head[4:]
        if payload:
            yield payload
