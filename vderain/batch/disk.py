"""Stops a batch whose disk is full or cannot be written."""

from __future__ import annotations

import errno
import os
from pathlib import Path

from vderain.batch.clips.clip_files import free_bytes, room_for
from vderain.batch.manifest import ClipRow
from vderain.errors import SinkError


class BatchStoppedError(SinkError):
    """The whole batch must stop; finished clips and segments are kept."""


def check_space(target: Path, work: Path, clip: ClipRow) -> None:
    """Raise BatchStoppedError where the disk of the work folder may have no room for a clip."""
    needed, free = room_for(clip), free_bytes(work)
    if free < needed:
        raise BatchStoppedError(
            f"{target}: {free / 1e9:.1f} GB are free, and {clip.source.name} may need"
            f" {needed / 1e9:.1f}; make room and give the same command again"
        )


def stop_if_full(target: Path, error: BaseException) -> None:
    """Raise BatchStoppedError where an error would happen with every other clip too."""
    if isinstance(error, BatchStoppedError):
        raise error
    cause: BaseException | None = error
    while cause is not None:
        number = getattr(cause, "errno", None)  # FFmpeg's errors have one too
        if number in (errno.ENOSPC, errno.EDQUOT, errno.EROFS):
            remedy = "make it writable" if number == errno.EROFS else "make room"
            raise BatchStoppedError(
                f"{target}: {os.strerror(number)}; what is done is kept: {remedy} and"
                " give the same command again"
            ) from error
        cause = cause.__cause__ or cause.__context__
