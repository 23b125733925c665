"""What ``vderain run`` and ``vderain serve`` share for live cameras: run until the end or a signal."""

from __future__ import annotations

import logging
import os
import sys
import threading
from typing import TYPE_CHECKING, NoReturn

import click

from vderain.errors import OptionError
from vderain.live.report import output_losses, session_notes
from vderain.live.states import State
from vderain.live.station import Station

if TYPE_CHECKING:
    from vderain.live.server import PageServer

logger = logging.getLogger(__name__)


def open_page(station: Station, host: str, port: int, token: str | None) -> PageServer:
    """The web page of a station, listening but not yet started. Raises OptionError."""
    try:
        from vderain.live.server import PageServer
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
    return "\n".join(lines)


def leave(code: int) -> NoReturn:
    """End the process. Threads that hang in foreign code, left behind or building an engine, go with it.

    The interpreter's own end would free what they use, which aborts. All outputs are complete by now.
    """
    sys.stdout.flush()
    sys.stderr.flush()
    if any(thread.name.startswith("vderain-") for thread in threading.enumerate()):
        os._exit(code)
    sys.exit(code)


def show_summary(station: Station, *, quiet: bool) -> None:
    """Print the summary to standard error."""
    if not quiet:
        click.echo(summary(station), err=True)
