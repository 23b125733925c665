"""Connects to cameras (RTSP, HTTP, UDP, RTMP, V4L2 devices, files), and explains failures in plain words."""

from __future__ import annotations

import errno
import os
import socket
import time
from contextlib import suppress
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

import av

from vderain.errors import LoginError, SourceError, UnusableError
from vderain.media.io.open import check_file, input_name
from vderain.media.io.playlists import NO_LIST, is_list, local_options
from vderain.media.io.urls import escaped_login, is_device, is_url, redact
from vderain.media.live.reach import tls_options

_BACKSTOP_S = 2.0  # added for PyAV's own timeout, where FFmpeg's option has no effect
_ANALYSE_US = "2000000"
_DEVICE_ERRORS = {
    errno.ENOENT: "there is no such device; v4l2-ctl --list-devices shows what there is",
    errno.EACCES: "this user may not open it; it must be in the group video",
    errno.EBUSY: "is in use by another program",
    errno.ENODEV: "its device is gone; plug it in again",
    errno.ENXIO: "its device is gone; plug it in again",
}
_NO_CAMERA = "is no camera that FFmpeg can read (it needs V4L2 with streaming capture)"
_SCHEMES = ("rtsp", "rtsps", "http", "https", "udp", "rtp", "tcp", "rtmp", "rtmps")
_ACCESS_ERRORS = (av.HTTPUnauthorizedError, av.HTTPForbiddenError)


@dataclass(frozen=True, slots=True)
class CameraOptions:
    """How one camera is opened; ``transport`` is auto, tcp or udp, ``max_memory`` of its images in GiB."""

    transport: str = "auto"
    timeout_s: float = 5.0
    audio: bool = True
    ca_file: str | None = None
    max_memory: float | None = None


def check_source(url: str) -> None:
    """Raise an error that waiting does not cure: a missing file, or an unknown protocol.

    Makes no connection: FFmpeg looks up the protocol first, and then finds that it may use none.
    """
    if is_device(url):
        return
    if not is_url(url):
        check_file(url)
        return
    with suppress(av.FFmpegError, OSError, ValueError):
        try:
            av.open(url.split("://", 1)[0].lower() + "://x", options={"protocol_whitelist": "none"})
        except av.ProtocolNotFoundError:
            raise SourceError(
                f"{input_name(url)}: FFmpeg has no such protocol here; use one of {', '.join(_SCHEMES)}"
            ) from None


def connect(url: str, options: CameraOptions) -> Any:
    """The open container of a camera or a file.

    Raises LoginError, SourceError, and UnusableError where waiting does not help.
    """
    name = input_name(url)
    if is_device(url):
        return _open_device(url, name, options.timeout_s)
    if not is_url(url):
        try:
            return _open(url, local_options(url), None, name, options.timeout_s)
        except SourceError as error:  # a file does not change while it is waited for
            raise UnusableError(str(error)) from None
    if url.split("://", 1)[0].lower() not in ("rtsp", "rtsps"):
        return _open_stream(url, name, options)
    try:
        return _open_rtsp(url, name, options, options.transport)
    except _TransportRefusedError:
        if options.transport != "auto":
            raise
    # The server refuses TCP with a reply that FFmpeg does not recognise.
    return _open_rtsp(url, name, options, "udp")


def _open_stream(url: str, name: str, options: CameraOptions) -> Any:
    # The protocol udp has the option timeout, tcp and those above it rw_timeout.
    is_datagrams = url.split("://", 1)[0].lower() in ("udp", "rtp")
    return _open(
        url,
        _network_options(url, options, timeout="timeout" if is_datagrams else "rw_timeout"),
        *(None, name, options.timeout_s),
    )


def _open_rtsp(url: str, name: str, options: CameraOptions, transport: str) -> Any:
    ffmpeg = {"rtsp_transport": transport, **_network_options(url, options, timeout="timeout")}
    if transport == "auto":
        # Both are offered on one connection: some servers reply 503 to the next one for a second.
        ffmpeg |= {"rtsp_transport": "tcp+udp", "rtsp_flags": "prefer_tcp"}
    return _open(url, ffmpeg, "rtsp", name, options.timeout_s)


