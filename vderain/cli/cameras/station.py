"""What the commands for live cameras share: run until the end or a signal."""

from __future__ import annotations

import logging
import os
import sys
import threading
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

import click

from vderain.cli.terminal import one_line
from vderain.cli.wording import as_flags
from vderain.errors import OptionError
from vderain.live.logs import LogKind, log_to_stderr
from vderain.live.report import output_losses, session_notes, station_report
from vderain.live.states import State
from vderain.live.station import CameraPlan, Station
from vderain.options import EngineOptions, RunOptions
from vderain.report import check_report_path, write_report

if TYPE_CHECKING:
    from vderain.live.web.server import PageServer

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Reporting:
    """How a user follows a camera: a JSON report, a page on a port, events, a summary."""

    report: Path | None = None
    port: int | None = None
    log: LogKind = "text"
    quiet: bool = False


def derain_camera(
    plan: CameraPlan, engine: EngineOptions, run: RunOptions, reporting: Reporting
) -> NoReturn:
    """Derain one camera while it happens; ends the process."""
    if reporting.report is not None:
        check_report_path(reporting.report, plan.url, *plan.outputs)
    log_to_stderr(reporting.log, quiet=reporting.quiet, spell=as_flags)
    station = Station([plan], engine=engine, strength=run.strength)
    page = None if reporting.port is None else open_page(station, "127.0.0.1", reporting.port, None)
    code = run_station(station, run.duration_s, page=page)
    finish(station, reporting, code)


def finish(station: Station, reporting: Reporting, code: int) -> NoReturn:
    """Write the report, print the summary, end the process."""
    if reporting.report is not None:
        write_report(reporting.report, station_report(station), as_flags)
    if not reporting.quiet and reporting.log != "json":
        click.echo(as_flags(summary(station)), err=True)
    leave(code)


def open_page(station: Station, host: str, port: int, token: str | None) -> PageServer:
    """The web page of a station, listening but not yet started. Raises OptionError."""
    try:
        from vderain.live.web.server import PageServer
    except ImportError as error:
        raise OptionError(
            f"the page needs {error.name}, which is not installed; pip install 'vderain[live]'"
        ) from error
    return PageServer(station, host, port, token)


def run_station(
    station: Station,
    duration_s: float | None,
    *,
    page: PageServer | None = None,
    stays: bool = False,
) -> int:
    """Run until all cameras have ended, the time is over or a signal comes; returns the exit code.

    With ``stays`` the end of the cameras is no end: the page goes on to show their states. Raises
    SinkError where a local output cannot be written, before anything begins.
    """
    station.make_folders()
    try:
        station.start()
        if page is not None:
            page.start()
            logger.info("the page is at %s", page.address)
        station.wait(duration_s, stays=stays)
    except KeyboardInterrupt:
        pass  # the way to end a camera: what was recorded is completed
    finally:
        if page is not None:
            page.stop()
        station.stop()
    if any(session.connection.state is State.FAILED for session in station.sessions):
        return 1
    return 3 if any(output_losses(session) for session in station.sessions) else 0


def summary(station: Station) -> str:
    """The lines that a person reads at the end."""
    lines = []
    for session in station.sessions:
        counts = session.stats.snapshot()
        frames = counts.frames
        latency = counts.latency.get("emit")
        late = ""
        if latency is not None:
            p50, p95 = (1000 * (latency.percentile(share) or 0) for share in (0.5, 0.95))
            late = f", latency {p50:.0f} ms (95 %: {p95:.0f} ms)"
        lines.append(
            f"{session.name}: {frames.get('decoded', 0)} frames in, {frames.get('derained', 0)}"
            f" derained, {frames.get('passed', 0)} passed through{late}"
        )
        drops = ", ".join(f"{count} {reason}" for reason, count in counts.drops.items())
        lines += [f"dropped: {drops}"] if drops else []
        lines += [f"reconnected: {session.connection.reconnects} times"]
        if session.connection.state is State.FAILED:
            lines.append(f"failed: {session.connection.reason}")
        lines += [f"loss: {loss}" for loss in output_losses(session)]
        lines += [f"note: {note}" for note in session_notes(session)]
    return "\n".join(map(one_line, lines))


def leave(code: int) -> NoReturn:
    """End the process. Threads that hang in foreign code, left behind or building an engine, go with it.

    The interpreter's own end would free what they use, which aborts. All outputs are complete by now.
    """
    sys.stdout.flush()
    sys.stderr.flush()
    if any(thread.name.startswith("vderain-") for thread in threading.enumerate()):
        os._exit(code)
    sys.exit(code)
