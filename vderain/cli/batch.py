"""``vderain batch``: archives of clips."""

from __future__ import annotations

import os
import sys
from contextlib import ExitStack, closing
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from tqdm import tqdm

from vderain.batch.options import BatchOptions, Settings
from vderain.cli import INTERRUPTED
from vderain.cli.options import OptionsCommand, options_of, pick
from vderain.cli.terminal import one_line
from vderain.cli.wording import as_flags
from vderain.errors import OptionError, SinkError, SourceError
from vderain.options import EncodeOptions, EngineOptions, RunOptions

if TYPE_CHECKING:
    from vderain.batch.archive import Plan
    from vderain.batch.clips.find import Archive, Found
    from vderain.batch.estimate import Estimate
    from vderain.batch.jobs import Executor
    from vderain.batch.manifest import ClipRow, Manifest
    from vderain.batch.pace import Pace
    from vderain.batch.ray.executor import RayExecutor
    from vderain.batch.runner import Batch, Tally

_PATH = click.Path(path_type=Path)
_NAMED = 10  # clips that --dry-run names


@click.command(cls=OptionsCommand)
@click.argument("paths", nargs=-1, required=True, metavar="SRC... DST", type=_PATH)
@options_of(BatchOptions)
@click.option(
    "--include", multiple=True, metavar="PATTERN",
    help="Only clips whose name, or path below SRC, matches, such as '*_F.mp4'; may be repeated.",
)  # fmt: skip
@click.option("--exclude", multiple=True, metavar="PATTERN", help="No clip that matches.")
@click.option(
    "--list", "listed", type=click.File("r", errors="surrogateescape"),
    help="A file that names clips, one on each line or separated by NUL bytes; - reads standard input.",
)  # fmt: skip
@click.option("--watch", is_flag=True, help="Go on with clips that arrive later, until Ctrl-C.")
@click.option("--dry-run", is_flag=True, help="Show what would be done, with time and space.")
@click.option(
    "--ray", is_flag=False, flag_value="local", metavar="ADDRESS",
    help="Work on a Ray cluster: auto for the one that this machine is part of, HOST:PORT of its head, or"
    " nothing for one on this machine alone. A worker has a GPU, or four cores (--set threads=4). Needs vderain[ray].",
)  # fmt: skip
@click.option("--retry-failed", is_flag=True, help="Try clips again that were set aside.")
@options_of(
    RunOptions, EngineOptions, EncodeOptions, leave_out=("start_s", "duration_s", "pipe_format")
)
@click.option("--quiet", "-q", is_flag=True, help="No progress bar; only what failed or was lost.")
def batch(
    paths: tuple[Path, ...],
    include: tuple[str, ...],
    exclude: tuple[str, ...],
    listed: Any,
    watch: bool,
    dry_run: bool,
    ray: str | None,
    retry_failed: bool,
    quiet: bool,
    **values: Any,
) -> None:
    """Take the rain out of every clip in SRC... and write them to the folder DST, in the same tree.

    Each SRC is a folder, searched with all that lies below, or a clip. What is done is skipped. A batch
    that was stopped, or killed, goes on when the same command is given again: clips are worked on in
    segments, and at most the one in work is lost. A clip appears in DST when it is complete and verified.

    \b
    vderain batch dashcam/ dry/
    vderain batch dashcam/ dry/ --include '*_F.mp4' --order newest --watch
    vderain batch dashcam/ dry/ --dry-run
    vderain batch /mnt/dashcam /mnt/dry --ray=head:6379
    """
    from vderain.batch.clips.find import Archive, read_list
    from vderain.batch.ray.cluster import check_address, ray_module
    from vderain.weights import find_weights

    if ray is not None:
        check_address(ray)
        ray_module(ray)
    sources, target = _sources(paths, listed is not None)
    named = read_list(listed.read()) if listed else []
    if listed and not (named or sources):
        raise SourceError("--list: names no clip; nothing is done")
    engine = pick(EngineOptions, values)
    settings = Settings(
        pick(BatchOptions, values),
        pick(RunOptions, values),
        engine,
        pick(EncodeOptions, values),
        find_weights(engine.tier, engine.weights)[1].sha256,
    )
    archive = Archive(
        sources, target, listed=named, include=include, exclude=exclude, encode=settings.encode,
        on_left_out=_tell_left_out,
    )  # fmt: skip
    found = list(archive.clips()) if watch else archive.found()  # refused before anything is made
    if dry_run:
        _show_plan(target, found, settings, retry_failed=retry_failed)
        sys.exit(3 if archive.left_out else 0)
    sys.exit(
        _work(
            archive, target, settings, found,
            ray=ray, sources=[*sources, *named], watch=watch, retry_failed=retry_failed, quiet=quiet,
        )
    )  # fmt: skip


