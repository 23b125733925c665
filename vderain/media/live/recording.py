"""A recording in chunks: a complete file every few minutes, so that a crash damages none of them."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import IO, Any

import av

from vderain.errors import SinkError
from vderain.files import name_file
from vderain.media.live.muxed import Muxed, reason_of
from vderain.media.live.types import EncodedPacket, Streams

try:
    import fcntl
except ImportError:  # on Windows chunks of a crashed process keep their temporary name
    fcntl = None  # type: ignore[assignment]  # a module elsewhere

_PART = ".part"
_INTERLEAVE = {"max_interleave_delta": "500000"}  # microseconds that sound waits for a frame
# Extension -> FFmpeg's muxer and its options. MP4: fragments while it is written, so that those on the disk play,
# and a plain file when closed. Matroska and MPEG-TS play as far as they are written.
RECORDINGS: dict[str, tuple[str, dict[str, str]]] = {
    ".mp4": ("mp4", {"movflags": "hybrid_fragmented+frag_keyframe", **_INTERLEAVE}),
    ".mkv": ("matroska", _INTERLEAVE),
    ".ts": ("mpegts", _INTERLEAVE),
}


class RecordingOutlet:
    """``Outlet`` that writes ``<prefix><date>-<time><suffix>`` into a folder, a new file every ``length_s``.

    ``suffix`` is a key of RECORDINGS. A chunk is named ``....part`` until it is complete. A chunk that a killed
    process left is renamed when the next recording into that folder begins: it plays up to its last keyframe.
    """

    is_network = False

    def __init__(
        self,
        folder: Path,
        prefix: str,
        length_s: float,
        now: Callable[[], float] = time.time,
        *,
        suffix: str = ".mp4",
    ) -> None:
        self.confirmed = False
        self.name = str(folder / f"{prefix}*{suffix}")
        self._suffix = suffix
        self._folder = folder
        self._prefix = prefix
        self._length_s = length_s
        self._now = now
        self._notes: dict[str, None] = {}
        self._streams: Streams | None = None
        self._file: IO[bytes] | None = None
        self._muxed: Muxed | None = None
        self._began_s = 0.0
        self.segments: list[Path] = []

    @property
    def notes(self) -> list[str]:
        """Changes of representation, and recovered chunks."""
        return list(self._notes)

    def open(self, streams: Streams) -> None:
        """Make the folder, rename chunks of a crashed process, and wait for a keyframe."""
        self.close()
        self.confirmed = False
        try:
            self._folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise SinkError(f"{self.name}: {error.strerror}") from None
        if self._streams is None:
            for path in recover(self._folder):
                self._notes[f"{path}: recovered from a recording that was cut off"] = None
        self._streams = streams

    def write(self, packet: EncodedPacket) -> None:
        """Write one packet; a keyframe after ``length_s`` begins a new chunk."""
        try:
            if packet.kind == "video" and packet.is_key:
                if self._muxed is not None and packet.time_s - self._began_s >= self._length_s:
                    self._complete()
                if self._muxed is None:
                    self._begin(packet.time_s)
            if self._muxed is not None:
                self._muxed.write(packet)
        except (av.FFmpegError, OSError) as error:
            raise SinkError(f"{self.name}: {reason_of(error)}") from None

    def close(self) -> None:
        """Complete the chunk. Raises SinkError where that fails; data on the disk is kept."""
        try:
            self._complete()
        except (av.FFmpegError, OSError) as error:
            raise SinkError(f"{self.name}: {reason_of(error)}") from None

    def finish(self) -> None:
        """Do nothing: there is nothing to complete."""

    def _begin(self, time_s: float) -> None:
        assert self._streams is not None
        path = self._free_name()
        self._file = open(path.with_name(path.name + _PART), "xb")  # noqa: SIM115  # closed with its chunk
        _lock(self._file)
        muxer, options = RECORDINGS[self._suffix]
        self._muxed = Muxed(self._file, muxer, self._streams, options)
        self.confirmed = True
        if self._muxed.note:
            self._notes[f"{self.name}: {self._muxed.note}"] = None
        self._began_s = time_s

    def _complete(self) -> None:
        muxed, file = self._muxed, self._file
        self._muxed = self._file = None
        if file is None:
            return
        try:
            if muxed is not None:
                muxed.close()
            file.flush()
            os.fsync(file.fileno())
        finally:
            file.close()
        partial = Path(file.name)
        path = partial.with_name(partial.name.removesuffix(_PART))
        name_file(partial, path, overwrite=False)
        self.segments.append(path)

    def _free_name(self) -> Path:
        stamp = time.strftime("%Y%m%d-%H%M%S", time.localtime(self._now()))
        for number in range(1000):
            suffix = f"-{number + 1}" if number else ""
            path = self._folder / f"{self._prefix}{stamp}{suffix}{self._suffix}"
            if not path.exists() and not path.with_name(path.name + _PART).exists():
                return path
        raise SinkError(f"{self._folder}: holds a thousand recordings of one second")


def recover(folder: Path) -> list[Path]:
    """Rename chunks of killed processes where they hold images; returns their new names."""
    recovered = []
    left = (path for suffix in RECORDINGS for path in folder.glob(f"*{suffix}{_PART}"))
    for partial in sorted(left) if fcntl is not None else ():
        with suppress(OSError), partial.open("rb") as file:
            if not _lock(file) or not _plays(partial):
                continue
            path = partial.with_name(partial.name.removesuffix(_PART))
            name_file(partial, path, overwrite=False)
            recovered.append(path)
    return recovered


def _lock(file: IO[Any]) -> bool:
    """Lock a chunk that is being written; False where another process holds it."""
    if fcntl is None:
        return True
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return False
    return True


def _plays(path: Path) -> bool:
    try:
        with av.open(f"file:{path}") as container:
            return next(container.decode(video=0), None) is not None
    except (av.FFmpegError, OSError, IndexError):
        return False
