"""Collects and writes the report of a batch: report.html and report.json."""

from __future__ import annotations

import hashlib
import json
import math
import os
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np

from vderain import __version__
from vderain.batch.clips.clip_files import check_inside
from vderain.batch.manifest import ClipRow
from vderain.batch.rain.detector import RainTimeline
from vderain.batch.report.page import page_of
from vderain.batch.report.timeline import timeline_svg
from vderain.errors import SinkError, VderainError
from vderain.files import sweep, write_whole

IMAGES_FOLDER = "report-images"
SCHEMA = 1

Images = Callable[[str, str, float], tuple[bytes, bytes]]
"""Makes JPEG files of a moment, in seconds from the beginning, of two videos; raises VderainError."""


@dataclass(frozen=True, slots=True)
class Rain:
    """Rain of one clip: the share of its wet frames, and the moment of most rain."""

    wet_share: float
    wet_spans_s: list[tuple[float, float]]
    peak_at_s: float | None
    peak_score: float | None


@dataclass(frozen=True, slots=True)
class ClipFacts:
    """One clip of the report; unknown values are None. Paths are relative to the report."""

    source: str
    output: str
    state: str
    reason: str
    attempts: int
    source_bytes: int
    output_bytes: int | None = None
    duration_s: float | None = None
    frames: int | None = None
    frames_copied: int = 0
    seconds: float | None = None
    frames_per_s: float | None = None
    engines: list[str] = field(default_factory=list)
    source_codec: str = ""
    not_copied: str = ""
    losses: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    tracks_copied: list[str] = field(default_factory=list)
    rain: Rain | None = None
    link: str = ""
    before: str = ""
    after: str = ""
    timeline: str = ""


@dataclass(frozen=True, slots=True)
class Totals:
    """Sums over the clips; frames and times are those of finished clips.

    ``work_s`` is the time spent on segments, in all runs and on all machines; ``frames_per_s`` and
    ``times_real_time`` refer to it. ``run_s`` is the duration of the last run, None until it is over.
    """

    clips: int
    done: int
    with_losses: int
    failed: int
    skipped: int
    waiting: int
    frames: int
    frames_copied: int
    duration_s: float
    work_s: float
    run_s: float | None
    frames_per_s: float | None
    times_real_time: float | None
    source_bytes: int
    output_bytes: int


def write_report(
    folder: Path,
    target: Path,
    clips: Sequence[ClipRow],
    *,
    seconds: float | None = None,
    images: Images | None = None,
    spell: Callable[[str], str] = str,
) -> Totals:
    """Write report.json and report.html of a batch into a folder, replacing older ones.

    Images before and after, and timelines of rain, are files in a folder next to them. They are made once for
    each clip, so that writing a report again is cheap. An image that cannot be made is left out.

    Args:
        folder: where the report goes, which must exist; usually the target.
        target: the folder that outputs are relative to.
        clips: all clips of the manifest.
        seconds: duration of the run.
        images: makes thumbnails; None for those of ``vderain.media.before_after``.
        spell: spells option names in reasons, losses and notes as the reader of the report knows them.

    Raises SinkError where the report cannot be written.

    """
    if images is None:
        from vderain.media.before_after import before_and_after

        images = before_and_after
    place = folder / IMAGES_FOLDER
    check_inside(place, folder)
    try:
        place.mkdir(exist_ok=True)
        known = _known(folder)
        facts = [_facts(clip, folder, target, images, known, spell) for clip in clips]
        totals = _totals(facts, seconds)
        written = datetime.now(UTC).isoformat(timespec="seconds")
        report = {
            "schema": SCHEMA, "vderain": __version__, "written": written, "target": str(target),
            "totals": asdict(totals), "clips": [asdict(fact) for fact in facts],
        }  # fmt: skip
        write_whole(
            folder / "report.json", json.dumps(report, indent=1, allow_nan=False).encode() + b"\n"
        )
        page = page_of(totals, facts, target=str(target), written=written)
        write_whole(folder / "report.html", page.encode("utf-8", "backslashreplace"))
        _clear(place, {name for fact in facts for name in (fact.before, fact.after, fact.timeline)})
        sweep(folder)
    except OSError as error:
        raise SinkError(f"{folder}: the report cannot be written ({error.strerror})") from error
    return totals


def _facts(
    clip: ClipRow,
    folder: Path,
    target: Path,
    images: Images,
    known: dict[str, Rain],
    spell: Callable[[str], str],
) -> ClipFacts:
    record, done = clip.record, clip.state == "done"
    rain, drawing = _rain_of(clip, folder, known)
    duration_s = record.get("duration_s")
    files = {}
    if done:
        peak_s = rain.peak_at_s if rain is not None else None
        at_s = peak_s if peak_s is not None else (duration_s or 0.0) / 2
        files = _images(clip, folder, target, at_s, images)
    seconds, frames = record.get("seconds"), record.get("frames")
    derained = (frames or 0) - record.get("frames_copied", 0)
    return ClipFacts(
        source=str(clip.source),
        output=str(clip.output),
        state=clip.state,
        reason=spell(clip.reason),
        attempts=clip.attempts,
        source_bytes=clip.size_bytes,
        output_bytes=record.get("size_bytes"),
        duration_s=duration_s,
        frames=frames,
        frames_copied=record.get("frames_copied", 0),
        seconds=seconds,
        frames_per_s=round(derained / seconds, 2) if done and seconds else None,
        engines=record.get("engines", []),
        source_codec=record.get("codec", ""),
        not_copied=spell(record.get("not_copied") or ""),
        losses=[spell(loss) for loss in record.get("losses", [])] if done else [],
        notes=[spell(note) for note in record.get("notes", [])],
        tracks_copied=record.get("tracks_copied", []),
        rain=rain,
        link=os.path.relpath(target / clip.output, folder) if done else "",
        timeline=drawing,
        **files,
    )