def _show_plan(target: Path, found: list[Found], settings: Settings, *, retry_failed: bool) -> None:
    """Print what would be done; the target and its manifest stay as they are."""
    from vderain.batch.archive import copied_manifest, pinned, plan, unpin
    from vderain.batch.estimate import estimate
    from vderain.engines import open_engine

    with ExitStack() as stack:
        manifest, folder = stack.enter_context(copied_manifest(target))
        if retry_failed:
            manifest.forgive()
        unpin(manifest, settings.engine)
        engine = stack.enter_context(closing(open_engine(pinned(manifest, settings.engine))))
        ahead = plan(manifest, target, found, settings)
        needed = estimate(ahead.waiting, settings, engine, folder, margin=_margin(settings))
        lines = _told(ahead, needed)
        output_bytes = needed.output_bytes if needed.sampled else None
        lines.append(_room(ahead, target, output_bytes) or f"{target}: {_free(target)}, enough")
        click.echo("\n".join(map(one_line, lines)))


def _work(
    archive: Archive,
    target: Path,
    settings: Settings,
    found: list[Found],
    *,
    ray: str | None,
    sources: list[Path],
    watch: bool,
    retry_failed: bool,
    quiet: bool,
) -> int:
    """Derain what was found; the exit code."""
    from vderain.batch.archive import join_series, open_manifest, unmade_on_failure, work_through

    is_interrupted = False
    with ExitStack() as stack:
        bar = stack.enter_context(_Bar(hidden=quiet))
        with unmade_on_failure(target):
            manifest = stack.enter_context(open_manifest(target))
            if retry_failed:
                manifest.forgive()
            batch, crew = _batch(manifest, target, settings, bar, stack, ray=ray, sources=sources)

        def tell_plan(ahead: Plan) -> None:
            bar.plan(ahead)
            if short := _room(ahead, target):
                bar.say(short)

        try:
            work_through(archive, batch, found=found, watch=watch, on_plan=tell_plan)
        except KeyboardInterrupt:
            bar.close()
            click.echo(f"vderain: interrupted: {bar.interrupted}", err=True)
            is_interrupted = True
        finally:  # also of a batch that was stopped
            is_ending = is_interrupted or sys.exc_info()[1] is not None
            _write_report(manifest, target, batch.tally, bar, is_ending=is_ending)
        if is_interrupted and not (watch and settings.batch.join):
            return INTERRUPTED  # watching ends in no other way, and series are joined at the end
        replaced = batch.tally.done if settings.encode.overwrite else ()
        whole = not settings.batch.join or join_series(manifest, target, bar.tell, replaced)
    if is_interrupted:
        return INTERRUPTED
    if not quiet:
        died = 0 if crew is None else crew.deaths
        click.echo(_summary(batch.tally, target, died), err=True)
    return batch.tally.exit_code if whole and not archive.left_out else 3


def _write_report(
    manifest: Manifest, target: Path, tally: Tally, bar: _Bar, *, is_ending: bool
) -> None:
    """Write the report; where the batch is ending for another reason, that one is told last, and counts."""
    from vderain.batch.report.record import write_report

    try:
        write_report(target, target, manifest.clips(), seconds=tally.seconds)
    except SinkError as error:
        if not is_ending:
            raise
        bar.close()
        click.echo(as_flags(f"vderain: {error}"), err=True)


