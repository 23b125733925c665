"""Output files: checked first, written under a hidden name, named when complete."""

from __future__ import annotations

import errno
import os
import re
import secrets
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from vderain.errors import SinkError, SourceError

_HIDDEN = re.compile(r"\.vderain-(\d+)-[0-9a-f]{8}\.part(\.[^.]*)?")
LONGEST_NAME_BYTES = 255  # of most file systems
_LEFT_ALONE_S = 600  # a process of another machine may still write younger files


def refuse_name(path: str, error: type[SourceError] | type[SinkError]) -> None:
    """Raise ``error`` for a name that no file can have.

    pathlib takes an empty name for the current folder, and FFmpeg ends a name at a NUL byte.
    """
    what = "input" if error is SourceError else "output"
    if not path:
        raise error(f"the name of the {what} is empty; name a file or a folder")
    if "\0" in path:
        raise error(f"{path!r}: the name of the {what} holds a NUL byte; give it another name")


def hidden_name(extension: str = "") -> str:
    """A name for unfinished output; short, since the output's own may have the greatest length."""
    return f".vderain-{os.getpid()}-{secrets.token_hex(4)}.part{extension}"


def fitted_name(name: str, ending: str, *, spare: int = 0) -> str:
    """``name`` with ``ending``, shortened where a file system would not take both and ``spare`` bytes more."""
    while name and len(os.fsencode(name + ending)) + spare > LONGEST_NAME_BYTES:
        name = name[:-1]  # whole characters: other programs cannot read half of one
    return name + ending


def sweep(folder: Path) -> None:
    """Remove files of killed runs from a folder: hidden names of ended processes, older than ten minutes."""
    with suppress(OSError):
        for entry in list(folder.iterdir()):
            match = _HIDDEN.fullmatch(entry.name)
            if match is None or _lives(int(match[1])):
                continue
            with suppress(OSError):
                if time.time() - entry.lstat().st_mtime < _LEFT_ALONE_S:
                    continue
                if entry.is_dir() and not entry.is_symlink():
                    shutil.rmtree(entry, ignore_errors=True)
                else:
                    entry.unlink()


def _lives(pid: int) -> bool:
    """Whether a process runs; on Windows, where asking would end it, always True."""
    if os.name != "posix":
        return True
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except (OSError, OverflowError):
        return True
    return True


def name_file(partial: Path, path: Path, *, overwrite: bool) -> None:
    """Give a complete file its name. Raises OSError, FileExistsError only without ``overwrite``."""
    if not overwrite:
        try:
            os.link(partial, path)
        except FileExistsError:
            raise
        except OSError:  # this file system has no links
            if os.path.lexists(path):
                raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST)) from None
        else:
            partial.unlink()
            return
    os.replace(partial, path)


@contextmanager
def looking_at(path: Path) -> Iterator[None]:
    """Turn the system's error about a name that it cannot look up into a SinkError."""
    try:
        yield
    except OSError as error:
        raise SinkError(
            f"{path}: cannot be the output: {error.strerror}; choose another name"
        ) from error


def write_whole(path: Path, data: bytes) -> None:
    """Write a file, which gets its name, and replaces an older one, when it is complete. Raises OSError."""
    partial = path.with_name(hidden_name(path.suffix))
    try:
        partial.write_bytes(data)
        os.replace(partial, path)
    except BaseException:
        with suppress(OSError):
            partial.unlink(missing_ok=True)
        raise


@contextmanager
def folder_for_work(path: Path) -> Iterator[None]:
    """Make a folder; remove it again where the block fails and leaves it empty. Raises SinkError."""
    made = not path.exists()
    with looking_at(path):
        path.mkdir(parents=True, exist_ok=True)
    try:
        yield
    except BaseException:
        if made:
            with suppress(OSError):
                path.rmdir()
        raise


def require_folder(path: Path, folder: Path) -> None:
    """Raise SinkError where the folder of an output at ``path`` is missing."""
    if not folder.is_dir():
        raise SinkError(f"{path}: the folder {folder} does not exist; create it first")


def require_permission(path: Path, folder: Path) -> None:
    """Raise SinkError where the folder of an output at ``path`` may not be written."""
    if not os.access(folder, os.W_OK | os.X_OK):
        raise SinkError(f"{path}: no permission to write into the folder {folder}")


def refuse_input(path: Path, source: str) -> None:
    """Raise SinkError where an output is the input ``source``, also under another name."""
    if path.exists() and os.path.exists(source) and path.samefile(source):
        raise SinkError(f"{path}: is the input itself; choose another output")


class Destination:
    """A file that gets its name only when it is complete.

    ``partial`` is a hidden name in the same folder. A killed run leaves that file behind; a later run, which has
    another name, removes it.
    """

    def __init__(self, path: str) -> None:
        refuse_name(path, SinkError)
        self.path = Path(path)
        self.partial = self.path.parent / hidden_name(self.path.suffix)
        self._overwrite = False

    def check(self, source: str, *, overwrite: bool) -> None:
        """Raise SinkError where the output cannot be written, is the input, or exists already."""
        self._overwrite = overwrite
        folder = self.path.parent
        with looking_at(self.path):
            require_folder(self.path, folder)
            if self.path.is_dir():
                raise SinkError(f"{self.path}: is a folder; name a file in it")
            exists = self.path.exists()
            is_dangling = not exists and os.path.lexists(self.path)
            refuse_input(self.path, source)
        if is_dangling and not overwrite:
            raise SinkError(
                f"{self.path}: is a link to a file that does not exist; remove it, use overwrite=True to replace"
                " it, or choose another name"
            )
        if exists and not overwrite:
            raise SinkError(f"{self.path}: exists already; use overwrite=True to replace it")
        require_permission(self.path, folder)
        sweep(folder)

    def publish(self) -> None:
        """Flush the partial file to the disk and give it its name."""
        try:
            with open(self.partial, "rb") as file:
                os.fsync(file.fileno())
            name_file(self.partial, self.path, overwrite=self._overwrite)
        except FileExistsError as error:
            raise SinkError(
                f"{self.path}: was written by another program in the meantime; use overwrite=True to"
                " replace it, or another name"
            ) from error
        except OSError as error:
            raise SinkError(f"{self.path}: cannot be completed: {error.strerror}") from error

    def discard(self) -> None:
        """Remove the partial file, if there is one and it can be removed."""
        with suppress(OSError):
            self.partial.unlink(missing_ok=True)
