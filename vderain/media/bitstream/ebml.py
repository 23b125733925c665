"""Elements of EBML, the binary format of Matroska and WebM."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

HEAD_BYTES = 12  # of an element: its number, up to four, and its size, up to eight


class EbmlError(ValueError):
    """Data that is no element."""


@dataclass(frozen=True, slots=True)
class Element:
    """An element in memory."""

    kind: int
    data: bytes

    @property
    def number(self) -> int:
        """Its content as a number."""
        return int.from_bytes(self.data, "big")

    def all(self, kind: int) -> list[Element]:
        """The elements of this kind in it. Raises EbmlError."""
        return [child for child in self._children() if child.kind == kind]

    def _children(self) -> Iterator[Element]:
        place = 0
        while place < len(self.data):
            kind, size, header = element_head(self.data[place : place + HEAD_BYTES])
            if size is None or place + header + size > len(self.data):
                raise EbmlError("an element does not end within its parent")
            yield Element(kind, self.data[place + header : place + header + size])
            place += header + size


def element_head(data: bytes) -> tuple[int, int | None, int]:
    """Number and size of an element, and the bytes of both; the size is None where it is unknown. Raises EbmlError."""
    kind, used = _number(data, 4, keeps_mark=True)
    size, more = _number(data[used:], 8, keeps_mark=False)
    unknown = size == (1 << 7 * more) - 1
    return kind, None if unknown else size, used + more


def _number(data: bytes, longest: int, *, keeps_mark: bool) -> tuple[int, int]:
    """A number whose leading zeros give its length, and that length; ``keeps_mark`` keeps the one after the zeros."""
    length = 9 - data[0].bit_length() if data and data[0] else 9
    if length > longest or length > len(data):
        raise EbmlError("no element")
    value = int.from_bytes(data[:length], "big")
    return value if keeps_mark else value & ((1 << 7 * length) - 1), length
