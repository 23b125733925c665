"""The files of a clip: whether they match the manifest, the disk space they need, and how outputs get their names."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

from vderain.batch.manifest import ClipRow
from vderain.errors import SinkError, SourceError
from vderain.files import name_file

_SPACE_FACTOR = 2.5  # times a clip's size: segments and output exist at the same time
_SPARE_BYTES = 64 << 20
_TIME_STEP_NS = 2_000_000_000  # FAT keeps times in steps of two seconds


def is_as_written(target: Path, clip: ClipRow) -> bool:
    """Whether a clip's output exists with the size and time with which it was written."""
    try:
        about = (target / clip.output).stat()
    except OSError:
        return False
    expected_ns = clip.record.get("output_mtime_ns", clip.mtime_ns)
    same_time = abs(about.st_mtime_ns - expected_ns) <= _TIME_STEP_NS
    return same_time and about.st_size == clip.record.get("size_bytes")


def name_all(folder: Path, partial: Path, place: Path, target: Path, *, overwrite: bool) -> None:
    """Move a clip's sidecars, then its video, from ``folder`` to ``place``, which is made if missing.

    Without a video of that name, files named after it are leftovers of a killed attempt or a removed output,
    and are replaced. Raises SinkError for other files of these names, and where ``place`` cannot be written or
    lies outside of ``target``.
    """
    check_inside(place, target)
    try:
        place.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise _unwritable(place, error.strerror) from error
    is_left_behind = not os.path.lexists(place / partial.name)
    sidecars = [path for path in sorted(folder.iterdir()) if path != partial]
    for path in [*sidecars, partial]:
        sync(path)
        named = place / path.name
        replaces = is_left_behind and path.name.startswith(f"{partial.name}.")
        try:
            name_file(path, named, overwrite=overwrite or replaces)
        except FileExistsError:
            raise SinkError(f"{named}: was written by another program in the meantime") from None
        except OSError as error:
            raise _unwritable(place, error.strerror) from error


def check_inside(place: Path, target: Path) -> None:
    """Raise SinkError where a link leads a place of the target, which need not exist yet, out of the target."""
    real, inside = Path(os.path.realpath(place)), Path(os.path.realpath(target))
    if inside not in (real, *real.parents):
        raise SinkError(
            f"{place}: a link leads out of the target, to {real}, and nothing is written there; remove the link,"
            " or choose what it leads to as the target of a batch of its own"
        )


def check_place(place: Path, target: Path) -> None:
    """Raise SinkError where a folder, or the one it is made in, cannot be written or lies outside the target."""
    check_inside(place, target)
    there = next(folder for folder in (place, *place.parents) if os.path.lexists(folder))
    if not there.is_dir():
        raise SinkError(
            f"{there}: is in the way of a folder; remove it, then use retry_failed=True"
        )
    if not os.access(there, os.W_OK | os.X_OK):
        raise _unwritable(there, "it is read-only")


def _unwritable(place: Path, reason: str | None) -> SinkError:
    return SinkError(
        f"{place}: no file can be put there ({reason}); make it writable, then use retry_failed=True"
    )


def status_of(clip: ClipRow) -> os.stat_result:
    """The current status of a clip's source. Raises SourceError where it is gone."""
    try:
        return clip.source.stat()
    except FileNotFoundError:
        raise SourceError(f"{clip.source}: is gone since the batch was planned") from None


def room_for(clip: ClipRow) -> float:
    """Disk space that deraining a clip may take, its output included, in bytes."""
    return clip.size_bytes * _SPACE_FACTOR + _SPARE_BYTES


def free_bytes(target: Path) -> int:
    """Free bytes on the disk of a folder, which need not exist yet."""
    there = next(folder for folder in (target, *target.parents) if os.path.exists(folder))
    return shutil.disk_usage(there).free


def check_unchanged(clip: ClipRow) -> None:
    """Raise SourceError where a clip's source changed since it was planned."""
    about = status_of(clip)
    if (about.st_size, about.st_mtime_ns) != (clip.size_bytes, clip.mtime_ns):
        raise SourceError(f"{clip.source}: changed while it was derained; it must begin again")


def sync(path: Path) -> None:
    """Flush a file to the disk before the manifest relies on it."""
    with path.open("rb") as file:
        os.fsync(file.fileno())
