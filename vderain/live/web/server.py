"""The web page and what it reads; metrics and health. No path of a request reaches the file system."""

from __future__ import annotations

import asyncio
import errno
import importlib.resources
import socket
import threading
import time
from collections.abc import Callable
from dataclasses import asdict
from typing import Any

import uvicorn
from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.routing import Route

from vderain.errors import OptionError
from vderain.live.preview import WIDTHS, Pair
from vderain.live.session import CameraSession
from vderain.live.station import Station
from vderain.live.web.access import Guard, is_loopback
from vderain.live.web.connections import MOST, TimedConnection
from vderain.live.web.status import camera_status, unready
from vderain.live.web.telemetry import CONTENT_TYPE, metrics_text
from vderain.pages.render import render

_WAIT_S = 2.0  # for a newer frame, before the page gets the reply that there is none
_POLL_S = 0.02
_PAGE = {"/": ("index.html", "text/html"), "/app.js": ("app.js", "text/javascript")}


def build_app(station: Station, *, token: str | None) -> Starlette:
    """The web application over running cameras."""
    views = _Views(station)
    files = importlib.resources.files("vderain.live.web") / "page"
    routes = [
        Route(path, _constant((files / name).read_bytes(), kind))
        for path, (name, kind) in _PAGE.items()
    ]
    routes.append(Route("/style.css", _constant(render("live.css").encode(), "text/css")))
    routes += [
        Route("/api/cameras", views.cameras),
        Route("/api/cameras/{index}/pair.jpg", views.pair),
        Route("/api/cameras/{index}/still.png", views.still),
        Route("/metrics", views.metrics),
        Route("/healthz", views.health),
        Route("/readyz", views.ready),
    ]
    return Starlette(routes=routes, middleware=[Middleware(Guard, token=token)])


def check_address(host: str, token: str | None) -> None:
    """Raise OptionError for an address that others can reach, without a token of some length."""
    if not is_loopback(host) and not token:
        raise OptionError(
            f"host={host!r}: others can reach this address, so a token is needed; set VDERAIN_TOKEN"
            " to a long random word, or use host='127.0.0.1'"
        )
    if token and len(token) < 12:
        raise OptionError("the token is too short: take at least 12 characters")
    if token and not (token.isascii() and token.isprintable() and " " not in token):
        raise OptionError(
            "the token holds characters that a header does not carry: take letters and digits"
        )


class PageServer:
    """Serves the page from a thread. Raises OptionError where the port is taken."""

    def __init__(self, station: Station, host: str, port: int, token: str | None) -> None:
        check_address(host, token)
        self._host, self._token = host, token
        config = uvicorn.Config(
            build_app(station, token=token),
            host=host,
            port=port,
            log_config=None,
            access_log=False,  # addresses hold the token once
            ws="none",
            server_header=False,
            timeout_graceful_shutdown=2,
            limit_concurrency=MOST,
            http=TimedConnection,
            h11_max_incomplete_event_size=16_384,
        )
        self._server = uvicorn.Server(config)
        self._socket = _listen(host, port)
        self.port = self._socket.getsockname()[1]
        self._thread = threading.Thread(target=self._serve, name="vderain-web", daemon=True)

    @property
    def address(self) -> str:
        """For people."""
        host = f"[{self._host}]" if ":" in self._host else self._host
        return f"http://{host}:{self.port}/" + ("?token=..." if self._token else "")

    def start(self) -> None:
        """Start to serve."""
        self._thread.start()

    def stop(self) -> None:
        """End; requests under way get two seconds."""
        self._server.should_exit = True
        self._thread.join(timeout=5.0)
        self._socket.close()

    def _serve(self) -> None:
        self._server.run(sockets=[self._socket])


