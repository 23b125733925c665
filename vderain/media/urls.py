"""What is a URL, how one is opened, and how its secrets stay out of texts."""

from __future__ import annotations

import re

_SCHEME = re.compile(r"^[a-z][a-z0-9+.-]*://", re.IGNORECASE)
# Passwords may hold ':', '/', '?' or '@': everything up to the last '@' of the word is secret.
_USER_INFO = re.compile(r"\b([a-z][a-z0-9+.-]*://)\S*@", re.IGNORECASE)
_SECRET = r"(?:token|key|pas|pw|psw|secret|auth|sig|user|usr|login|credential)"
_SECRET_PARAMETER = re.compile(rf"([?&;][^=&;\s]*{_SECRET}[^=&;\s]*=)[^&;\s'\"]+", re.IGNORECASE)
_URL = re.compile(r"\b[a-z][a-z0-9+.-]*://\S*", re.IGNORECASE)
# Some cameras take them in the path, as in /user=admin_password=..._channel=1.sdp: a value ends
# where the next name begins, since it may hold '_' itself.
_SECRET_IN_PATH = re.compile(
    rf"([a-z0-9.-]*{_SECRET}[\w.-]*=)(?:(?!_[a-z]+=)[^&/;?\s'\"])+", re.IGNORECASE
)
_TIMEOUT_US = "10000000"


def is_url(path: str) -> bool:
    """Whether a path is a network address or another URL rather than a file."""
    return _SCHEME.match(path) is not None


def redact(text: str) -> str:
    """The text with user names, passwords and secret parameters of its URLs replaced."""
    text = _SECRET_PARAMETER.sub(r"\1***", _USER_INFO.sub(r"\1***@", text))
    return _URL.sub(lambda url: _SECRET_IN_PATH.sub(r"\1***", url[0]), text)


def input_options(url: str) -> dict[str, str]:
    """Options that keep FFmpeg from waiting forever for a server (times in microseconds)."""
    scheme = url.split("://", 1)[0].lower()
    if scheme in ("rtsp", "rtsps"):
        return {"rtsp_transport": "tcp", "timeout": _TIMEOUT_US}
    return {"rw_timeout": _TIMEOUT_US}