def _batch(
    manifest: Manifest,
    target: Path,
    settings: Settings,
    bar: _Bar,
    stack: ExitStack,
    *,
    ray: str | None,
    sources: list[Path],
) -> tuple[Batch, RayExecutor | None]:
    """The batch with its engine, which ``stack`` closes; with the workers of a cluster, where there is one."""
    from vderain.batch.archive import pinned, unpin
    from vderain.batch.clips.find import WORK_FOLDER
    from vderain.batch.jobs import InProcess
    from vderain.batch.pace import Pace
    from vderain.batch.rain.spans import RainGating
    from vderain.batch.runner import Batch
    from vderain.engines import open_engine

    if ray is None:  # what workers can run, this machine does not know
        unpin(manifest, settings.engine, bar.tell)
    options = pinned(manifest, settings.engine)
    executor: Executor
    gating = crew = None
    is_gated = settings.batch.gate != "off"
    if ray is None or is_gated:
        # Workers may have what a batch goes on with, and this machine, which only looks for rain, not.
        asked = options if ray is None else settings.engine
        engine = stack.enter_context(closing(open_engine(asked)))
        if is_gated:
            gating = RainGating(settings.run, settings.encode, engine=engine)
        executor = InProcess(engine, bar.update)
    if ray is not None:  # workers have engines of their own
        executor = crew = _cluster(ray, options, sources, target / WORK_FOLDER, bar)
    pace = Pace()
    batch = Batch(
        manifest, target, settings, executor,
        gating=gating, margin=_margin(settings), pace=pace, on_event=bar.tell,
    )  # fmt: skip
    bar.follow(batch, pace)
    return batch, crew


def _tell_left_out(path: Path, reason: str) -> None:
    """A folder or clip that is left out is a loss, told with --quiet too."""
    tqdm.write(
        f"vderain: {path}: {reason}, and is left out; put that right and give the same command again,"
        " or --exclude it",
        file=sys.stderr,
    )


def _margin(settings: Settings) -> int:
    """Frames beyond a cut that the network looks at."""
    from vderain.weights import find_weights

    return find_weights(settings.engine.tier, settings.engine.weights)[1].config.frames - 1


def _cluster(
    address: str, options: EngineOptions, sources: list[Path], work: Path, bar: _Bar
) -> RayExecutor:
    """Workers that see the sources and write to the work folder."""
    from vderain.batch.ray.executor import RayExecutor

    folders = {source if source.is_dir() else source.parent for source in sources}
    return RayExecutor(
        options,
        address=address,
        shared=work / "segments",
        visible=sorted(folders),
        on_progress=bar.update,
        on_notice=bar.say,
    )


def _sources(paths: tuple[Path, ...], is_listed: bool) -> tuple[list[Path], Path]:
    """What to read, besides what a list names, and the target."""
    *sources, target = paths
    if not sources and not is_listed:
        raise OptionError(f"{target}: is the target; name the clips or their folder before it")
    if os.path.exists(target) and not target.is_dir():
        raise OptionError(f"{target}: is a file; the last argument is the folder to write to")
    return sources, target


def _told(ahead: Plan, needed: Estimate) -> list[str]:
    """What --dry-run prints."""
    lines = [str(clip.output) for clip in ahead.waiting[:_NAMED]]
    if len(ahead.waiting) > _NAMED:
        lines.append(f"... and {len(ahead.waiting) - _NAMED} more")
    lines.append(
        f"{_clips(len(ahead.waiting))} to derain ({ahead.size_bytes / 1e9:.2f} GB),"
        f" {len(ahead.done)} done, {len(ahead.failed)} set aside"
    )
    if needed.sampled:
        lines.append(
            f"about {timedelta(seconds=round(needed.seconds))} and {needed.output_bytes / 1e9:.2f} GB, if all"
            f" are like the {_clips(needed.sampled)} that were tried"
        )
    return lines


