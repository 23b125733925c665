"""``vderain serve``: live cameras with a web page."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from vderain.cli.options import LOG, REPORT, OptionsCommand, options_of, pick
from vderain.cli.wording import as_flags
from vderain.errors import OptionError
from vderain.live.logs import LogKind
from vderain.live.options import ENCODE_FOR_FILES, LiveOptions
from vderain.options import EncodeOptions, EngineOptions


@click.command(cls=OptionsCommand)
@click.argument("cameras", nargs=-1)
@click.option(
    "--url-env", metavar="NAME", multiple=True,
    help="Take the address of one more camera from this environment variable; may be repeated.",
)  # fmt: skip
@click.option("--host", default="127.0.0.1", show_default=True, help="Address to listen on.")
@click.option(
    "--port",
    type=click.IntRange(0, 65535),
    default=8080,
    show_default=True,
    help="Port to listen on; 0 picks a free one.",
)
@click.option(
    "--token",
    envvar="VDERAIN_TOKEN",
    help="Access token; required unless --host is this machine's own address. Prefer the variable"
    " VDERAIN_TOKEN: other users can see command lines.",
)
@click.option(
    "--strength", type=click.FloatRange(0, 1), default=1.0, show_default=True,
    help="Fraction of the rain to remove.",
)  # fmt: skip
@options_of(LiveOptions, EngineOptions, EncodeOptions, leave_out=ENCODE_FOR_FILES)
@LOG
@REPORT
@click.option("--quiet", "-q", is_flag=True, help="Only warnings and errors.")
def serve(
    cameras: tuple[str, ...],
    url_env: tuple[str, ...],
    host: str,
    port: int,
    token: str | None,
    strength: float,
    log: LogKind,
    report: Path | None,
    quiet: bool,
    **values: Any,
) -> None:
    """Derain live cameras and show them on a web page.

    CAMERAS are addresses, or one CAMERAS.toml that also says where each camera's dry stream goes. The page
    shows every camera before and after; /metrics is for Prometheus, /healthz and /readyz are for a supervisor.
    Other users of this machine can see a command line: take addresses with passwords from the environment, by
    --url-env or by url_env in CAMERAS.toml, or write them into a CAMERAS.toml that only you can read.

    \b
    vderain serve rtsp://camera/stream
    vderain serve cameras.toml --port 8080
    """
    from vderain.cli.cameras.station import Reporting, finish, open_page, run_station
    from vderain.live.config import ServeConfig, address_in, camera_name, read_config
    from vderain.live.logs import log_to_stderr
    from vderain.live.station import CameraPlan, Station
    from vderain.report import check_report_path

    engine, encode = pick(EngineOptions, values), pick(EncodeOptions, values)
    live = pick(LiveOptions, values)
    cameras = (*cameras, *(address_in(name, "--url-env") for name in url_env))
    if not cameras:
        raise click.UsageError("Missing argument 'CAMERAS...'.")
    if any(name.lower().endswith(".toml") for name in cameras):
        if len(cameras) > 1:
            raise OptionError("name one .toml file, or addresses of cameras, not both")
        config = read_config(Path(cameras[0]), engine=engine, encode=encode, live=live)
    else:
        plans = (CameraPlan(camera_name(url), url, live=live, encode=encode) for url in cameras)
        config = ServeConfig(tuple(plans), engine)
    if report is not None:
        check_report_path(report, *cameras)
    log_to_stderr(log, quiet=quiet, spell=as_flags)
    station = Station(config.cameras, engine=config.engine, strength=strength)
    page = open_page(station, host, port, token)
    code = run_station(station, None, page=page, stays=True)
    finish(station, Reporting(report, port, log, quiet), code)
