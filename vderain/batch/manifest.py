"""The state of a batch: a SQLite file (write-ahead log) in the target, consistent after a kill at any moment."""

from __future__ import annotations

import json
import os
import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from vderain.batch.clips.find import Found
from vderain.errors import SinkError

State = Literal["planned", "done", "failed", "skipped"]
Kind = Literal["derain", "copy"]

_SCHEMA = 1
_DAMAGED = ("not a database", "malformed", "Could not decode")  # in SQLite's messages
_TABLES = """
CREATE TABLE IF NOT EXISTS clip (
    id INTEGER PRIMARY KEY,
    source BLOB NOT NULL UNIQUE,
    output BLOB NOT NULL,
    size_bytes INTEGER NOT NULL,
    mtime_ns INTEGER NOT NULL,
    state TEXT NOT NULL,
    attempts INTEGER NOT NULL DEFAULT 0,
    reason TEXT NOT NULL DEFAULT '',
    settings TEXT NOT NULL DEFAULT '',
    record TEXT NOT NULL DEFAULT '{}'
);
CREATE TABLE IF NOT EXISTS segment (
    clip INTEGER NOT NULL REFERENCES clip(id) ON DELETE CASCADE,
    number INTEGER NOT NULL,
    start_pts INTEGER NOT NULL,
    end_pts INTEGER NOT NULL,
    frames INTEGER NOT NULL,
    kind TEXT NOT NULL,
    record TEXT,
    PRIMARY KEY (clip, number)
);
CREATE TABLE IF NOT EXISTS joined (
    output BLOB PRIMARY KEY,
    size_bytes INTEGER NOT NULL,
    clips TEXT NOT NULL
);
"""


@dataclass(frozen=True, slots=True)
class ClipRow:
    """A clip in the manifest; ``record`` has the values of its report."""

    id: int
    source: Path
    output: Path
    size_bytes: int
    mtime_ns: int
    state: State
    attempts: int = 0
    reason: str = ""
    settings: str = ""
    record: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Segment:
    """A part of a clip between two of its keyframes.

    ``end_pts`` is the first time of the next segment. ``record`` is None until the segment is derained.
    """

    number: int
    start_pts: int
    end_pts: int
    frames: int
    kind: Kind = "derain"
    record: dict[str, Any] | None = None

    @property
    def is_done(self) -> bool:
        """Whether the segment is ready to be assembled."""
        return self.kind == "copy" or self.record is not None


@dataclass(frozen=True, slots=True)
class Joined:
    """A joined file: its size, and (id, size in bytes) of each of its clips in their order."""

    size_bytes: int
    clips: tuple[tuple[int, int], ...]


