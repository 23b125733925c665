"""``vderain run``: the main job."""

from __future__ import annotations

import sys
from dataclasses import fields
from pathlib import Path
from typing import Any

import click
from tqdm import tqdm

from vderain.api import derain_file
from vderain.cli.cameras.live import FOR_FILES
from vderain.cli.options import REPORT, OptionsCommand, given, options_of, pick
from vderain.cli.terminal import one_line
from vderain.cli.wording import as_flags, flag_of
from vderain.diagnostics.hints import encoding_hint
from vderain.errors import OptionError
from vderain.live.options import LiveOptions
from vderain.media.io.urls import (
    check_slashes,
    is_device,
    is_live_output,
    is_live_url,
    is_url,
    shown,
)
from vderain.options import EncodeOptions, EngineOptions, RunOptions
from vderain.pipeline import Progress
from vderain.report import RunReport, check_report_path, write_report

_LONG_RUN_S = 3600.0
_IS_FOR_LIVE = "is for live cameras; use vderain live"
_LIVE_FLAGS = ("--live", "--port", "--log", *(flag_of(item.name) for item in fields(LiveOptions)))


@click.command(cls=OptionsCommand, elsewhere=dict.fromkeys(_LIVE_FLAGS, _IS_FOR_LIVE))
@click.argument("rainy")
@click.argument("dry", nargs=-1, required=True)
@options_of(RunOptions, EngineOptions, EncodeOptions)
@REPORT
@click.option("--quiet", "-q", is_flag=True, help="No progress bar, no summary.")
def run(rainy: str, dry: tuple[str, ...], report: Path | None, quiet: bool, **values: Any) -> None:
    """Take the rain out of RAINY and write the same video to DRY.

    RAINY is a video, an image or a folder of images; "-" reads y4m or Matroska from standard input.
    DRY is a file of the same kind; "-" writes to standard output. Audio, subtitles, chapters and all
    other tracks are copied.

    \b
    vderain run rainy.mp4 dry.mp4
    vderain run rainy.mp4 dry.mp4 --duration 10      # try ten seconds of a long file

    For a camera (rtsp, rtmp, udp, /dev/video0) this is vderain live with the defaults for cameras.
    """
    for path in (rainy, *dry):
        check_slashes(path)
    live_outputs = [path for path in dry if is_live_output(path)]
    if is_live_url(rainy) or is_device(rainy) or (live_outputs and is_url(rainy)):
        _run_live(rainy, dry, report, quiet, values)
        return
    if live_outputs:
        raise OptionError(
            f"{shown(live_outputs[0])}: is for live video; vderain live plays {shown(rainy)} like a"
            " camera, at its own rate"
        )
    if len(dry) > 1:
        raise OptionError(f"{dry[1]}: only a live camera has several outputs; name one")
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
        write_report(report, result.to_dict(), as_flags)
    if not quiet:
        click.echo(as_flags(summary(result)), err=True)
    sys.exit(result.exit_code)


def _run_live(
    rainy: str, dry: tuple[str, ...], report: Path | None, quiet: bool, values: dict[str, Any]
) -> None:
    """Derain a camera with the defaults of ``vderain live``; ends the process."""
    from vderain.cli.cameras.station import Reporting, derain_camera
    from vderain.live.station import CameraPlan

    for name in FOR_FILES:
        if given(name):
            raise OptionError(f"{flag_of(name)} is for files; leave it out for a live camera")
    name = shown(rainy) if is_url(rainy) else rainy
    live = pick(LiveOptions, values)  # what cameras and files both take
    plan = CameraPlan(name, rainy, dry, live, pick(EncodeOptions, values))
    engine, options = pick(EngineOptions, values), pick(RunOptions, values)
    derain_camera(plan, engine, options, Reporting(report, quiet=quiet))


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
    if hint := encoding_hint(report):
        lines[0] += f"; {hint}"
    for spec in report.engines[:1]:
        why = f" ({spec.tier_reason})" if spec.tier_reason else ""
        lines.append(
            f"engine: {spec.name} {spec.precision} on {spec.device}, tier {spec.tier}{why}"
        )
    if report.tracks_copied:
        lines.append("copied: " + ", ".join(report.tracks_copied))
    notes = dict.fromkeys(
        [*report.notes, *(note for spec in report.engines for note in spec.notes)]
    )
    lines += [f"note: {note}" for note in notes]
    lines += [f"loss: {loss}" for loss in report.losses]
    return "\n".join(map(one_line, lines))