def _timeline(record: dict[str, Any]) -> RainTimeline | None:
    try:
        timeline = RainTimeline.from_dict(record["rain"]) if record.get("rain") else None
    except VderainError:
        return None
    return timeline if timeline is not None and timeline.pts else None


def _rain(timeline: RainTimeline) -> Rain:
    first, unit = timeline.pts[0], timeline.time_base
    spans = [(_since(a, first, unit), _since(b, first, unit)) for a, b in timeline.wet_spans()]
    scores = timeline.smoothed()
    share = round(timeline.wet_share(), 4)
    if not np.isfinite(scores).any():
        return Rain(share, spans, None, None)
    peak = int(np.nanargmax(np.where(np.isfinite(scores), scores, np.nan)))
    return Rain(
        share, spans, _since(timeline.pts[peak], first, unit), round(float(scores[peak]), 4)
    )


def _since(pts: int, first: int, unit: Fraction) -> float:
    return round(float((pts - first) * unit), 3)


def _images(
    clip: ClipRow, folder: Path, target: Path, at_s: float, images: Images
) -> dict[str, str]:
    """The files before and after; made where they are missing."""
    stem = f"{IMAGES_FOLDER}/{clip.id}-{_digest(clip, at_s)}"
    files = {name: f"{stem}-{name}.jpg" for name in ("before", "after")}
    if all((folder / file).exists() for file in files.values()):
        return files
    try:
        made = images(str(clip.source), str(target / clip.output), at_s)
    except VderainError:
        return {}
    for file, data in zip(files.values(), made, strict=True):
        write_whole(folder / file, data)
    return files


def _rain_of(clip: ClipRow, folder: Path, known: dict[str, Rain]) -> tuple[Rain | None, str]:
    """A clip's rain and the file of its timeline, from the last report where nothing changed."""
    if not clip.record.get("rain"):
        return None, ""
    copied = [(int(start), int(end)) for start, end in clip.record.get("copied", ())]
    file = f"{IMAGES_FOLDER}/{clip.id}-{_digest(clip, copied)}-rain.svg"
    if file in known and (folder / file).exists():
        return known[file], file
    timeline = _timeline(clip.record)
    if timeline is None:
        return None, ""
    duration_s = clip.record.get("duration_s") or timeline.duration_s
    svg = timeline_svg(timeline, copied, duration_s)
    write_whole(folder / file, svg.encode("utf-8", "backslashreplace"))
    return _rain(timeline), file


def _known(folder: Path) -> dict[str, Rain]:
    """The rain in the previous report, by the files of timelines."""
    try:
        clips = json.loads((folder / "report.json").read_bytes())["clips"]
        return {clip["timeline"]: Rain(**clip["rain"]) for clip in clips if clip["rain"]}
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        return {}


def _digest(clip: ClipRow, *what: object) -> str:
    """A digest of everything that a clip's images depend on."""
    record = clip.record
    facts = (
        os.fsencode(clip.source), os.fsencode(clip.output), clip.size_bytes, clip.mtime_ns, clip.settings,
        record.get("size_bytes"), record.get("seconds"), json.dumps(record.get("rain")), __version__, *what,
    )  # fmt: skip
    return hashlib.sha256(repr(facts).encode()).hexdigest()[:12]


def _totals(facts: Sequence[ClipFacts], seconds: float | None) -> Totals:
    done = [fact for fact in facts if fact.state == "done"]

    def count(state: str) -> int:
        return sum(fact.state == state for fact in facts)

    frames, copied = _sum(f.frames for f in done), _sum(f.frames_copied for f in done)
    duration_s, work_s = _sum(f.duration_s for f in done), _sum(f.seconds for f in done)
    return Totals(
        clips=len(facts),
        done=len(done),
        with_losses=sum(bool(fact.losses) for fact in done),
        failed=count("failed"),
        skipped=count("skipped"),
        waiting=count("planned"),
        frames=int(frames),
        frames_copied=int(copied),
        duration_s=round(duration_s, 3),
        work_s=round(work_s, 3),
        run_s=None if seconds is None else round(seconds, 3),
        frames_per_s=round((frames - copied) / work_s, 2) if work_s else None,
        times_real_time=round(duration_s / work_s, 3) if work_s else None,
        source_bytes=int(_sum(f.source_bytes for f in done)),
        output_bytes=int(_sum(f.output_bytes for f in done)),
    )


def _sum(values: Iterable[float | None]) -> float:
    return math.fsum(value for value in values if value is not None)


def _clear(place: Path, kept: set[str]) -> None:
    """Remove the images of clips that were derained again or removed."""
    for file in place.iterdir():
        if file.suffix in (".jpg", ".svg") and f"{IMAGES_FOLDER}/{file.name}" not in kept:
            file.unlink(missing_ok=True)
