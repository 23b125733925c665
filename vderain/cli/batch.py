"""``vderain batch``: archives of clips."""

from __future__ import annotations

import sys
from contextlib import ExitStack, closing
from datetime import timedelta
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

import click
from tqdm import tqdm

from vderain.batch.options import BatchOptions, Settings
from vderain.cli.options import options_of, pick
from vderain.errors import OptionError
from vderain.options import EncodeOptions, EngineOptions, RunOptions

if TYPE_CHECKING:
    from vderain.batch.archive import Plan
    from vderain.batch.estimate import Estimate
    from vderain.batch.manifest import ClipRow
    from vderain.batch.runner import Batch, Tally

_PATH = click.Path(path_type=Path)
_NAMED = 10  # clips that --dry-run names


@click.command()
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
    """
    from vderain.batch.archive import join_series, open_manifest, pinned, work_through
    from vderain.batch.estimate import estimate
    from vderain.batch.files import WORK_FOLDER, Archive, read_list
    from vderain.batch.gating import RainGating
    from vderain.batch.jobs import InProcess
    from vderain.batch.pace import Pace
    from vderain.batch.report import write_report
    from vderain.batch.runner import Tally
    from vderain.engines import open_engine
    from vderain.weights import find_weights

    sources, target = _sources(paths, read_list(listed.read()) if listed else [])
    settings = Settings(
        pick(BatchOptions, values),
        pick(RunOptions, values),
        pick(EngineOptions, values),
        pick(EncodeOptions, values),
    )
    archive = Archive(sources, target, include=include, exclude=exclude, encode=settings.encode)
    margin = find_weights(settings.engine.tier, settings.engine.weights)[1].config.frames - 1
    pace, code = Pace(), 0
    with ExitStack() as stack:
        place = target
        if dry_run and not (target / WORK_FOLDER).exists():  # nothing is written that was not there
            place = Path(stack.enter_context(TemporaryDirectory()))
        manifest = stack.enter_context(open_manifest(place))
        if retry_failed:
            manifest.forgive()
        engine = stack.enter_context(closing(open_engine(pinned(manifest, settings.engine))))
        if dry_run:
            ahead = _plan(archive, manifest, target, settings)
            folder = place / WORK_FOLDER
            needed = estimate(ahead.waiting, settings, engine, folder, margin=margin)
            click.echo("\n".join(_told(ahead, needed)))
            return
        gating = None
        if settings.batch.gate != "off":
            gating = RainGating(settings.run, settings.encode, engine=engine)
        bar = stack.enter_context(_Bar(pace, hidden=quiet))
        tally = Tally()
        try:
            work_through(
                archive,
                manifest,
                target,
                settings,
                InProcess(engine, bar.update),
                gating=gating,
                margin=margin,
                pace=pace,
                watch=watch,
                tally=tally,
                on_plan=bar.plan,
                on_event=bar.tell,
            )
        finally:  # also of a batch that was stopped
            write_report(target, target, manifest.clips(), seconds=tally.seconds)
        if settings.batch.join and not join_series(manifest, target, bar.tell):
            code = 3
    if not quiet:
        click.echo(_summary(tally, target), err=True)
    sys.exit(max(code, tally.exit_code))


def _sources(paths: tuple[Path, ...], listed: list[Path]) -> tuple[list[Path], Path]:
    """What to read, and the target."""
    *sources, target = [*paths[:-1], *listed, paths[-1]]
    if not sources:
        raise OptionError(f"{target}: is the target; name the clips or their folder before it")
    if target.exists() and not target.is_dir():
        raise OptionError(f"{target}: is a file; the last argument is the folder to write to")
    return sources, target


def _plan(archive: Any, manifest: Any, target: Path, settings: Settings) -> Plan:
    from vderain.batch.archive import plan

    return plan(manifest, target, list(archive.clips()), settings.batch.order)


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


def _summary(tally: Tally, target: Path) -> str:
    parts = [f"{_clips(len(tally.done))} derained in {timedelta(seconds=round(tally.seconds))}"]
    parts += [f"{len(tally.skipped)} skipped"] if tally.skipped else []
    parts += (
        [f"{len(tally.failed)} set aside; --retry-failed tries them again"] if tally.failed else []
    )
    return f"{target}: " + ", ".join(parts)


def _clips(count: int) -> str:
    return f"{count} clip{'' if count == 1 else 's'}"


class _Bar:
    """Share of the work done and time left; a line for each clip that did not simply succeed."""

    def __init__(self, pace: Any, *, hidden: bool) -> None:
        self._pace, self._hidden = pace, hidden
        self._clips = 0
        self._batch: Batch | None = None
        self._bar = tqdm(
            total=100, bar_format="{percentage:3.0f}% |{bar}| {postfix}",
            disable=True if hidden else None, dynamic_ncols=True,
        )  # fmt: skip

    def __enter__(self) -> _Bar:
        return self

    def __exit__(self, *_: object) -> None:
        self._bar.close()

    def plan(self, batch: Batch, ahead: Plan) -> None:
        """So many clips lie ahead."""
        self._batch = batch
        self._clips += len(ahead.waiting)

    def update(self, job: Any, progress: Any) -> None:
        """Frames were derained."""
        if self._batch is None:
            return
        self._batch.progressed(job, progress.frames)
        self._show(f"{progress.frames_per_s:.1f} fps, limited by {progress.limiting_stage}")

    def tell(self, clip: ClipRow, text: str) -> None:
        """What happened to a clip."""
        if text != "done" and (not self._hidden or "failed" in text or "loss" in text):
            self._bar.write(f"vderain: {clip.output}: {text}", file=sys.stderr)
        self._show("")

    def _show(self, rate: str) -> None:
        done = 0 if self._batch is None else len(self._batch.tally.done)
        eta_s = self._pace.eta_s
        left = "" if eta_s is None else f"{timedelta(seconds=round(eta_s))} left"
        said = ", ".join(filter(None, [f"{done} of {_clips(self._clips)}", left, rate]))
        self._bar.set_postfix_str(said, refresh=False)
        self._bar.n = round(100 * self._pace.share)
        self._bar.refresh()
