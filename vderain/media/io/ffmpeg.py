"""Which FFmpeg came with PyAV."""

from __future__ import annotations

import av


def ffmpeg_version() -> str:
    """The version of the FFmpeg libraries that PyAV is linked with."""
    return str(av.ffmpeg_version_info)
