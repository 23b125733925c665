"""``vderain batch``: archives of clips."""

from __future__ import annotations

import os
import sys
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from tqdm import tqdm

from vderain.batch.options import BatchOptions
from vderain.cli import INTERRUPTED
from vderain.cli.options import OptionsCommand, options_of, pick
from vderain.cli.terminal import one_line
from vderain.cli.wording import as_flags
from vderain.errors import OptionError, SourceError
from vderain.options import EncodeOptions, EngineOptions, RunOptions

if TYPE_CHECKING:
    from vderain.batch.derain_archive import BatchEvent, BatchPlan, BatchProgress, BatchReport

_PATH = click.Path(path_type=Path)
_NAMED = 10  # clips that --dry-run names
_LEFT_OUT = "put that right and give the same command again, or --exclude it"


@click.command(cls=OptionsCommand)
@click.argument("paths", nargs=-1, required=True, metavar="SRC... DST", type=_PATH)
@options_of(BatchOptions)
@click.option(
    "--include", multiple=True, metavar="PATTERN",
    help="Only clips whose name, or path below SRC, matches this pattern, such as '*_F.mp4'; may be repeated.",
)  # fmt: skip
@click.option(
    "--exclude",
    multiple=True,
    metavar="PATTERN",
    help="Skip clips that match this pattern; may be repeated.",
)
@click.option(
    "--list", "listed", type=click.File("r", errors="surrogateescape"),
    help="Read names of clips from this file, one per line or separated by NUL bytes; - is standard input.",
)  # fmt: skip
@click.option(
    "--watch", is_flag=True, help="Keep running and process clips that arrive later, until Ctrl-C."
)
@click.option(
    "--dry-run",
    is_flag=True,
    help="Show what would be done, with estimated time and disk space; write nothing.",
)
@click.option(
    "--ray", is_flag=False, flag_value="local", metavar="ADDRESS",
    help="Work on a Ray cluster: auto for the one that this machine is part of, HOST:PORT of its head, or"
    " nothing for one on this machine alone. A worker has a GPU, or four cores (--set threads=4). Needs vderain[ray].",
)  # fmt: skip
@click.option("--retry-failed", is_flag=True, help="Retry clips that were set aside after failing.")
@options_of(
    RunOptions,
    EngineOptions,
    EncodeOptions,
    leave_out=("start_s", "duration_s", "sequence", "pipe_format"),
)
@click.option(
    "--quiet", "-q", is_flag=True, help="No progress bar; print failures and losses only."
)
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

    Each SRC is a clip, or a folder that is searched with all its subfolders. Clips that are done are skipped.
    A batch that was stopped or killed resumes when the same command is given again: clips are processed in
    segments, and only the current segment is lost. A clip appears in DST when it is complete and verified.

    \b
    vderain batch dashcam/ dry/
    vderain batch dashcam/ dry/ --include '*_F.mp4' --order newest --watch
    vderain batch dashcam/ dry/ --dry-run
    vderain batch /mnt/dashcam /mnt/dry --ray=head:6379
    """
    from vderain.batch.clips.find import read_list
    from vderain.batch.derain_archive import derain_archive, plan_archive

    if ray is not None:  # first, since --ray takes a folder behind it for an address
        from vderain.batch.ray.cluster import check_address

        check_address(ray)
    sources, target = _sources(paths, listed is not None)
    named = read_list(listed.read()) if listed else []
    if listed and not (named or sources):
        raise SourceError("the list names no clip; nothing is done")
    chosen: dict[str, Any] = {
        "listed": named,
        "include": include,
        "exclude": exclude,
        "batch": pick(BatchOptions, values),
        "run": pick(RunOptions, values),
        "engine": pick(EngineOptions, values),
        "encode": pick(EncodeOptions, values),
        "retry_failed": retry_failed,
    }
    with _Bar(hidden=quiet or dry_run) as bar:
        if dry_run:
            planned = plan_archive(sources, target, **chosen, on_event=bar.show)
            click.echo("\n".join(map(one_line, _plan_lines(planned, target))))
            sys.exit(3 if planned.left_out else 0)
        try:
            report = derain_archive(
                sources, target, **chosen, watch=watch, ray=ray,
                on_event=bar.show, on_progress=bar.update, spell=as_flags,
            )  # fmt: skip
        except KeyboardInterrupt:
            if bar.was_interrupted:  # and has said so
                sys.exit(INTERRUPTED)
            raise
    if not quiet:
        click.echo(_summary(report), err=True)
    sys.exit(report.exit_code)


def _sources(paths: tuple[Path, ...], is_listed: bool) -> tuple[list[Path], Path]:
    """What to read, besides what a list names, and the target."""
    *sources, target = paths
    if not sources and not is_listed:
        raise OptionError(f"{target}: is the target; name the clips or their folder before it")
    if os.path.exists(target) and not target.is_dir():
        raise OptionError(f"{target}: is a file; the last argument is the folder to write to")
    return sources, target


def _plan_lines(planned: BatchPlan, target: Path) -> list[str]:
    """What --dry-run prints."""
    ahead, needed = planned.clips, planned.estimate
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
    enough = f"{target}: {planned.free_bytes / 1e9:.1f} GB are free, enough"
    return [*lines, planned.shortage or enough]


def _summary(report: BatchReport) -> str:
    parts = [f"{_clips(len(report.done))} derained in {timedelta(seconds=round(report.seconds))}"]
    parts += [f"{len(report.skipped)} skipped"] if report.skipped else []
    if report.failed:
        parts.append(f"{len(report.failed)} set aside; --retry-failed tries them again")
    died = report.workers_died
    parts += [f"{died} worker{'' if died == 1 else 's'} died"] if died else []
    return f"{report.target}: " + ", ".join(parts)


def _clips(count: int) -> str:
    return f"{count} clip{'' if count == 1 else 's'}"


class _Bar:
    """Share of the work done and time left; a line for each clip that did not simply succeed.

    Where no terminal shows the bar, each clip has its line.
    """

    def __init__(self, *, hidden: bool) -> None:
        self.was_interrupted = False
        self._hidden = hidden
        self._bar = tqdm(
            total=100, bar_format="{percentage:3.0f}% |{bar}| {desc}",
            disable=True if hidden else None, dynamic_ncols=True,
        )  # fmt: skip

    def __enter__(self) -> _Bar:
        return self

    def __exit__(self, *_: object) -> None:
        self._bar.close()

    def show(self, event: BatchEvent) -> None:
        """Print an event above the bar, if it is worth a line."""
        self.was_interrupted |= event.kind == "interrupted"
        if event.kind in ("interrupted", "error"):
            self._bar.close()
            click.echo(one_line(as_flags(f"vderain: {event.text}")), err=True)
        elif self._is_shown(event):
            name = "" if event.path is None else f"{event.path}: "
            advice = f", and is left out; {_LEFT_OUT}" if event.kind == "left out" else ""
            said = as_flags(f"vderain: {name}{event.text}{advice}")
            tqdm.write(one_line(said), file=sys.stderr)

    def _is_shown(self, event: BatchEvent) -> bool:
        if event.kind == "left out":  # a loss, reported with --quiet too
            return True
        if event.kind == "notice":
            return not self._hidden
        is_news = event.text != "done" or self._bar.disable  # a log has no bar that counts
        return is_news and (not self._hidden or "failed" in event.text or "loss" in event.text)

    def update(self, progress: BatchProgress) -> None:
        """Show how far the batch is."""
        left = "" if progress.eta_s is None else f"{timedelta(seconds=round(progress.eta_s))} left"
        rate = f"{progress.frames_per_s:.1f} fps, limited by {progress.limiting_stage}"
        parts = [f"{progress.done} of {_clips(progress.clips)}", left]
        parts += [rate] if progress.limiting_stage else []
        self._bar.set_description_str(", ".join(filter(None, parts)), refresh=False)
        self._bar.n = round(100 * progress.share)
        self._bar.refresh()
