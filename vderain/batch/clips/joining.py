"""Joins the clips of a finished batch that are one unbroken recording into one file."""

from __future__ import annotations

import os
from collections.abc import Callable, Collection, Sequence
from contextlib import suppress
from datetime import datetime
from itertools import pairwise
from pathlib import Path

from vderain.batch.clips.clip_files import check_inside
from vderain.batch.clips.find import Found
from vderain.batch.clips.series import read_name, series_of
from vderain.batch.manifest import ClipRow, Joined, Manifest
from vderain.errors import VderainError
from vderain.files import fitted_name
from vderain.media.edit.join import join

_TOUCH_S = 3.0  # names have whole seconds, and cameras pause between two clips
_JOINED = "-joined"


def join_series(
    manifest: Manifest,
    target: Path,
    on_event: Callable[[ClipRow, str], None],
    replaced: Collection[int] = (),
) -> bool:
    """Write each unbroken series of derained clips as one file next to them, where it is missing.

    An existing file is replaced where the series has other clips now or holds a clip of ``replaced``. A file
    made or modified by others is replaced only with a clip of ``replaced``; otherwise it is reported. Returns
    whether all files were written; those that were not are reported. The clips stay.
    """
    whole = True
    for series in joinable(manifest.clips()):
        first = series[0]
        name = joined_name(first.output)
        clips = tuple((clip.id, int(clip.record.get("size_bytes", 0))) for clip in series)
        known = manifest.joined(name)
        stale = any(clip.id in replaced for clip in series)
        if (target / name).exists() and not stale:
            if known is None:
                on_event(
                    first,
                    f"{name} was there before and is left alone; use overwrite=True, or remove it",
                )
            if known is None or known.clips == clips:
                continue
            if (target / name).stat().st_size != known.size_bytes:
                on_event(
                    first,
                    f"{name} lacks clips and was modified since it was written; use overwrite=True, or remove it",
                )
                whole = False
                continue
            stale = True
        whole = _join(manifest, target, series, clips, on_event, overwrite=stale) and whole
    return whole


def _join(
    manifest: Manifest,
    target: Path,
    series: list[ClipRow],
    clips: tuple[tuple[int, int], ...],
    on_event: Callable[[ClipRow, str], None],
    *,
    overwrite: bool,
) -> bool:
    """Join a series and record its clips; returns whether all of it was written without loss."""
    first = series[0]
    name = joined_name(first.output)
    parts = [str(target / clip.output) for clip in series]
    try:
        check_inside((target / name).parent, target)
        report = join(parts, str(target / name), overwrite=overwrite)
    except VderainError as error:
        on_event(first, f"not joined with {len(series) - 1} clips after it: {error}")
        return False
    with suppress(OSError):
        # The end of the recording, as a camera that writes one file leaves it.
        os.utime(target / name, ns=(series[-1].mtime_ns, series[-1].mtime_ns))
    manifest.set_joined(name, Joined((target / name).stat().st_size, clips))
    on_event(first, "; ".join([f"joined with {len(series) - 1} after it", *report.losses]))
    return not report.losses


def joinable(clips: Sequence[ClipRow]) -> list[list[ClipRow]]:
    """Lists of two or more clips that are one recording, in its order.

    Only finished clips count; a missing one ends a list. Clips with dated names touch where one begins within
    three seconds of the end of the one before. For others the chapter or number must be the next one. Plain
    numbers count separate recordings too, so these files must not have been written further apart than the
    second one lasts.
    """
    done = {clip.output: clip for clip in clips if clip.state == "done"}
    found = [Found(c.source, c.output, c.size_bytes, c.mtime_ns) for c in done.values()]
    joined = []
    for series in series_of(found):
        run = [done[series[0].output]]
        for before, after in pairwise(done[each.output] for each in series):
            if not _touch(before, after):
                joined.append(run)
                run = []
            run.append(after)
        joined.append(run)
    return [run for run in joined if len(run) > 1]


def joined_name(first_output: Path) -> Path:
    """The path of a joined file, next to its first clip."""
    return first_output.with_name(fitted_name(first_output.stem, _JOINED + first_output.suffix))


def _touch(before: ClipRow, after: ClipRow) -> bool:
    """Whether ``after`` begins where ``before`` ends; both belong to one series."""
    first, second = read_name(before.output), read_name(after.output)
    if first is None or second is None:
        return False
    if first.is_dated:
        begin, following = _moment(first.moment), _moment(second.moment)
        lasts_s = before.record.get("duration_s")
        if begin is None or following is None or not lasts_s:
            return False
        return abs((following - begin).total_seconds() - float(lasts_s)) <= _TOUCH_S
    if int(second.moment) != int(first.moment) + 1:
        return False
    if len(first.moment) <= 2:  # chapters of one recording
        return True
    apart_s = (after.mtime_ns - before.mtime_ns) / 1e9
    lasts_s = float(after.record.get("duration_s") or 0.0)
    return apart_s <= lasts_s + _TOUCH_S


def _moment(digits: str) -> datetime | None:
    """The moment of a name; None for an impossible date."""
    try:
        return datetime.strptime(digits, "%Y%m%d%H%M%S")
    except ValueError:
        return None
