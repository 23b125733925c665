"""Recognises URLs, prepares them for FFmpeg, and keeps their secrets out of messages."""

from __future__ import annotations

import re
from urllib.parse import quote

from vderain.errors import OptionError

_SCHEME = re.compile(r"^[a-z][a-z0-9+.-]*://", re.IGNORECASE)
# Passwords may hold ':', '/', '?' or '@': everything up to the last '@' of the word is secret.
_USER_INFO = re.compile(r"\b([a-z][a-z0-9+.-]*://)\S*@", re.IGNORECASE)
_SECRET = r"(?:token|key|pas|pw|psw|secret|auth|sig|user|usr|login|credential)"
_SECRET_PARAMETER = re.compile(rf"([?&;][^=&;\s]*{_SECRET}[^=&;\s]*=)[^&;\s'\"]+", re.IGNORECASE)
_URL = re.compile(r"\b[a-z][a-z0-9+.-]*://\S*", re.IGNORECASE)
# Some cameras take them in the path, as in /user=admin_password=..._channel=1.sdp: a value ends where the next
# name begins, since it may hold '_' itself.
_SECRET_IN_PATH = re.compile(
    rf"([a-z0-9.-]*{_SECRET}[\w.-]*=)(?:(?!_[a-z]+=)[^&/;?\s'\"])+", re.IGNORECASE
)
_HOST = r"(?:[\w.-]+|\[[0-9a-fA-F:.%]+\])(?::\d{1,5})?(?=[/?#]|$)"
_PLAIN_ADDRESS = re.compile(rf"[a-z][a-z0-9+.-]*://{_HOST}", re.IGNORECASE)
_WITH_LOGIN = re.compile(
    rf"([a-z][a-z0-9+.-]*://)([^:@/]*)(?::(.*))?@({_HOST}.*)", re.IGNORECASE | re.S
)
_ESCAPE = re.compile(r"%(?![0-9a-fA-F]{2})")
_LIVE_SCHEMES = ("rtsp", "rtsps", "rtmp", "rtmps", "rtp", "udp", "tcp")
_LACKS_SLASH = re.compile(
    rf"([a-z][a-z0-9+.-]+:/|(?:{'|'.join(_LIVE_SCHEMES)}):)(?!/)", re.IGNORECASE
)
_DEVICE = re.compile(r"/dev/video\d+")
_TIMEOUT_US = "10000000"


def is_url(path: str) -> bool:
    """Whether a path is a network address or another URL rather than a file."""
    return _SCHEME.match(path) is not None


def is_live_url(path: str) -> bool:
    """Whether a URL can only be a live source, by its protocol."""
    return is_url(path) and path.split("://", 1)[0].lower() in _LIVE_SCHEMES


def check_slashes(path: str) -> None:
    """Raise OptionError for a URL that lacks a slash: ``rtmp:/host/app``."""
    match = _LACKS_SLASH.match(path)
    if match is not None:  # the rest may hold a password
        begun = match[1].rstrip("/") + "//"
        raise OptionError(
            f"{match[1]}...: looks like a URL that lacks a slash; write {begun}..., or ./{match[1]}... for"
            " a file or a folder"
        )


def is_device(path: str) -> bool:
    """Whether a path is a V4L2 camera of this machine."""
    return _DEVICE.fullmatch(path) is not None


def is_live_output(path: str) -> bool:
    """Whether an output can only be a live one: a URL to publish to, or an HLS playlist."""
    return is_url(path) or path.lower().endswith(".m3u8")


def redact(text: str) -> str:
    """The text with user names, passwords and secret parameters of its URLs replaced."""
    text = _SECRET_PARAMETER.sub(r"\1***", _USER_INFO.sub(r"\1***@", text))
    return _URL.sub(lambda url: _SECRET_IN_PATH.sub(r"\1***", url[0]), text)


def escaped_login(url: str) -> str:
    """The URL with user and password escaped so that FFmpeg finds their end: ``p@ss/w`` as ``p%40ss%2Fw``.

    Escaped characters stay. The password ends at the last ``@`` before a host, unless the address is plain up to
    its path: ``rtsp://host:554/a@b`` has no password.
    """
    match = None if _PLAIN_ADDRESS.match(url) else _WITH_LOGIN.fullmatch(url)
    if match is None:
        return url
    scheme, user, password, rest = match.groups()
    login = _quoted(user) if password is None else f"{_quoted(user)}:{_quoted(password)}"
    return f"{scheme}{login}@{rest}"


def shown(url: str) -> str:
    """A whole URL for messages: as ``redact``, also where its password holds spaces."""
    return redact(escaped_login(url))


def _quoted(part: str) -> str:
    return quote(_ESCAPE.sub("%25", part), safe="%")


def input_options(url: str) -> dict[str, str]:
    """Options that limit how long FFmpeg waits for a server (times in microseconds)."""
    scheme = url.split("://", 1)[0].lower()
    if scheme in ("rtsp", "rtsps"):
        return {"rtsp_transport": "tcp", "timeout": _TIMEOUT_US}
    return {"rw_timeout": _TIMEOUT_US}
