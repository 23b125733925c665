"""Standard input and output for FFmpeg: readable or writable, not seekable.

PyAV calls them from inside FFmpeg, where it swallows exceptions such as an interrupt. So an interrupt ends the
stream, is kept, and is raised again by ``reraise``.
"""

from __future__ import annotations

import errno
import os
import select
import sys

from vderain.errors import SinkError, SourceError

_POLL_S = 0.1  # after which a waiting read notices ``stop``


class StandardInput:
    """Standard input; a read that waits for the writer can be ended. Raises SourceError."""

    def __init__(self) -> None:
        if sys.stdin is None:  # as after "<&-" in a shell
            raise SourceError("standard input: is closed; give it a video, or name a file")
        self._interrupt: BaseException | None = None
        self._stopped = False
        self.begun = False  # whether any data was read
        try:
            self._handle = sys.stdin.fileno()
        except (OSError, ValueError):
            raise SourceError("standard input: is no file or pipe here; name a file") from None

    def read(self, size: int) -> bytes:
        """At most ``size`` bytes, waiting for the first; none at the end."""
        try:
            data = os.read(self._handle, size) if self._wait() else b""
            self.begun = self.begun or bool(data)
            return data
        except (KeyboardInterrupt, SystemExit) as interrupt:
            self._interrupt = interrupt
            self._stopped = True
            return b""

    def stop(self) -> None:
        """End the stream, also for a read that waits; may be called from another thread."""
        self._stopped = True

    def reraise(self) -> None:
        """Raise the interrupt that came during a read, if one did."""
        if self._interrupt is not None:
            raise self._interrupt

    def _wait(self) -> bool:
        """Whether to read, with data or the end available; False once stopped."""
        while not self._stopped:
            try:
                if select.select([self._handle], [], [], _POLL_S)[0]:
                    return True
            except (OSError, ValueError):  # Windows selects sockets only
                return True
        return False


class StandardOutput:
    """Standard output. Raises SinkError."""

    def __init__(self) -> None:
        if sys.stdout is None:
            raise SinkError("standard output: is closed; give it a reader, or name a file")
        self._interrupt: BaseException | None = None

    def write(self, data: bytes) -> int:
        """Write all of ``data``; after an interrupt write nothing more, since the reader may block again."""
        try:
            self.reraise()
            return sys.stdout.buffer.write(data)
        except (KeyboardInterrupt, SystemExit) as interrupt:
            self._interrupt = interrupt
            raise OSError(errno.EINTR, "interrupted") from None

    def flush(self) -> None:
        """Write the buffered data."""
        sys.stdout.buffer.flush()

    def reraise(self) -> None:
        """Raise the interrupt that came during a write, if one did."""
        if self._interrupt is not None:
            raise self._interrupt
