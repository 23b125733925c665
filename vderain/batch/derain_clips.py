"""Derains the clips of a batch: cuts, derains, assembles, verifies and names clips, and resumes after a kill."""

from __future__ import annotations

import logging
import os
import shutil
import time
from collections import Counter, deque
from collections.abc import Callable, Iterable
from contextlib import closing, suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from vderain.batch.clips.clip_files import (
    check_place,
    check_unchanged,
    is_as_written,
    name_all,
    status_of,
    sync,
)
from vderain.batch.clips.find import WORK_FOLDER, Found
from vderain.batch.cutting import cut
from vderain.batch.disk import check_space, stop_if_full
from vderain.batch.jobs import Executor, Outcome, SegmentJob, Spans
from vderain.batch.manifest import ClipRow, Manifest, Segment
from vderain.batch.options import Settings
from vderain.batch.rain.spans import Gated, Gating
from vderain.batch.records import clip_record, damage
from vderain.batch.workload import Workload
from vderain.errors import SinkError, VderainError
from vderain.media.edit.assemble import Copied, Encoded, Piece, assemble, copy_obstacle
from vderain.media.edit.inspect import Inspected, inspect
from vderain.media.io.index import VideoIndex
from vderain.media.verify.comparison import problems_of
from vderain.options import decoding_for

_log = logging.getLogger(__name__)
_OPEN = "its dry GOPs are open: their frames need frames of other GOPs, so none can be copied alone"


@dataclass(slots=True)
class Tally:
    """Results of this run, by clip."""

    done: list[int] = field(default_factory=list)
    failed: list[int] = field(default_factory=list)  # in this run, or before and not tried again
    skipped: list[int] = field(default_factory=list)
    lossy: list[int] = field(default_factory=list)  # done, with a loss
    seconds: float = 0.0

    @property
    def exit_code(self) -> int:
        """0, or 3 where a clip failed or has a loss."""
        return 3 if self.failed or self.lossy else 0


