"""Standard output and error that show control characters instead of obeying them: names come from strangers."""

from __future__ import annotations

import io
import re
from typing import TextIO

# Terminals take C0 and C1 codes for commands; the others reverse the order of what is read.
_CONTROL = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u2028-\u202e\u2066-\u2069]")


def printable(text: str) -> str:
    r"""The text with control characters as ``\u001b``, which JSON reads back; line breaks and tabs stay.

    So does a carriage return at the beginning, by which a progress bar draws over itself.
    """
    first = text[:1] if text.startswith("\r") else ""
    return first + _CONTROL.sub(lambda found: f"\\u{ord(found[0]):04x}", text[len(first) :])


def one_line(text: str) -> str:
    """The text with line breaks shown: a name cannot add a line of its own."""
    return text.replace("\n", "\\n")


class PrintableText(io.TextIOWrapper):
    """A text stream that writes ``printable`` text, also characters that its encoding lacks."""

    @classmethod
    def over(cls, stream: TextIO) -> TextIO:
        """The same stream, made so; any other than a plain text stream stays as it is."""
        if not isinstance(stream, io.TextIOWrapper):
            return stream
        stream.flush()
        return cls(
            stream.buffer,
            encoding=stream.encoding,
            errors="backslashreplace",  # for file names that are not UTF-8
            line_buffering=stream.line_buffering,
            write_through=stream.write_through,
        )

    def write(self, text: str) -> int:
        """Write; returns the length of ``text``."""
        super().write(printable(text))
        return len(text)