def _listen(host: str, port: int) -> socket.socket:
    """A socket on which visitors wait from here on instead of being refused. Raises OptionError."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        return socket.create_server((host, port), family=family)
    except OSError as error:
        if error.errno == errno.EADDRINUSE:
            raise OptionError(
                f"port={port}: is in use by another program; choose another, or 0 for any"
            ) from None
        reason = (error.strerror or str(error)).partition(" (while")[0]
        raise OptionError(
            f"port={port}: the page cannot be served at {host} ({reason}); choose another port or host"
        ) from None


class _Views:
    """The responses; images are made in threads, each camera and frame once."""

    def __init__(self, station: Station) -> None:
        self._station = station

    async def cameras(self, request: Request) -> Response:
        """What is known of every camera."""
        known = [asdict(camera_status(i, s)) for i, s in enumerate(self._station.sessions)]
        return JSONResponse({"cameras": known})

    async def pair(self, request: Request) -> Response:
        """The newest frame, rainy above dry, once it is newer than ``?after``; 204 where none comes."""
        session = self._session(request)
        if session is None:
            return _missing()
        after = _number(request, "after", -1)
        width = min(WIDTHS, key=lambda known: abs(known - _number(request, "width", WIDTHS[1])))
        pair = await _newer(session, after)
        if pair is None:
            return Response(status_code=204)
        data = await run_in_threadpool(session.preview.stacked_jpeg, pair, width)
        frame = pair.frame
        headers = {
            "x-vderain-frame": str(pair.number),
            "x-vderain-tier": frame.tier,
            "x-vderain-passed": "1" if frame.derained is None else "0",
            "x-vderain-age-ms": str(round(1000 * (time.monotonic() - frame.arrived_s))),
        }
        return Response(data, media_type="image/jpeg", headers=headers)

    async def still(self, request: Request) -> Response:
        """The newest frame in full size, rainy on the left."""
        session = self._session(request)
        pair = session.preview.pair if session is not None else None
        if session is None or pair is None:
            return _missing()
        data = await run_in_threadpool(session.preview.still_png, pair)
        stamp = time.strftime("%Y%m%d-%H%M%S")
        name = f"vderain-camera-{_index(request) + 1}-{stamp}.png"
        headers = {"content-disposition": f'attachment; filename="{name}"'}
        return Response(data, media_type="image/png", headers=headers)

    async def metrics(self, request: Request) -> Response:
        """For Prometheus."""
        return Response(metrics_text(self._station), media_type=CONTENT_TYPE)

    async def health(self, request: Request) -> Response:
        """Whether the process lives."""
        return PlainTextResponse("ok\n")

    async def ready(self, request: Request) -> Response:
        """Whether every camera shows a frame of the last seconds."""
        count = unready(self._station)
        text = "ready\n" if not count else f"{count} of {len(self._station.sessions)} not ready\n"
        return PlainTextResponse(text, 503 if count else 200)

    def _session(self, request: Request) -> CameraSession | None:
        index, sessions = _index(request), self._station.sessions
        return sessions[index] if 0 <= index < len(sessions) else None


async def _newer(session: CameraSession, after: int) -> Pair | None:
    until_s = time.monotonic() + _WAIT_S
    while True:
        pair = session.preview.pair
        if pair is not None and pair.number != after:
            return pair
        if time.monotonic() >= until_s:
            return None
        await asyncio.sleep(_POLL_S)


def _constant(data: bytes, kind: str) -> Callable[[Request], Any]:
    """A view of bytes that do not change while the server runs."""

    async def view(request: Request) -> Response:
        return Response(data, media_type=kind)

    return view


def _number(request: Request, name: str, otherwise: int) -> int:
    """A number from the address; anything else counts as not given."""
    return _whole(request.query_params.get(name, ""), otherwise)


def _index(request: Request) -> int:
    """Which camera the path names; -1 for what is no number."""
    return _whole(request.path_params["index"], -1)


def _whole(text: str, otherwise: int) -> int:
    """Python refuses to read numbers of thousands of digits, so no long ones are read."""
    return int(text) if text.isascii() and text.isdigit() and len(text) < 16 else otherwise


def _missing() -> Response:
    return PlainTextResponse("there is no such camera, or no frame yet\n", 404)
