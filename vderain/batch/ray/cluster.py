"""Connects to a Ray cluster within bounded time, ends cleanly and keeps Ray's messages off the terminal."""

from __future__ import annotations

import importlib
import importlib.util
import logging
import os
import secrets
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import closing, contextmanager
from typing import Any

from vderain.errors import OptionError

LOCAL = "local"  # a new cluster on this machine
FOUND = "auto"  # the cluster that this machine is part of
_CONNECT_S = 5.0
_REPLY_S = 45.0
_STORE_BYTES = 80_000_000  # jobs and records are small; Ray's minimum is 75 MB
# Ray itself tries for minutes, writes to the terminal and may end the process.
_CONNECT = """
import logging, sys, ray
try:
    ray.init(address=sys.argv[1], log_to_driver=False, logging_level=logging.CRITICAL)
except Exception as error:
    sys.exit("no: " + (str(error).strip() or type(error).__name__).splitlines()[0])
"""


def ray_module(address: str = FOUND) -> Any:
    """The package; takes seconds. Raises OptionError where it is not installed."""
    if importlib.util.find_spec("ray") is None:
        raise OptionError("Ray is not installed: pip install 'vderain[ray]'")
    if address == LOCAL and "ray" not in sys.modules:  # Ray reads these when it is imported
        # The ports of a cluster are open to the network: without this, anybody there could run programs.
        os.environ.setdefault("RAY_AUTH_MODE", "token")
        os.environ.setdefault("RAY_AUTH_TOKEN", secrets.token_hex(32))
    import ray

    return ray


def check_address(address: str) -> None:
    """Raise OptionError where an address is invalid or does not respond; needs no Ray."""
    if address in (LOCAL, FOUND):
        return
    host, colon, port = address.rpartition(":")
    if not (colon and host and "/" not in host and port.isdigit()):
        raise OptionError(
            f"ray={address!r}: is no address; give ray={LOCAL!r}, ray={FOUND!r}, or ray='HOST:PORT' of the"
            " cluster's head"
        )
    try:
        with closing(socket.create_connection((host, int(port)), timeout=_CONNECT_S)):
            pass
    except (OSError, OverflowError) as error:
        raise OptionError(
            f"ray={address!r}: no cluster responds there ({error}); start one with: ray start --head"
        ) from None


@contextmanager
def connected(address: str, cores: int | None = None) -> Iterator[None]:
    """Connect to a cluster for the block; a new local one has this many cores and ends with the block.

    A connection that the process already has is used and kept. Raises OptionError where there is no usable
    cluster.
    """
    ray = ray_module(address)
    if ray.is_initialized():
        with _muted():
            yield
        return
    quiet: dict[str, Any] = {"log_to_driver": False, "logging_level": logging.CRITICAL}
    # No usage reports are sent, and CPU workers need no variable for their GPUs.
    given = {"RAY_USAGE_STATS_ENABLED": "0", "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0"}
    if address == LOCAL:
        quiet |= {"include_dashboard": False, "object_store_memory": _STORE_BYTES}
        quiet["num_cpus"] = cores
    with _environment(given), _muted():
        if address != LOCAL:
            check_connection(address)
        try:
            with _same_signals():
                ray.init(address=address, **quiet)
        except (OSError, RuntimeError, ValueError) as error:
            raise _unusable(address, first_sentence(str(error))) from None
        try:
            yield
        finally:
            ray.shutdown()


def first_sentence(reason: str) -> str:
    """The first line that is not empty; Ray writes many."""
    line = next((line.strip() for line in reason.splitlines() if line.strip()), "no reason given")
    return line.partition(". ")[0].rstrip(".:")


def check_connection(address: str) -> None:
    """Connect from another process, which can be ended when it takes too long. Raises OptionError."""
    command = [sys.executable, "-c", _CONNECT, address]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=_REPLY_S)
    except subprocess.TimeoutExpired:
        raise _unusable(address, f"nothing of Ray responds within {_REPLY_S:.0f} s") from None
    if done.returncode:
        said = [line for line in done.stderr.splitlines() if line.startswith("no: ")]
        reason = said[-1].removeprefix("no: ") if said else "the connection failed"
        raise _unusable(address, first_sentence(reason))


def _unusable(address: str, reason: str) -> OptionError:
    return OptionError(
        f"ray={address!r}: no cluster can be used ({reason}); run this on a machine of the cluster"
    )


@contextmanager
def _environment(given: dict[str, str]) -> Iterator[None]:
    """Set variables for Ray's processes within the block."""
    before = {name: os.environ.get(name) for name in given}
    os.environ.update(given)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value


@contextmanager
def _same_signals() -> Iterator[None]:
    """Keep the handler of SIGTERM, which Ray replaces."""
    handler = signal.getsignal(signal.SIGTERM)
    try:
        yield
    finally:
        if threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGTERM, handler)


@contextmanager
def _muted() -> Iterator[None]:
    """Keep Ray's messages on dead workers off the standard output; Ray has no public switch for it."""
    worker: Any = importlib.import_module("ray._private.worker")
    before = getattr(worker, "_worker_logs_enabled", True)
    worker._worker_logs_enabled = False
    try:
        yield
    finally:
        worker._worker_logs_enabled = before
