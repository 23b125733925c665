"""The version of FFmpeg in PyAV, and FFmpeg's messages on failures."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence

import av
import av.logging

from vderain.media.io.urls import redact

_MOST_LINES = 3


def ffmpeg_version() -> str:
    """The version of the FFmpeg libraries that PyAV is linked with."""
    return str(av.ffmpeg_version_info)


@contextlib.contextmanager
def heard() -> Iterator[list[tuple[int, str, str]]]:
    """FFmpeg's errors of this thread within the block, (level, origin, text) each; for short blocks only."""
    before, skips = av.logging.get_level(), av.logging.get_skip_repeated()
    av.logging.set_level(av.logging.ERROR)
    av.logging.set_skip_repeated(False)  # otherwise a second failure would have no message
    try:
        with av.logging.Capture() as words:
            yield words
    finally:
        av.logging.set_level(before)
        av.logging.set_skip_repeated(skips)


def said(words: Sequence[tuple[int, str, str]], otherwise: str) -> str:
    """FFmpeg's last messages in one line, without passwords; ``otherwise`` where there are none."""
    lines = dict.fromkeys(line.strip() for _, _, line in words if line.strip())
    return redact("; ".join([*lines][-_MOST_LINES:])) or otherwise
