"""``vderain run``: the main job."""

from __future__ import annotations

import sys
from dataclasses import fields
from pathlib import Path
from typing import Any

import click
from click.core import ParameterSource
from tqdm import tqdm

from vderain.api import derain_file
from vderain.cli.options import options_of, pick
from vderain.errors import OptionError
from vderain.live.logs import LogKind
from vderain.live.options import ENCODE_FOR_FILES, LiveOptions
from vderain.media.urls import check_slashes, is_device, is_live_output, is_live_url, is_url, shown
from vderain.options import EncodeOptions, EngineOptions, RunOptions
from vderain.pipeline import Progress
from vderain.report import RunReport, check_report_path, write_report

_LONG_RUN_S = 3600.0
_FOR_LIVE = {"port", "log", *(item.name for item in fields(LiveOptions))}
_FOR_FILES = {"start_s", "decoder", "lookahead", "queue_frames", *ENCODE_FOR_FILES}


@click.command()
@click.argument("rainy")
@click.argument("dry", nargs=-1, required=True)
@options_of(RunOptions, EngineOptions, EncodeOptions)
@options_of(LiveOptions, title="Live cameras: ")
@click.option("--live", is_flag=True, help="Live cameras: take RAINY for one, also a file or http.")
@click.option(
    "--port",
    type=click.IntRange(0, 65535),
    help="Live cameras: also show the page of vderain serve on this port, to this machine only.",
)
@click.option(
    "--log",
    type=click.Choice(["text", "json"]),
    default="text",
    show_default=True,
    help="Live cameras: how events are written to standard error.",
)
@click.option(
    "--report",
    type=click.Path(dir_okay=False, path_type=Path),
    help="Write the run's report here, as JSON.",
)
@click.option("--quiet", "-q", is_flag=True, help="No progress bar, no summary.")
def run(
    rainy: str,
    dry: tuple[str, ...],
    report: Path | None,
    quiet: bool,
    live: bool,
    port: int | None,
    log: LogKind,
    **values: Any,
) -> None:
    """Take the rain out of RAINY and write the same video to DRY.

    RAINY is a video, a picture or a folder of pictures; "-" reads y4m or Matroska from standard input.
    DRY is a file of the same kind; "-" writes to standard output. Audio, subtitles, chapters and all
    other tracks are copied.

    \b
    vderain run rainy.mp4 dry.mp4
    vderain run rainy.mp4 dry.mp4 --duration 10      # try ten seconds of a long file

    A camera (rtsp, rtmp, udp, /dev/video0, http with --live) is derained while it happens, until Ctrl-C. Each
    DRY is a URL to publish to, an HLS playlist, or a folder for recordings; there may be several.

    \b
    vderain run rtsp://camera/stream rtsp://server/dry recordings/ www/dry.m3u8
    """
    for path in (rainy, *dry):
        check_slashes(path)
    live_outputs = [path for path in dry if is_live_output(path)]
    if live or is_live_url(rainy) or is_device(rainy) or (live_outputs and is_url(rainy)):
        _run_live(rainy, dry, report, port, quiet, log, values)
        return
    if live_outputs:
        raise OptionError(
            f"{shown(live_outputs[0])}: is for live video; --live plays {shown(rainy)} like a camera,"
            " at its own pace"
        )
    if len(dry) > 1:
        raise OptionError(f"{dry[1]}: only a live camera has several outputs; name one")
    _refuse(
        _FOR_LIVE,
        f"is for live cameras, and does nothing for {shown(rainy)}; leave it away, or add --live to play"
        " that like a camera",
    )
    output = dry[0]
    if report is not None:
        check_report_path(report, rainy, output)
    with _ProgressBar(hidden=quiet) as bar:
        result = derain_file(
            rainy,
            output,
            run=pick(RunOptions, values),
            engine=pick(EngineOptions, values),
            encode=pick(EncodeOptions, values),
            on_progress=bar.update,
        )
    if report is not None:
        write_report(report, result.to_dict())
    if not quiet:
        click.echo(summary(result), err=True)
    sys.exit(result.exit_code)


def _refuse(names: set[str], reason: str) -> None:
    """Raise OptionError for an option that this run would ignore, also where its value is the default."""
    context = click.get_current_context()
    for option in context.command.params:
        name = option.name or ""
        if name in names and context.get_parameter_source(name) is ParameterSource.COMMANDLINE:
            raise OptionError(f"{option.opts[0]} {reason}")


def _run_live(
    rainy: str,
    dry: tuple[str, ...],
    report: Path | None,
    port: int | None,
    quiet: bool,
    log: LogKind,
    values: dict[str, Any],
) -> None:
    """Derain a camera while it happens; ends the process."""
    from vderain.cli.live import leave, open_page, run_station, show_summary
    from vderain.live.logs import log_to_stderr
    from vderain.live.report import station_report
    from vderain.live.station import CameraPlan, Station

    _refuse(_FOR_FILES, "is for files; leave it away for a live camera")
    options = pick(RunOptions, values)
    name = shown(rainy) if is_url(rainy) else rainy
    plan = CameraPlan(name, rainy, dry, pick(LiveOptions, values), pick(EncodeOptions, values))
    if report is not None:
        check_report_path(report, rainy, *dry)
    log_to_stderr(log, quiet=quiet)
    station = Station([plan], engine=pick(EngineOptions, values), strength=options.strength)
    page = None if port is None else open_page(station, "127.0.0.1", port, None)
    code = run_station(station, options.duration_s, page=page)
    if report is not None:
        write_report(report, station_report(station))
    show_summary(station, quiet=quiet or log == "json")
    leave(code)


class _ProgressBar:
    """Frames, rate, time left and the limiting stage on standard error; warns once of a long run."""

    def __init__(self, *, hidden: bool) -> None:
        self._bar = tqdm(unit=" frames", disable=True if hidden else None, dynamic_ncols=True)
        self._warned = hidden

    def __enter__(self) -> _ProgressBar:
        return self

    def __exit__(self, *_: object) -> None:
        self._bar.close()

    def update(self, progress: Progress) -> None:
        """Show how far the run is."""
        if not self._warned and progress.eta_s is not None and progress.is_steady:
            self._warn(progress.eta_s)
        self._bar.total = progress.frames_total
        self._bar.set_postfix_str(f"limited by {progress.limiting_stage}", refresh=False)
        self._bar.update(progress.frames - self._bar.n)

    def _warn(self, eta_s: float) -> None:
        self._warned = True
        if eta_s > _LONG_RUN_S:
            self._bar.write(
                f"vderain: this will take about {eta_s / 3600:.1f} hours on this machine; "
                "--duration 10 tries ten seconds",
                file=sys.stderr,
            )


def summary(report: RunReport) -> str:
    """The lines that a person reads after a run."""
    lines = [
        f"{report.output}: {report.frames_out} frames in {report.seconds:.1f} s "
        f"({report.frames_per_s:.1f} fps, {report.codec}), limited by {report.limiting_stage}"
    ]
    for spec in report.engines[:1]:
        lines.append(f"engine: {spec.name} {spec.precision} on {spec.device}, tier {spec.tier}")
    if report.tracks_copied:
        lines.append("copied: " + ", ".join(report.tracks_copied))
    notes = dict.fromkeys(
        [*report.notes, *(note for spec in report.engines for note in spec.notes)]
    )
    lines += [f"note: {note}" for note in notes]
    lines += [f"loss: {loss}" for loss in report.losses]
    return "\n".join(lines)
