"""``vderain run``: the main job."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import click
from tqdm import tqdm

from vderain.api import derain_file
from vderain.cli.options import options_of, pick
from vderain.options import EncodeOptions, EngineOptions, RunOptions
from vderain.pipeline import Progress
from vderain.report import RunReport, check_report_path, write_report

_LONG_RUN_S = 3600.0


@click.command()
@click.argument("rainy")
@click.argument("dry")
@options_of(RunOptions, EngineOptions, EncodeOptions)
@click.option(
    "--report",
    type=click.Path(dir_okay=False, path_type=Path),
    help="Write the run's report here, as JSON.",
)
@click.option("--quiet", "-q", is_flag=True, help="No progress bar, no summary.")
def run(rainy: str, dry: str, report: Path | None, quiet: bool, **values: Any) -> None:
    """Take the rain out of RAINY and write the same video to DRY.

    RAINY is a video, a picture or a folder of pictures; "-" reads y4m or Matroska from standard input.
    DRY is a file of the same kind; "-" writes to standard output. Audio, subtitles, chapters and all
    other tracks are copied.

    \b
    vderain run rainy.mp4 dry.mp4
    vderain run rainy.mp4 dry.mp4 --duration 10      # try ten seconds of a long file
    """
    if report is not None:
        check_report_path(report, rainy, dry)
    with _ProgressBar(hidden=quiet) as bar:
        result = derain_file(
            rainy,
            dry,
            run=pick(RunOptions, values),
            engine=pick(EngineOptions, values),
            encode=pick(EncodeOptions, values),
            on_progress=bar.update,
        )
    if report is not None:
        write_report(report, result)
    if not quiet:
        click.echo(summary(result), err=True)
    sys.exit(result.exit_code)


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