def _network_options(url: str, options: CameraOptions, *, timeout: str) -> dict[str, str]:
    """FFmpeg's options for a connection; ``timeout`` is the name of the protocol's option."""
    return {
        timeout: str(round(options.timeout_s * 1e6)),
        "analyzeduration": _ANALYSE_US,
        **tls_options(url, options.ca_file),
    }


class _TransportRefusedError(SourceError):
    """The server responds, but refuses the transport."""


def _open(url: str, options: dict[str, str], kind: str | None, name: str, timeout_s: float) -> Any:
    target = escaped_login(url) if is_url(url) else f"file:{url}" if kind is None else url
    backstop_s = timeout_s + _BACKSTOP_S
    began_s = time.monotonic()
    try:
        return av.open(
            target,
            "r",
            format=kind,
            options=options,
            timeout=(backstop_s, backstop_s),
            metadata_errors="surrogateescape",
        )
    except _ACCESS_ERRORS:
        raise LoginError(
            f"{name}: refuses the user name or password; check them in its address"
            " (characters such as @ : / % are written as %40 %3A %2F %25 there)"
        ) from None
    except (av.FFmpegError, OSError) as error:
        if "ca_file" in options and getattr(error, "errno", None) == errno.EIO:
            raise SourceError(
                f"{name}: breaks off, or shows a certificate for another name or that ca_file does"
                " not vouch for"
            ) from None
        if kind is None and not is_url(url) and is_list(url):
            raise SourceError(f"{name}: {NO_LIST}") from None
        # Where the name server did not respond in time, it is not asked again.
        if time.monotonic() - began_s < timeout_s and _lacks_address(url, error):
            raise SourceError(
                f"{name}: the name of its host is not known; check the address and the network"
            ) from None
        failure = _TransportRefusedError if _refuses_transport(error) else SourceError
        raise failure(f"{name}: {reason_of(error)}") from (error if kind == "v4l2" else None)


def _lacks_address(url: str, error: Exception) -> bool:
    """Whether the cause is an unknown host name, which FFmpeg reports as an I/O error."""
    if not is_url(url) or getattr(error, "errno", None) != errno.EIO:
        return False
    with suppress(ValueError, OSError):
        place = urlsplit(escaped_login(url))
        try:
            socket.getaddrinfo(place.hostname, place.port)
        except socket.gaierror:
            return place.hostname is not None
    return False


def _open_device(path: str, name: str, timeout_s: float) -> Any:
    """A V4L2 camera; where it cannot be opened, the error has the system's reason."""
    try:
        os.close(os.open(path, os.O_RDWR | os.O_NONBLOCK))
    except OSError as error:
        words = _DEVICE_ERRORS.get(error.errno or 0, error.strerror)
        raise SourceError(f"{name}: {words}") from None
    try:
        return _open(path, {}, "v4l2", name, timeout_s)
    except SourceError as error:
        busy = errno.EBUSY == getattr(error.__cause__, "errno", None)
        words = _DEVICE_ERRORS[errno.EBUSY] if busy else _NO_CAMERA
        raise SourceError(f"{name}: {words}") from None


def _refuses_transport(error: Exception) -> bool:
    """Whether the server sent RTSP's 461, or offers nothing else."""
    other = getattr(error, "errno", None) == errno.EPROTONOSUPPORT
    return other or isinstance(error, av.HTTPOtherClientError)


def reason_of(error: Exception) -> str:
    """FFmpeg's error in plain words, without the address, which may hold a password."""
    if isinstance(error, av.HTTPNotFoundError):
        return "there is no such stream on that server; check the path of the address"
    if isinstance(error, av.ExitError | av.TimeoutError):
        return "does not respond in time; check the address and the network"
    if isinstance(error, av.InvalidDataError):
        return "sends nothing that can be read, or went silent"
    reason = getattr(error, "strerror", None) or type(error).__name__
    return f"cannot be read ({redact(reason)})"
