"""``vderain live``: one live camera."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from vderain.cli.options import LOG, REPORT, OptionsCommand, options_of, pick
from vderain.cli.wording import flag_of
from vderain.live.logs import LogKind
from vderain.live.options import ENCODE_FOR_FILES, LiveOptions
from vderain.media.io.urls import check_slashes, is_url, shown
from vderain.options import EncodeOptions, EngineOptions, RunOptions

FOR_FILES = (
    "start_s",
    "sequence",
    "decoder",
    "decoder_gpu",
    "lookahead",
    "queue_frames",
    "align_threads",
    *ENCODE_FOR_FILES,
)
_IS_FOR_FILES = "is for files; a live camera has no such option"


@click.command(cls=OptionsCommand, elsewhere={flag_of(name): _IS_FOR_FILES for name in FOR_FILES})
@click.argument("addresses", nargs=-1, metavar="URL OUT...")
@click.option(
    "--url-env", metavar="NAME",
    help="Take URL from this environment variable; all addresses of the command line are then OUTs.",
)  # fmt: skip
@click.option(
    "--out-env", metavar="NAME", multiple=True,
    help="Take one more OUT from this environment variable; may be repeated.",
)  # fmt: skip
@options_of(RunOptions, LiveOptions, EngineOptions, EncodeOptions, leave_out=FOR_FILES)
@click.option(
    "--port", type=click.IntRange(0, 65535),
    help="Also show the page of vderain serve on this port, to this machine only.",
)  # fmt: skip
@LOG
@REPORT
@click.option("--quiet", "-q", is_flag=True, help="Only warnings and errors, no summary.")
def live(
    addresses: tuple[str, ...],
    url_env: str | None,
    out_env: tuple[str, ...],
    port: int | None,
    log: LogKind,
    report: Path | None,
    quiet: bool,
    **values: Any,
) -> None:
    """Take the rain out of the live camera at URL until Ctrl-C, and send the result to each OUT.

    URL is rtsp, rtmp, http, udp or a device such as /dev/video0; a file plays like a camera, at its own
    rate. OUT is a URL to publish to, an HLS playlist, or a folder for recordings. Other users of this machine
    can see a command line: take addresses with passwords from the environment.

    \b
    vderain live rtsp://camera/stream rtsp://server/dry
    vderain live rtsp://camera/stream recordings/ www/dry.m3u8 --port 8080
    vderain live --url-env CAMERA recordings/        # CAMERA holds rtsp://user:password@camera/stream
    vderain live clip.mp4 recordings/                # try it without a camera
    """
    from vderain.cli.cameras.station import Reporting, derain_camera
    from vderain.live.config import address_in
    from vderain.live.station import CameraPlan

    if url_env is not None:
        addresses = (address_in(url_env, "--url-env"), *addresses)
    url, *others = addresses or ("",)
    outputs = (*others, *(address_in(name, "--out-env") for name in out_env))
    if not url or not outputs:
        raise click.UsageError(f"Missing argument '{'OUT...' if url else 'URL'}'.")
    for path in (url, *outputs):
        check_slashes(path)
    name = shown(url) if is_url(url) else url
    plan = CameraPlan(name, url, outputs, pick(LiveOptions, values), pick(EncodeOptions, values))
    engine, run = pick(EngineOptions, values), pick(RunOptions, values)
    derain_camera(plan, engine, run, Reporting(report, port, log, quiet))
