"""Finds the clips of a finished batch that are one unbroken recording, and names the joined file."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from itertools import pairwise
from pathlib import Path

from vderain.batch.clips.find import Found
from vderain.batch.clips.series import read_name, series_of
from vderain.batch.manifest import ClipRow
from vderain.files import fitted_name

_TOUCH_S = 3.0  # names have whole seconds, and cameras pause between two clips
_JOINED = "-joined"


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
