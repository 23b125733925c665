"""Checks that an RTSP receiver responds before FFmpeg connects to it.

PyAV holds Python's lock while an output connects: a receiver that accepts and stays silent would stop all
cameras, and the threads that supervise them. Python's own sockets do not hold the lock. RTMP connects in a
thread of FFmpeg's instead (see ``muxed``), since some of its receivers accept only one connection.
"""

from __future__ import annotations

import socket
import ssl
from contextlib import suppress
from urllib.parse import SplitResult, urlsplit

from vderain.errors import OptionError, SinkError
from vderain.media.io.urls import escaped_login, shown

TLS_SCHEMES = ("rtsps", "https", "rtmps")
_PORTS = {"rtsp": 554, "rtsps": 322}


def tls_options(url: str, ca_file: str | None) -> dict[str, str]:
    """FFmpeg's options for certificates; by default it accepts any."""
    if ca_file is None or url.split("://", 1)[0].lower() not in TLS_SCHEMES:
        return {}
    return {"tls_verify": "1", "ca_file": ca_file}


def unchecked_login(url: str, ca_file: str | None) -> str | None:
    """A warning where a login is sent without a check of the certificate, else None."""
    has_login = shown(url) != escaped_login(url)
    if ca_file is not None or not has_login or url.split("://", 1)[0].lower() not in TLS_SCHEMES:
        return None
    return (
        f"{shown(url)}: its certificate is not checked, so any server that responds there gets the login;"
        " name those to trust with ca_file='FILE'"
    )


def check_ca_file(ca_file: str | None) -> None:
    """Raise OptionError for a file without certificates."""
    if ca_file is None:
        return
    try:
        ssl.create_default_context(cafile=ca_file)
    except ssl.SSLError:
        raise OptionError(f"ca_file={ca_file!r}: holds no certificates in PEM form") from None
    except OSError as error:
        raise OptionError(f"ca_file={ca_file!r}: cannot be read: {error.strerror}") from None


def reach(url: str, name: str, timeout_s: float, ca_file: str | None = None) -> None:
    """Return once an RTSP receiver has responded; for other schemes, once the host is resolved.

    Raises SinkError, in which the receiver is called ``name``.
    """
    try:
        place = urlsplit(escaped_login(url))
        scheme = place.scheme.lower()
        if scheme not in _PORTS:
            socket.getaddrinfo(place.hostname, place.port)
            return
        port = place.port or _PORTS[scheme]
        with socket.create_connection((place.hostname or "", port), timeout_s) as connection:
            if scheme in TLS_SCHEMES:
                context = _tls_context(ca_file)
                with context.wrap_socket(connection, server_hostname=place.hostname) as secured:
                    _greet(secured, place, port)
            else:
                _greet(connection, place, port)
    except (OSError, ValueError) as error:
        raise SinkError(f"{name}: {_reason(error)}") from None


class TcpReceiver:
    """A file object that writes to a TCP connection. Raises OSError, also where it cannot connect."""

    def __init__(self, url: str, timeout_s: float) -> None:
        place = urlsplit(url)
        if place.port is None:
            raise OSError(None, "its address has no port")
        self._socket = socket.create_connection((place.hostname or "", place.port), timeout_s)

    def write(self, data: bytes) -> int:
        """Send all data, or raise where that takes longer than the timeout."""
        self._socket.sendall(data)
        return len(data)

    def close(self) -> None:
        """End the connection."""
        self._socket.close()


def _greet(connection: socket.socket, place: SplitResult, port: int) -> None:
    """Send a client's first request, and wait for the first byte of a response."""
    host = f"[{place.hostname}]" if ":" in (place.hostname or "") else place.hostname
    address = f"{place.scheme}://{host}:{port}{place.path or '/'}"
    connection.sendall(f"OPTIONS {address} RTSP/1.0\r\nCSeq: 1\r\n\r\n".encode())
    if not connection.recv(1):
        raise ConnectionResetError(None, "closes the connection at once")
    with suppress(OSError):
        connection.shutdown(socket.SHUT_RDWR)


def _tls_context(ca_file: str | None) -> ssl.SSLContext:
    context = ssl.create_default_context(cafile=ca_file)
    if ca_file is None:
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    return context


def _reason(error: Exception) -> str:
    """The error in words, without the address."""
    if isinstance(error, ssl.SSLCertVerificationError):
        return f"its certificate is not accepted: {error.verify_message}"
    if isinstance(error, TimeoutError):
        return "does not respond in time"
    return getattr(error, "strerror", None) or "its address cannot be understood"
