"""Events and progress that a batch reports while it works."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from vderain.batch.clips.clip_files import free_bytes
from vderain.batch.derain_clips import Batch
from vderain.batch.jobs import SegmentJob
from vderain.batch.manifest import ClipRow
from vderain.batch.planning import Plan
from vderain.batch.workload import Workload
from vderain.errors import SinkError
from vderain.pipeline import Progress

EventKind = Literal["clip", "notice", "left out", "interrupted", "error"]


@dataclass(frozen=True, slots=True)
class BatchEvent:
    """An event, as text for people; ``path`` is the clip's output, or a source that is left out."""

    kind: EventKind
    text: str
    path: Path | None = None


@dataclass(frozen=True, slots=True)
class BatchProgress:
    """Progress of a batch; ``share`` is the finished share of the work, ``eta_s`` None before anything is done.

    Rate and limiting stage are those of the segment in work; between two segments they are 0 and "".
    """

    done: int
    clips: int
    share: float
    eta_s: float | None
    frames_per_s: float = 0.0
    limiting_stage: str = ""


OnEvent = Callable[[BatchEvent], None]
OnProgress = Callable[[BatchProgress], None]


class Follower:
    """Turns reports of the parts of a batch into events and progress."""

    def __init__(
        self, target: Path, on_event: OnEvent | None, on_progress: OnProgress | None
    ) -> None:
        self._target = target
        self._on_event = on_event or (lambda event: None)
        self._on_progress = on_progress or (lambda progress: None)
        self._clips = self._done_before = 0
        self._batch: Batch | None = None
        self._workload = Workload()

    def follow(self, batch: Batch, workload: Workload) -> None:
        """Report the progress of this batch."""
        self._batch, self._workload = batch, workload

    def plan(self, ahead: Plan) -> None:
        """Report the number of clips ahead."""
        self._clips += len(ahead.waiting)
        self._done_before += len(ahead.done)
        if short := shortage(ahead, self._target):
            self.notice(short)

    def update(self, job: SegmentJob, progress: Progress) -> None:
        """Frames were derained."""
        if self._batch is not None:
            self._batch.progressed(job, progress.frames)
            self._show(progress.frames_per_s, progress.limiting_stage)

    def clip(self, clip: ClipRow, text: str) -> None:
        """Report an event of a clip."""
        self._on_event(BatchEvent("clip", text, clip.output))
        self._show()

    def notice(self, text: str) -> None:
        """Report an event of the batch."""
        self._on_event(BatchEvent("notice", text))

    def left_out(self, path: Path, reason: str) -> None:
        """Report a source that cannot be read."""
        self._on_event(BatchEvent("left out", reason, path))

    def error(self, error: SinkError) -> None:
        """Report an error at the end of the batch."""
        self._on_event(BatchEvent("error", str(error)))

    def interrupted(self) -> None:
        """Report the interrupt, with how many clips are done."""
        done = self._done_before + self._done
        known = clips_in_words(self._done_before + self._clips)
        text = f"interrupted: {done} of {known} done; give the same command again to resume"
        self._on_event(BatchEvent("interrupted", text))

    @property
    def _done(self) -> int:
        return 0 if self._batch is None else len(self._batch.tally.done)

    def _show(self, frames_per_s: float = 0.0, limiting_stage: str = "") -> None:
        workload = self._workload
        self._on_progress(
            BatchProgress(
                self._done,
                self._clips,
                workload.share,
                workload.eta_s,
                frames_per_s,
                limiting_stage,
            )
        )


def shortage(ahead: Plan, target: Path, output_bytes: int | None = None) -> str:
    """A warning where all outputs together may not fit on the disk; "" where they fit."""
    needed, free = ahead.room_bytes(output_bytes), free_bytes(target)
    if needed <= free:
        return ""
    return (
        f"{target}: {free / 1e9:.1f} GB are free, and {clips_in_words(len(ahead.waiting))} may need"
        f" {needed / 1e9:.1f}; the batch stops when the disk is full; make room and give the same command again"
    )


def clips_in_words(count: int) -> str:
    """``1 clip``, ``2 clips``."""
    return f"{count} clip{'' if count == 1 else 's'}"
