"""Built engines on disk: an entry is a binary and a JSON sidecar with its digest.

An entry that cannot be read or does not match its sidecar is built again; an engine that cannot be written is
used without being kept. Where a folder has no locks, two processes may build the same engine; the last one is
kept.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import logging
import os
import re
import tempfile
import time
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from filelock import FileLock

from vderain.engines.store.key import EngineKey

logger = logging.getLogger(__name__)

SIDECAR_SCHEMA = 1

_OWN_FILE = re.compile(
    r"[0-9a-f]{64}\.(bin|json|lock)|vderain-.*\.tmp|timing-[0-9a-f]{16}\.bin|profile\.json"
)
_ABANDONED_S = 3600.0  # a temporary file this old belongs to no running build
_LOCK_PATIENCE_S = 900.0  # then the other process hangs, and a second build is better than waiting


@dataclass(frozen=True, slots=True)
class Built:
    """A built engine: the binary, and the self-check's results as plain JSON values."""

    blob: bytes
    check: dict[str, Any]


def cache_dir() -> Path:
    """The folder of built engines: $VDERAIN_CACHE, else the user's cache directory."""
    own = os.environ.get("VDERAIN_CACHE")
    if own:
        return Path(own).expanduser()
    base = os.environ.get("XDG_CACHE_HOME")
    return (Path(base) if base else Path.home() / ".cache") / "vderain" / "engines"


@dataclass(frozen=True, slots=True)
class Entry:
    """A built engine for listings; ``fault`` says why it cannot be used, "" where it can."""

    digest: str
    engine: str = ""
    precision: str = ""
    device: str = ""
    weights: str = ""
    format: dict[str, Any] = field(default_factory=dict)
    built: str = ""
    size_bytes: int = 0
    fault: str = ""


