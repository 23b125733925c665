"""The unit of work, one segment of a clip, and the executor that derains it in this process."""

from __future__ import annotations

import time
from collections.abc import Callable, Generator
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from vderain.errors import VderainError
from vderain.frames import Frame
from vderain.interfaces import Engine
from vderain.machine import give_back_memory
from vderain.media.edit.segments import SegmentSink
from vderain.media.source import VideoSource
from vderain.media.span import FrameSpan
from vderain.options import EncodeOptions, RunOptions
from vderain.pipeline import Progress, derain
from vderain.report import damage_losses

Spans = tuple[tuple[int, int], ...]


@dataclass(frozen=True, slots=True)
class SegmentJob:
    """A segment of a clip, to be derained into a file of its own.

    Attributes:
        clip: its id in the manifest.
        number: of the segment in the clip.
        source: the clip.
        output: the segment's file.
        start_pts: first time of the segment.
        end_pts: first time after it.
        frames: number of frames by the container.
        margin: frames before and after the segment that the network may use.
        dry: spans [start, end) of times whose frames are kept as they are.
        seeks: False for a clip whose clock jumps, where seeking finds no times.

    """

    clip: int
    number: int
    source: Path
    output: Path
    start_pts: int
    end_pts: int
    frames: int
    margin: int = 0
    dry: Spans = ()
    seeks: bool = True
    run: RunOptions = field(default_factory=RunOptions)
    encode: EncodeOptions = field(default_factory=EncodeOptions)


@dataclass(frozen=True, slots=True)
class Outcome:
    """The result of a job: a record for the manifest, or an error."""

    job: SegmentJob
    record: dict[str, Any] | None = None
    error: Exception | None = None


class Executor(Protocol):
    """Derains jobs, one or several at a time."""

    def run(self, next_job: Callable[[], SegmentJob | None]) -> Generator[Outcome, None, None]:
        """Fetch jobs and yield their outcomes, in any order.

        ``next_job`` returns None while there is no job; the iteration ends when it does so with no job in
        flight. Closing the iterator stops the jobs in flight.
        """


class InProcess:
    """Executor with one engine that derains one job after the other."""

    def __init__(
        self, engine: Engine, on_progress: Callable[[SegmentJob, Progress], None] | None = None
    ) -> None:
        self._engine = engine
        self._on_progress = on_progress

    def run(self, next_job: Callable[[], SegmentJob | None]) -> Generator[Outcome, None, None]:
        """As Executor says."""
        while (job := next_job()) is not None:
            yield attempt(job, self._engine, self._on_progress)


def attempt(
    job: SegmentJob,
    engine: Engine,
    on_progress: Callable[[SegmentJob, Progress], None] | None = None,
) -> Outcome:
    """Derain a segment; errors become part of the outcome, an interrupt does not."""
    try:
        return Outcome(job, record=derain_segment(job, engine, on_progress))
    except (VderainError, OSError) as error:
        return Outcome(job, error=error)
    finally:
        give_back_memory()  # the segment's threads have ended


def derain_segment(
    job: SegmentJob,
    engine: Engine,
    on_progress: Callable[[SegmentJob, Progress], None] | None = None,
) -> dict[str, Any]:
    """Derain a segment into its file; returns plain values for the manifest.

    Raises what the stages of the pipeline raise; the file then does not exist.
    """
    since = time.monotonic()
    span = FrameSpan(job.start_pts, job.end_pts, job.margin, job.margin, job.seeks)
    with closing(VideoSource(str(job.source), run=job.run, encode=job.encode, span=span)) as source:
        sink = SegmentSink(str(job.output), source, job.encode, span)
        report = derain(
            source,
            engine,
            sink,
            options=job.run,
            on_progress=on_progress and (lambda progress: on_progress(job, progress)),
            untouched=(lambda frame: _within(job.dry, frame)) if job.dry else None,
        )
    spec = next(iter(report.engines), None)
    # Counts are kept as numbers, since those of all segments are added up.
    damage = damage_losses(report.decode_failures, report.damaged_frames)
    return {
        "frames": report.frames_out,
        "size_bytes": job.output.stat().st_size,
        "seconds": round(time.monotonic() - since, 3),
        "open_s": report.open_s,
        "engine": "" if spec is None else f"{spec.name} {spec.precision}",
        "decode_failures": report.decode_failures,
        "damaged_frames": report.damaged_frames,
        "notes": list(
            dict.fromkeys([*report.notes, *(n for e in report.engines for n in e.notes)])
        ),
        "losses": [loss for loss in report.losses if loss not in damage],
    }


def _within(spans: Spans, frame: Frame) -> bool:
    return any(start <= frame.pts < end for start, end in spans)
