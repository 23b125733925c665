"""The place of an output: checked first, filled under a hidden name, named when complete."""

from __future__ import annotations

import os
from pathlib import Path

from vderain.errors import SinkError


class Destination:
    """A file that gets its name only when it is complete.

    ``partial`` is a hidden name in the same folder, which a crashed run may leave behind; the next
    run has another one, or overwrites it.
    """

    def __init__(self, path: str) -> None:
        self.path = Path(path)
        self.partial = self.path.with_name(
            f".{self.path.stem}.{os.getpid()}.part{self.path.suffix}"
        )

    def check(self, source: str, *, overwrite: bool) -> None:
        """Raise SinkError where the output cannot be written, is the input, or exists already."""
        folder = self.path.parent
        if not folder.is_dir():
            raise SinkError(f"{self.path}: the folder {folder} does not exist; create it first")
        if self.path.is_dir():
            raise SinkError(f"{self.path}: is a folder; name a file in it")
        if self.path.exists() and os.path.exists(source) and self.path.samefile(source):
            raise SinkError(f"{self.path}: is the input itself; choose another output")
        if self.path.exists() and not overwrite:
            raise SinkError(f"{self.path}: exists already; use --overwrite to replace it")
        if not os.access(folder, os.W_OK | os.X_OK):
            raise SinkError(f"{self.path}: no permission to write into the folder {folder}")

    def publish(self) -> None:
        """Flush the partial file to the disk and give it its name."""
        try:
            with open(self.partial, "rb") as file:
                os.fsync(file.fileno())
            os.replace(self.partial, self.path)
        except OSError as error:
            raise SinkError(f"{self.path}: cannot be completed: {error.strerror}") from error

    def discard(self) -> None:
        """Remove the partial file, if there is one."""
        self.partial.unlink(missing_ok=True)