class Batch:
    """Derains the clips of a manifest into the target.

    Args:
        manifest: of this target; no other process writes to it.
        target: the folder of the outputs.
        settings: how clips are derained; a clip begun with other settings starts again.
        executor: derains segments.
        gating: finds the dry parts of a clip; None derains everything.
        margin: frames before and after a cut that the network uses.
        workload: measures the progress.
        on_event: is called with a clip and what happens to it, as text for people.

    Attributes:
        tally: results so far.

    """

    def __init__(
        self,
        manifest: Manifest,
        target: Path,
        settings: Settings,
        executor: Executor,
        *,
        gating: Gating | None = None,
        margin: int = 0,
        workload: Workload | None = None,
        on_event: Callable[[ClipRow, str], None] | None = None,
    ) -> None:
        self.manifest, self.target, self.settings = manifest, target, settings
        self._executor, self._gating, self._margin = executor, gating, margin
        self._workload = workload or Workload()
        self._on_event = on_event or (lambda clip, text: None)
        self._work = target / WORK_FOLDER
        self._identity = settings.text()
        self._waiting: deque[int] = deque()
        self._jobs: deque[SegmentJob] = deque()
        self._in_flight: Counter[int] = Counter()
        self._left_frames: dict[int, int] = {}  # clip -> frames to derain when it was begun
        self._errors: dict[int, Exception] = {}
        # Of clips that were cut in this run, until they are assembled.
        self._inspected: dict[int, Inspected] = {}
        self.tally = Tally()

    def run(self, clips: Iterable[ClipRow]) -> Tally:
        """Derain clips; those that fail are tried again after the others.

        Raises BatchStoppedError where the target is full or cannot be written.
        """
        since = time.monotonic()
        self._sweep()
        waiting = list(clips)
        self._workload.plan(waiting)
        self._waiting.extend(clip.id for clip in waiting)
        try:
            with closing(self._executor.run(self._next_job)) as outcomes:
                for outcome in outcomes:
                    self._settle(outcome)
        finally:
            self.tally.seconds += time.monotonic() - since
        self._sweep()  # files of workers that died
        return self.tally

    def _sweep(self) -> None:
        """Remove unfinished files of a killed batch or worker; the manifest's lock keeps other batches out."""
        known = {
            self._segment_file(clip, segment)
            for clip in self.manifest.clips()
            for segment in self.manifest.segments(clip.id)
        }
        for path in (self._work / "segments").iterdir():
            if path not in known:
                path.unlink(missing_ok=True)
        for folder in (self._work / "clips").iterdir():
            shutil.rmtree(folder, ignore_errors=True)

    def progressed(self, job: SegmentJob, frames: int) -> None:
        """Report that a segment in work has this many derained frames."""
        self._workload.advance(job.clip, job.number, frames / self._left_frames[job.clip])

    def _next_job(self) -> SegmentJob | None:
        while not self._jobs and self._waiting:
            clip = self.manifest.clip(self._waiting.popleft())
            try:
                self._begin(clip)
            except (VderainError, OSError) as error:
                self._failed(clip, error)
        return self._jobs.popleft() if self._jobs else None

    def _begin(self, clip: ClipRow) -> None:
        """Queue the segments that are left to derain; without any, complete the clip at once."""
        if self._was_published(clip):
            return
        output = self.target / clip.output
        if os.path.lexists(output) and not self.settings.encode.overwrite:
            why = "an output of this name was there before"
            if "size_bytes" in clip.record:
                why = "the output was modified since it was written"
            self.manifest.set_state(clip.id, "skipped", why)
            self.tally.skipped.append(clip.id)
            self._workload.end(clip.id)
            self._on_event(clip, f"skipped: {why}; overwrite=True replaces it")
            return
        clip = self._as_it_is_now(clip)
        check_place(output.parent, self.target)
        check_space(self.target, self._work, clip)
        segments = self.manifest.segments(clip.id)
        if not segments or clip.settings != self._identity:
            clip, segments = self._cut(clip)
        left = [segment for segment in segments if not self._is_done(clip, segment)]
        if not left:
            self._complete(clip)
            return
        derained = [segment for segment in segments if segment.kind == "derain"]
        if len(left) < len(derained):  # segments to copy count as done from the start
            done = len(derained) - len(left)
            self._on_event(clip, f"resumes: {done} of {len(derained)} segments are done")
        frames = [sum(s.frames for s in part) for part in (left, segments)]
        self._left_frames[clip.id] = max(1, frames[0])
        self._workload.begin(clip, frames[0] / max(1, frames[1]))
        self._in_flight[clip.id] = len(left)
        self._jobs.extend(self._job(clip, segment) for segment in left)

    def _as_it_is_now(self, clip: ClipRow) -> ClipRow:
        """The clip, planned again if its source changed since."""
        about = status_of(clip)
        if (about.st_size, about.st_mtime_ns) == (clip.size_bytes, clip.mtime_ns):
            return clip
        attempts = clip.attempts
        found = Found(clip.source, clip.output, about.st_size, about.st_mtime_ns)
        clip = self.manifest.add(found)
        for _ in range(attempts):
            self.manifest.count_attempt(clip.id)
        return clip

    def _cut(self, clip: ClipRow) -> tuple[ClipRow, list[Segment]]:
        """Inspect a clip and cut it into segments."""
        for segment in self.manifest.segments(clip.id):
            self._segment_file(clip, segment).unlink(missing_ok=True)
        if self._gating is None:
            known, gated = inspect(str(clip.source)), Gated()
        else:
            known, gated = self._gating.inspect(str(clip.source))
        self._inspected[clip.id], index = known, known.index
        obstacle, copied = self._copied(index, gated, clip.output)
        segments = cut(index.gops, index.time_base, self.settings.batch.segment_s, copied)
        if any(copied or ()) and all(segment.kind != "copy" for segment in segments):
            obstacle = _OPEN
        record: dict[str, Any] = {
            "codec": index.codec,
            "frames": index.frames,
            "duration_s": index.duration_s,
            "dry": [list(span) for span in gated.dry],
            "rain": gated.timeline,
            "not_copied": obstacle,
            "seeks": not index.jumps,
            "anew": clip.record.get("anew"),
            "begun_anew": clip.record.get("begun_anew"),
        }
        self.manifest.cut(clip.id, segments, self._identity, **record)
        return self.manifest.clip(clip.id), segments

    def _copied(
        self, index: VideoIndex, gated: Gated, output: Path
    ) -> tuple[str, list[bool] | None]:
        """Why no packets can be copied, or which GOPs are copied."""
        if self.settings.batch.gate != "smart-copy":
            return "", None
        obstacle = copy_obstacle(index, self.settings.encode, str(output))
        return (obstacle, None) if obstacle else ("", gated.dry_gops)

    def _job(self, clip: ClipRow, segment: Segment) -> SegmentJob:
        dry: Spans = tuple((start, end) for start, end in clip.record.get("dry", ()))
        return SegmentJob(
            clip=clip.id,
            number=segment.number,
            source=clip.source,
            output=self._segment_file(clip, segment),
            start_pts=segment.start_pts,
            end_pts=segment.end_pts,
            frames=segment.frames,
            margin=self._margin,
            dry=dry,
            seeks=clip.record.get("seeks", True),
            run=decoding_for(self.settings.run, self.settings.engine),
            encode=replace(self.settings.encode, overwrite=True),
        )

    def _settle(self, outcome: Outcome) -> None:
        """Record the outcome of a segment; complete its clip with the last one."""
        job = outcome.job
        self._in_flight[job.clip] -= 1
        if outcome.record is not None:
            sync(job.output)
            self.manifest.finish_segment(job.clip, job.number, outcome.record)
            self._workload.finish(job.clip, job.number, job.frames / self._left_frames[job.clip])
        elif outcome.error is not None:
            stop_if_full(self.target, outcome.error)
            self._errors[job.clip] = outcome.error
            self._drop_jobs(job.clip)
        if self._in_flight[job.clip] > 0:
            return
        clip = self.manifest.clip(job.clip)
        error = self._errors.pop(job.clip, None)
        try:
            if error is not None:
                raise error
            self._complete(clip)
        except (VderainError, OSError) as failure:
            self._failed(clip, failure)

    def _drop_jobs(self, clip: int) -> None:
        """Drop the queued jobs of a clip that failed."""
        kept = [job for job in self._jobs if job.clip != clip]
        self._in_flight[clip] -= len(self._jobs) - len(kept)
        self._jobs = deque(kept)

    def _complete(self, clip: ClipRow) -> None:
        """Assemble a clip in the work folder, verify it there, give it its name."""
        check_unchanged(clip)
        segments = self.manifest.segments(clip.id)
        folder = self._work / "clips" / str(clip.id)
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        partial = folder / clip.output.name
        encode = replace(self.settings.encode, overwrite=True)
        made = assemble(
            str(clip.source),
            self._pieces(clip, segments),
            str(partial),
            encode=encode,
            known=self._inspected.pop(clip.id, None),
        )
        record = clip_record(clip, segments, made.report)
        problems = problems_of(made.contents, str(partial), frames=record["frames"])
        if problems and not damage(segments):  # damage may cost frames near it, and their times
            self.manifest.discard_cuts(clip.id)  # the segments cannot be trusted
            raise SinkError(
                f"{clip.output}: does not hold what its source does: {'; '.join(problems)}"
            )
        check_unchanged(clip)
        record["losses"] += problems
        record["size_bytes"] = partial.stat().st_size
        self._publish(clip, folder, record)

    def _pieces(self, clip: ClipRow, segments: list[Segment]) -> list[Piece]:
        return [
            Copied(segment.start_pts, segment.end_pts)
            if segment.kind == "copy"
            else Encoded(str(self._segment_file(clip, segment)))
            for segment in segments
        ]

    def _publish(self, clip: ClipRow, folder: Path, record: dict[str, Any]) -> None:
        """Move a verified clip and its sidecars to the target; the video is moved last."""
        place = (self.target / clip.output).parent
        partial = folder / clip.output.name
        os.utime(partial, ns=(clip.mtime_ns, clip.mtime_ns))
        # After a kill between here and the end, the next run knows that this output is its own.
        record["output_mtime_ns"] = partial.stat().st_mtime_ns
        self.manifest.set_state(clip.id, "planned", publishing=record["size_bytes"], **record)
        name_all(folder, partial, place, self.target, overwrite=self.settings.encode.overwrite)
        self._finish(clip, record)

    def _was_published(self, clip: ClipRow) -> bool:
        """Whether a killed run had already named the output; if so, finish what is left."""
        if clip.record.get("publishing") is None or not is_as_written(self.target, clip):
            return False
        self._finish(clip, clip.record)
        return True

    def _finish(self, clip: ClipRow, record: dict[str, Any]) -> None:
        files = [self._segment_file(clip, s) for s in self.manifest.segments(clip.id)]
        self.manifest.set_state(
            clip.id, "done", **{**record, "publishing": None, "begun_anew": None}
        )
        for file in files:
            file.unlink(missing_ok=True)
        shutil.rmtree(self._work / "clips" / str(clip.id), ignore_errors=True)
        self._workload.end(clip.id)
        self.tally.done.append(clip.id)
        if record["losses"]:
            self.tally.lossy.append(clip.id)
        self._on_event(clip, "; ".join(["done", *(f"loss: {loss}" for loss in record["losses"])]))

    def _failed(self, clip: ClipRow, error: Exception) -> None:
        """Try a clip again after the others, or record its failure."""
        self._inspected.pop(clip.id, None)
        stop_if_full(self.target, error)
        reason = _reason(error)
        if self.manifest.count_attempt(clip.id) <= self.settings.batch.retries:
            self._on_event(clip, f"failed, and will be tried again: {reason}")
            self._waiting.append(clip.id)
            self._workload.plan([clip])
            return
        self._workload.end(clip.id)
        self.manifest.set_state(clip.id, "failed", reason)
        self.tally.failed.append(clip.id)
        self._on_event(clip, f"failed, and is set aside: {reason}")

    def _is_done(self, clip: ClipRow, segment: Segment) -> bool:
        """Whether a segment's file exists as it was recorded."""
        if segment.kind == "copy" or segment.record is None:
            return segment.is_done
        with suppress(OSError):
            if self._segment_file(clip, segment).stat().st_size == segment.record["size_bytes"]:
                return True
        self.manifest.discard_segment(clip.id, segment.number)
        return False

    def _segment_file(self, clip: ClipRow, segment: Segment) -> Path:
        return self._work / "segments" / f"{clip.id}-{segment.number}.nut"


def _reason(error: Exception) -> str:
    if isinstance(error, OSError) and error.strerror:
        return f"{error.filename}: {error.strerror}" if error.filename else error.strerror
    return str(error)