class Manifest:
    """Clips, their segments and their states.

    One process at a time: opening raises SinkError while another batch works on the same target, and where the
    file cannot be made or read. Every change is on the disk when the call returns.

    Args:
        path: the file, which is made if missing.
        copy: a file to work on instead, copied from ``path``, which stays as it is.

    """

    def __init__(self, path: Path, *, copy: Path | None = None) -> None:
        self._path = path
        if copy is not None and os.path.exists(path):
            self._copy_to(copy)
        try:
            (copy or path).parent.mkdir(parents=True, exist_ok=True)
            self._db = sqlite3.connect(copy or path, isolation_level=None, timeout=0)
        except (OSError, sqlite3.Error) as error:
            raise SinkError(f"{path}: cannot be made ({error}); check the target folder") from None
        try:
            self._db.execute("PRAGMA locking_mode=EXCLUSIVE")
            self._db.execute("PRAGMA journal_mode=WAL")
            self._db.execute("PRAGMA synchronous=FULL")
            self._db.execute("PRAGMA foreign_keys=ON")
            with self._changing():
                self._check_schema()
        except sqlite3.Error as error:
            self._db.close()
            raise self._failure(error) from None
        except BaseException:
            self._db.close()
            raise

    def close(self) -> None:
        """Close the file and release its lock."""
        self._db.close()

    def __enter__(self) -> Manifest:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def add(self, found: Found) -> ClipRow:
        """The row of a clip; a clip that changed since it was planned or done is planned again."""
        source, output = os.fsencode(found.source.absolute()), os.fsencode(found.output)
        with self._changing():
            row = self._one(
                "SELECT id, size_bytes, mtime_ns, output FROM clip WHERE source = ?", source
            )
            if row is None:
                self._db.execute(
                    "INSERT INTO clip (source, output, size_bytes, mtime_ns, state)"
                    " VALUES (?, ?, ?, ?, 'planned')",
                    (source, output, found.size_bytes, found.mtime_ns),
                )
            elif row[1:] != (found.size_bytes, found.mtime_ns, output):
                self._db.execute("DELETE FROM segment WHERE clip = ?", (row[0],))
                self._db.execute(
                    "UPDATE clip SET output = ?, size_bytes = ?, mtime_ns = ?, state = 'planned',"
                    " attempts = 0, reason = '', settings = '', record = '{}' WHERE id = ?",
                    (output, found.size_bytes, found.mtime_ns, row[0]),
                )
        (clip,) = self._select("WHERE source = ?", source)
        return clip

    def clip(self, number: int) -> ClipRow:
        """The clip with this id."""
        (clip,) = self._select("WHERE id = ?", number)
        return clip

    def clips(self) -> list[ClipRow]:
        """All clips, in the order in which they were added."""
        return self._select("ORDER BY id")

    def set_state(self, clip: int, state: State, reason: str = "", **record: Any) -> None:
        """Set a clip's state; ``record`` is merged into its record."""
        with self._changing():
            (text,) = self._one("SELECT record FROM clip WHERE id = ?", clip) or ("{}",)
            with self._reading():
                known = json.dumps({**json.loads(text), **record})
            self._db.execute(
                "UPDATE clip SET state = ?, reason = ?, record = ? WHERE id = ?",
                (state, reason, known, clip),
            )
            if state == "done":
                self._db.execute("DELETE FROM segment WHERE clip = ?", (clip,))

    def plan_again(self, clip: int, **record: Any) -> None:
        """Plan a clip from the beginning; of its record only ``record`` is kept."""
        with self._changing():
            self._db.execute("DELETE FROM segment WHERE clip = ?", (clip,))
            self._db.execute(
                "UPDATE clip SET state = 'planned', attempts = 0, reason = '', settings = '', record = ?"
                " WHERE id = ?",
                (json.dumps(record), clip),
            )

    def count_attempt(self, clip: int) -> int:
        """Count a failed attempt; returns the number of attempts."""
        with self._changing():
            self._db.execute("UPDATE clip SET attempts = attempts + 1 WHERE id = ?", (clip,))
        return self.clip(clip).attempts

    def forgive(self) -> None:
        """Plan failed clips again, with no attempts counted."""
        with self._changing():
            self._db.execute(
                "UPDATE clip SET state = 'planned', attempts = 0, reason = '' WHERE state = 'failed'"
            )

    def segments(self, clip: int) -> list[Segment]:
        """The segments of a clip in order; empty where it is not cut yet."""
        with self._reading():
            rows = self._db.execute(
                "SELECT number, start_pts, end_pts, frames, kind, record FROM segment"
                " WHERE clip = ? ORDER BY number",
                (clip,),
            )
            return [
                Segment(number, start_pts, end_pts, frames, kind, json.loads(record or "null"))
                for number, start_pts, end_pts, frames, kind, record in rows
            ]

    def cut(self, clip: int, segments: Sequence[Segment], settings: str, **record: Any) -> None:
        """Store the segments of a clip, and the settings for all of them."""
        with self._changing():
            self._db.execute("DELETE FROM segment WHERE clip = ?", (clip,))
            self._db.executemany(
                "INSERT INTO segment (clip, number, start_pts, end_pts, frames, kind)"
                " VALUES (?, ?, ?, ?, ?, ?)",
                [(clip, s.number, s.start_pts, s.end_pts, s.frames, s.kind) for s in segments],
            )
            self._db.execute(
                "UPDATE clip SET settings = ?, record = ? WHERE id = ?",
                (settings, json.dumps(record), clip),
            )

    def finish_segment(self, clip: int, number: int, record: dict[str, Any]) -> None:
        """Mark a segment as derained."""
        with self._changing():
            self._db.execute(
                "UPDATE segment SET record = ? WHERE clip = ? AND number = ?",
                (json.dumps(record), clip, number),
            )

    def discard_segment(self, clip: int, number: int) -> None:
        """Mark a segment to be derained again."""
        with self._changing():
            self._db.execute(
                "UPDATE segment SET record = NULL WHERE clip = ? AND number = ?", (clip, number)
            )

    def discard_cuts(self, clip: int) -> None:
        """Mark a clip to be cut and derained from the beginning."""
        with self._changing():
            self._db.execute("DELETE FROM segment WHERE clip = ?", (clip,))
            self._db.execute("UPDATE clip SET settings = '' WHERE id = ?", (clip,))

    def joined(self, output: Path) -> Joined | None:
        """The clips of a joined file; None where this batch has not written a file of that name."""
        row = self._one(
            "SELECT size_bytes, clips FROM joined WHERE output = ?", os.fsencode(output)
        )
        if row is None:
            return None
        return Joined(row[0], tuple((number, size) for number, size in json.loads(row[1])))

    def set_joined(self, output: Path, joined: Joined) -> None:
        """Store the clips of a joined file."""
        with self._changing():
            self._db.execute(
                "INSERT OR REPLACE INTO joined (output, size_bytes, clips) VALUES (?, ?, ?)",
                (os.fsencode(output), joined.size_bytes, json.dumps(joined.clips)),
            )

    def _copy_to(self, copy: Path) -> None:
        try:
            with (
                closing(sqlite3.connect(self._path, isolation_level=None, timeout=0)) as held,
                closing(sqlite3.connect(copy)) as db,
            ):
                held.execute("BEGIN")
                # This raises where the file is locked; backup would wait forever.
                held.execute("SELECT * FROM sqlite_master")
                held.backup(db)
        except sqlite3.Error as error:
            raise self._failure(error) from None

    def _check_schema(self) -> None:
        (version,) = self._one("PRAGMA user_version") or (0,)
        if version not in (0, _SCHEMA):
            raise SinkError(
                f"{self._path}: was written by another version of vderain; finish that batch with it,"
                " or remove the folder to begin again"
            )
        for statement in _TABLES.split(";"):
            self._db.execute(statement)
        self._db.execute(f"PRAGMA user_version = {_SCHEMA}")

    def _select(self, where: str, *values: Any) -> list[ClipRow]:
        with self._reading():
            rows = self._db.execute(
                "SELECT id, source, output, size_bytes, mtime_ns, state, attempts, reason, settings, record"
                f" FROM clip {where}",
                values,
            )
            return [
                ClipRow(
                    id=row[0],
                    source=Path(os.fsdecode(row[1])),
                    output=Path(os.fsdecode(row[2])),
                    size_bytes=row[3],
                    mtime_ns=row[4],
                    state=row[5],
                    attempts=row[6],
                    reason=row[7],
                    settings=row[8],
                    record=json.loads(row[9]),
                )
                for row in rows
            ]

    def _one(self, query: str, *values: Any) -> Any:
        with self._reading():
            return self._db.execute(query, values).fetchone()

    @contextmanager
    def _reading(self) -> Iterator[None]:
        """Turn errors of a damaged file, which may occur in any query, into SinkError."""
        try:
            yield
        except sqlite3.Error as error:
            raise self._failure(error) from None
        except (ValueError, TypeError):  # from a field that is no JSON or no text
            raise self._damaged() from None

    @contextmanager
    def _changing(self) -> Iterator[None]:
        """One transaction; it is rolled back where the disk is full."""
        try:
            self._db.execute("BEGIN IMMEDIATE")
            try:
                yield
            except BaseException:
                self._db.execute("ROLLBACK")
                raise
            self._db.execute("COMMIT")
        except sqlite3.Error as error:
            raise self._failure(error) from None

    def _failure(self, error: sqlite3.Error) -> SinkError:
        if "locked" in str(error):
            return SinkError(
                f"{self._path.parent.parent}: another batch is at work there; wait for it, or stop it"
            )
        if any(words in str(error) for words in _DAMAGED):
            return self._damaged()
        # SQLite reports some files that it may not write as "disk I/O error".
        for path in (self._path.parent, *self._path.parent.glob(f"{self._path.name}*")):
            if not os.access(path, os.W_OK):
                return SinkError(
                    f"{path}: is read-only; make it writable, and give the same command again"
                )
        return SinkError(f"{self._path}: cannot be written ({error}); is the disk full?")

    def _damaged(self) -> SinkError:
        return SinkError(
            f"{self._path}: is damaged; remove it, and outputs that are there will be kept"
        )
