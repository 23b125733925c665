"""Estimates time and disk space of a batch by deraining a second of a few of its clips."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from fractions import Fraction
from pathlib import Path

from vderain.batch.jobs import SegmentJob, derain_segment
from vderain.batch.manifest import ClipRow
from vderain.batch.options import Settings
from vderain.errors import SinkError, SourceError
from vderain.interfaces import Engine
from vderain.media.io.index import VideoIndex, index_video

_SAMPLES = 3
_SAMPLE_S = 1


@dataclass(frozen=True, slots=True)
class Estimate:
    """What a batch needs if its clips are like those that were tried.

    Attributes:
        sampled: how many clips were tried; the other figures are 0 where none could be.
        seconds: of work.
        output_bytes: of the outputs.

    """

    sampled: int = 0
    seconds: float = 0.0
    output_bytes: int = 0


def estimate(
    clips: Sequence[ClipRow], settings: Settings, engine: Engine, folder: Path, *, margin: int = 0
) -> Estimate:
    """Derain a second from the middle of some clips, spread over the batch; ``folder`` holds the trial outputs.

    Clips that cannot be read are left out; the batch reports them.
    """
    chosen = clips[:: max(1, len(clips) // _SAMPLES)][:_SAMPLES]
    tried = size_bytes = 0
    seconds = output_bytes = 0.0
    for clip in chosen:
        with suppress(SourceError, SinkError):
            index = index_video(str(clip.source))
            took_s, written = _sampled(clip, index, settings, engine, folder, margin)
            tried += 1
            size_bytes += clip.size_bytes
            seconds += took_s * index.frames
            output_bytes += written * index.frames
    if not tried:
        return Estimate()
    scale = sum(clip.size_bytes for clip in clips) / size_bytes
    return Estimate(tried, seconds * scale, round(output_bytes * scale))


def _sampled(
    clip: ClipRow,
    index: VideoIndex,
    settings: Settings,
    engine: Engine,
    folder: Path,
    margin: int,
) -> tuple[float, float]:
    """Seconds and bytes for each frame of a clip."""
    middle = index.gops[len(index.gops) // 2]
    job = SegmentJob(
        clip=clip.id,
        number=0,
        source=clip.source,
        output=folder / f"estimate-{clip.id}.nut",
        start_pts=middle.start_pts,
        end_pts=middle.start_pts + round(Fraction(_SAMPLE_S) / index.time_base),
        frames=middle.frames,
        margin=margin,
        seeks=not index.jumps,
        run=settings.run,
        encode=replace(settings.encode, overwrite=True),
    )
    try:
        record = derain_segment(job, engine)
    finally:
        job.output.unlink(missing_ok=True)
    frames = max(1, record["frames"])
    return (record["seconds"] - record["open_s"]) / frames, record["size_bytes"] / frames
