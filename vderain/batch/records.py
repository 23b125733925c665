"""The record of an assembled clip, made of the records of its segments: frames, engines, losses, notes."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from vderain.batch.manifest import ClipRow, Segment
from vderain.interfaces import SinkReport
from vderain.report import damage_losses


def clip_record(clip: ClipRow, segments: Sequence[Segment], written: SinkReport) -> dict[str, Any]:
    """What the manifest and the report keep of a clip that was assembled from these segments."""
    records = _records(segments)
    copied = [segment for segment in segments if segment.kind == "copy"]
    frames_copied = sum(segment.frames for segment in copied)
    frames = frames_copied + sum(record["frames"] for record in records)
    losses = [*damage(segments), *_united(records, "losses"), *written.losses]
    announced = sum(segment.frames for segment in segments)
    skipped = sum(record["decode_failures"] for record in records)
    if not announced - skipped <= frames <= announced:  # otherwise the damage says it
        losses.append(f"{frames} frames came out of {announced} that its container announces")
    notes = [clip.record["begun_anew"]] if clip.record.get("begun_anew") else []
    return {
        "frames": frames,
        "frames_copied": frames_copied,
        "copied": [[segment.start_pts, segment.end_pts] for segment in copied],
        "seconds": round(sum(record["seconds"] for record in records), 3),
        "engines": list(dict.fromkeys(r["engine"] for r in records if r["engine"])),
        "tracks_copied": written.tracks_copied,
        "losses": list(dict.fromkeys(losses)),
        "notes": list(dict.fromkeys([*notes, *_united(records, "notes"), *written.notes])),
    }


def damage(segments: Sequence[Segment]) -> list[str]:
    """The losses by damage in all segments together."""
    records = _records(segments)
    return damage_losses(
        sum(record["decode_failures"] for record in records),
        sum(record.get("damaged_frames", 0) for record in records),
    )


def _records(segments: Sequence[Segment]) -> list[dict[str, Any]]:
    return [segment.record for segment in segments if segment.record is not None]


def _united(records: Iterable[dict[str, Any]], name: str) -> list[str]:
    return list(dict.fromkeys(text for record in records for text in record[name]))
