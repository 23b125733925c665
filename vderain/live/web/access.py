"""Access to the page: with a token, or from this machine alone by the names of the loopback."""

from __future__ import annotations

import hmac
import ipaddress

from starlette.requests import Request
from starlette.responses import PlainTextResponse, RedirectResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

_COOKIE = "vderain_token"
_OPEN_PATHS = ("/healthz", "/readyz")  # say nothing but yes or no
_HEADERS = {
    "content-security-policy": "default-src 'none'; script-src 'self'; style-src 'self';"
    " img-src 'self' blob: data:; connect-src 'self'; base-uri 'none'; form-action 'none';"
    " frame-ancestors 'none'",
    "x-content-type-options": "nosniff",
    "x-frame-options": "DENY",
    "referrer-policy": "no-referrer",
    "cache-control": "no-store",
    "cross-origin-resource-policy": "same-origin",
}


def is_loopback(host: str) -> bool:
    """Whether an address or name means this machine alone."""
    if host.lower().rstrip(".") == "localhost":
        return True
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return False


class Guard:
    """ASGI middleware: checks the token, or the ``Host`` header; adds headers to every response.

    With a token, every request needs it: as ``Authorization: Bearer``, as a cookie, or once as
    ``?token=`` in the address, which sets the cookie and vanishes from the address. Without one the
    server listens on the loopback only; the ``Host`` header refuses a page of another site whose name
    resolves to the loopback. Other sites may link to the page and request nothing else: browsers name
    the requesting site in ``Sec-Fetch-Site``.
    """

    def __init__(self, app: ASGIApp, token: str | None) -> None:
        self._app = app
        self._token = token

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Respond, or pass the request on."""
        if scope["type"] != "http":
            if scope["type"] == "lifespan":
                await self._app(scope, receive, send)
            return
        request = Request(scope, receive)
        refusal = self._refusal(request)

        async def send_with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                extra = [(k.encode(), v.encode()) for k, v in _HEADERS.items()]
                message["headers"] = [*message.get("headers", []), *extra]
            await send(message)

        await (refusal or self._app)(scope, receive, send_with_headers)

    def _refusal(self, request: Request) -> Response | None:
        """The response to a request that may not pass, None for one that may."""
        if request.method not in ("GET", "HEAD"):
            return PlainTextResponse("only GET\n", 405, {"allow": "GET, HEAD"})
        site = request.headers.get("sec-fetch-site", "none")
        if site not in ("none", "same-origin") and request.url.path != "/":
            return PlainTextResponse("only this page may ask\n", 403)
        if self._token is None:
            if not is_loopback(_host(request)):
                return PlainTextResponse("this server serves localhost only\n", 421)
            return None
        if request.url.path in _OPEN_PATHS or self._knows(_bearer(request)):
            return None
        if self._knows(request.cookies.get(_COOKIE)):
            return None
        if request.url.path == "/" and self._knows(request.query_params.get("token")):
            response = RedirectResponse("/", 303)
            response.set_cookie(
                _COOKIE, self._token, httponly=True, samesite="strict", path="/",
                secure=request.url.scheme == "https",
            )  # fmt: skip
            return response
        return PlainTextResponse(
            "a token is needed: open /?token=...\n", 401, {"www-authenticate": "Bearer"}
        )

    def _knows(self, token: str | None) -> bool:
        assert self._token is not None
        return token is not None and hmac.compare_digest(token.encode(), self._token.encode())


def _bearer(request: Request) -> str | None:
    kind, _, token = request.headers.get("authorization", "").partition(" ")
    return token.strip() if kind.lower() == "bearer" else None


def _host(request: Request) -> str:
    host = request.headers.get("host", "")
    if host.startswith("["):
        return host.partition("]")[0] + "]"
    return host.partition(":")[0]