def _room(ahead: Plan, target: Path, output_bytes: int | None = None) -> str:
    """What is said where all outputs together may not fit; nothing where they do."""
    from vderain.batch.clips.clip_files import free_bytes

    needed = ahead.room_bytes(output_bytes)
    if needed <= free_bytes(target):
        return ""
    return (
        f"{target}: {_free(target)}, and {_clips(len(ahead.waiting))} may need {needed / 1e9:.1f};"
        " the batch stops where it is full, and the same command goes on when there is room"
    )


def _free(target: Path) -> str:
    from vderain.batch.clips.clip_files import free_bytes

    return f"{free_bytes(target) / 1e9:.1f} GB are free"


def _summary(tally: Tally, target: Path, died: int) -> str:
    parts = [f"{_clips(len(tally.done))} derained in {timedelta(seconds=round(tally.seconds))}"]
    parts += [f"{len(tally.skipped)} skipped"] if tally.skipped else []
    parts += (
        [f"{len(tally.failed)} set aside; --retry-failed tries them again"] if tally.failed else []
    )
    parts += [f"{died} worker{'' if died == 1 else 's'} died"] if died else []
    return f"{target}: " + ", ".join(parts)


def _clips(count: int) -> str:
    return f"{count} clip{'' if count == 1 else 's'}"


class _Bar:
    """Share of the work done and time left; a line for each clip that did not simply succeed.

    Where no terminal shows the bar, each clip has its line.
    """

    def __init__(self, *, hidden: bool) -> None:
        self._hidden = hidden
        self._clips = self._done_before = 0
        self._batch: Batch | None = None
        self._pace: Pace | None = None
        self._bar = tqdm(
            total=100, bar_format="{percentage:3.0f}% |{bar}| {desc}",
            disable=True if hidden else None, dynamic_ncols=True,
        )  # fmt: skip

    def __enter__(self) -> _Bar:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Leave the line; may be called twice."""
        self._bar.close()

    @property
    def interrupted(self) -> str:
        """How far the batch came, for one who stopped it."""
        done = self._done_before + (0 if self._batch is None else len(self._batch.tally.done))
        known = self._done_before + self._clips
        return f"{done} of {_clips(known)} done; the same command goes on"

    def follow(self, batch: Batch, pace: Pace) -> None:
        """Show this batch."""
        self._batch, self._pace = batch, pace

    def plan(self, ahead: Plan) -> None:
        """So many clips lie ahead."""
        self._clips += len(ahead.waiting)
        self._done_before += len(ahead.done)

    def update(self, job: Any, progress: Any) -> None:
        """Frames were derained."""
        if self._batch is None:
            return
        self._batch.progressed(job, progress.frames)
        self._show(f"{progress.frames_per_s:.1f} fps, limited by {progress.limiting_stage}")

    def tell(self, clip: ClipRow, text: str) -> None:
        """What happened to a clip."""
        is_shown = text != "done" or self._bar.disable  # a log has no bar that counts
        if is_shown and (not self._hidden or "failed" in text or "loss" in text):
            self._bar.write(one_line(as_flags(f"vderain: {clip.output}: {text}")), file=sys.stderr)
        self._show("")

    def say(self, text: str) -> None:
        """What happened to the batch."""
        if not self._hidden:
            self._bar.write(one_line(as_flags(f"vderain: {text}")), file=sys.stderr)

    def _show(self, rate: str) -> None:
        if self._batch is None or self._pace is None:
            return
        done, eta_s = len(self._batch.tally.done), self._pace.eta_s
        left = "" if eta_s is None else f"{timedelta(seconds=round(eta_s))} left"
        said = ", ".join(filter(None, [f"{done} of {_clips(self._clips)}", left, rate]))
        self._bar.set_description_str(said, refresh=False)
        self._bar.n = round(100 * self._pace.share)
        self._bar.refresh()