class EngineCache:
    """A private directory of built engines.

    Raises nothing for faults of the directory: ``fetch`` then builds, and adds a note.
    """

    def __init__(self, folder: Path | None = None) -> None:
        self._folder = folder
        self._reason = ""
        try:
            self._folder = folder or cache_dir()
            self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            self._reason = _distrust(self._folder)
        except (OSError, RuntimeError) as error:  # RuntimeError: the user has no home directory
            self._reason = _words(error)

    def fetch(
        self,
        key: EngineKey,
        build: Callable[[], Built],
        notes: list[str],
        *,
        fresh: bool = False,
    ) -> Built:
        """The engine of a key; where it is missing, one process at a time builds it.

        Raises what ``build`` raises. Adds to ``notes`` where the engine could not be kept. With ``fresh`` it is
        built and replaced even where there is an entry.
        """
        if self._folder is None or self._reason:
            notes.append(f"engine not cached: {self._folder or 'cache'}: {self._reason}")
            return build()
        found = None if fresh else self._read(key)
        if found is not None:
            return found
        with _lock(self._folder / f"{key.digest}.lock"):
            # Another process may have built it in the meantime.
            found = None if fresh else self._read(key)
            if found is not None:
                return found
            built = build()
            try:
                self._store(key, built)
            except OSError as error:
                notes.append(f"engine not cached: {self._folder}: {_words(error)}")
            return built

    def has(self, key: EngineKey) -> bool:
        """Whether there is a sound entry."""
        return self._folder is not None and not self._reason and self._read(key) is not None

    def private_path(self, name: str) -> Path | None:
        """The path of a file next to the entries; None where the directory cannot be used."""
        return self._folder / name if self._folder is not None and not self._reason else None

    def keep(self, path: Path, data: bytes) -> None:
        """Write a file next to the entries, whole or not at all; a failure is logged and otherwise ignored."""
        try:
            _write(path, data)
        except OSError as error:
            logger.warning("%s: cannot be written (%s)", path, _words(error))

    def entries(self, *, verify: bool = False) -> list[Entry]:
        """The entries, sorted by engine; ``verify`` reads every byte of them."""
        sidecars = [path for path in self._own_files() if path.suffix == ".json"]
        found = [self._entry(path, verify) for path in sidecars if path.name != "profile.json"]
        return sorted(found, key=lambda entry: (entry.engine, entry.precision, entry.digest))

    def _entry(self, path: Path, verify: bool) -> Entry:
        binary = path.with_suffix(".bin")
        try:
            sidecar = json.loads(path.read_text())
            key = json.loads(sidecar["key"])
            entry = Entry(
                digest=path.stem,
                **{name: str(key[name]) for name in ("engine", "precision", "device", "weights")},
                format=dict(key["format"]),
                built=str(sidecar["built"]),
                size_bytes=binary.stat().st_size,
            )
            if hashlib.sha256(sidecar["key"].encode()).hexdigest() != path.stem:
                return replace(entry, fault="it lies under another engine's name")
            if verify and (self._verified(path, sidecar["key"])) is None:
                return replace(entry, fault="damaged: it is not what was built")
            return entry
        except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
            return Entry(path.stem, fault=f"unreadable ({_words(error)})")

    def remove(self, digests: Collection[str] | None = None) -> int:
        """Delete all entries and vderain's other files in this directory; returns the bytes freed.

        Raises OSError where a file cannot be deleted.
        """
        freed = 0
        for path in self._own_files():
            if digests is None or path.stem in digests:
                size = path.stat().st_size
                path.unlink(missing_ok=True)
                freed += size
        return freed

    @property
    def usable(self) -> bool:
        """Whether entries can be kept, and nobody else may write them."""
        return self._folder is not None and not self._reason and os.access(self._folder, os.W_OK)

    @property
    def folder(self) -> Path | None:
        """The directory; None for a user without one."""
        return self._folder

    @property
    def size(self) -> int:
        """Size of all entries in bytes."""
        total = 0
        for path in self._own_files():
            with contextlib.suppress(OSError):
                total += path.stat().st_size
        return total

    def _own_files(self) -> list[Path]:
        try:
            files = sorted(self._folder.iterdir()) if self._folder else []
        except OSError:
            return []
        return [path for path in files if _OWN_FILE.fullmatch(path.name)]

    def _read(self, key: EngineKey) -> Built | None:
        """A sound entry, or None."""
        assert self._folder is not None
        return self._verified(self._folder / f"{key.digest}.json", key.text)

    def _verified(self, path: Path, key_text: str) -> Built | None:
        """The binary that a sidecar describes; None, with a warning, where it does not match."""
        try:
            sidecar = json.loads(path.read_text())
            if sidecar["schema"] != SIDECAR_SCHEMA or sidecar["key"] != key_text:
                raise ValueError(f"schema {sidecar['schema']}, or another key")
            blob = path.with_suffix(".bin").read_bytes()
            built = Built(blob, dict(sidecar["check"]))
            if _checksum(built) != sidecar["sha256"]:
                raise ValueError("this is not what was built")
            return built
        except FileNotFoundError:
            return None
        except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
            logger.warning("built engine %s cannot be used and is built again: %s", path, error)
            return None

    def _store(self, key: EngineKey, built: Built) -> None:
        assert self._folder is not None
        self._sweep()
        sidecar = {
            "schema": SIDECAR_SCHEMA,
            "key": key.text,
            "sha256": _checksum(built),
            "built": datetime.now(UTC).isoformat(timespec="seconds"),
            "check": built.check,
        }
        _write(self._folder / f"{key.digest}.bin", built.blob)
        # The sidecar is written last: without it, or with that of another build, there is no entry.
        _write(self._folder / f"{key.digest}.json", json.dumps(sidecar, indent=2).encode())

    def _sweep(self) -> None:
        """Remove temporary files of killed builds."""
        for path in self._own_files():
            if path.suffix == ".tmp":
                with contextlib.suppress(OSError):
                    if time.time() - path.stat().st_mtime > _ABANDONED_S:
                        path.unlink()


def _checksum(built: Built) -> str:
    """sha256 over the self-check's results and the binary."""
    digest = hashlib.sha256(json.dumps(built.check, sort_keys=True).encode())
    digest.update(built.blob)
    return digest.hexdigest()


def _write(path: Path, data: bytes) -> None:
    """Write a file so that it has its name only when it is complete and on disk."""
    descriptor, name = tempfile.mkstemp(dir=path.parent, prefix="vderain-", suffix=".tmp")
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        os.replace(name, path)
    except BaseException:
        with contextlib.suppress(OSError):
            os.unlink(name)
        raise


@contextlib.contextmanager
def _lock(path: Path) -> Iterator[None]:
    """Hold an entry's lock; continue without it where locks do not work or another process holds it too long."""
    with contextlib.ExitStack() as stack:
        with contextlib.suppress(OSError, NotImplementedError):  # its Timeout is an OSError
            stack.enter_context(FileLock(path, timeout=_LOCK_PATIENCE_S))
        yield


def _distrust(folder: Path) -> str:
    """Why binaries of a directory must not be loaded; "" where they may be."""
    if not hasattr(os, "getuid"):
        return ""
    status = folder.stat()
    if status.st_uid not in (0, os.getuid()):
        return "belongs to another user"
    return "others may write there (chmod go-w)" if status.st_mode & 0o022 else ""


def _words(error: BaseException) -> str:
    return (isinstance(error, OSError) and error.strerror) or str(error)
