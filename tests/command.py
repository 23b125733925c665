"""Commands as a user gives them: in this process, which spares the imports, or in a process of their own.

A process of its own is for signals, pipes, and one whole job of each command.
"""

import contextlib
import logging
import os
import signal
import subprocess
import sys
from unittest.mock import patch

from click.testing import CliRunner

from vderain.cli import main

VDERAIN = (sys.executable, "-m", "vderain")
_TAKEN = (signal.SIGTERM, signal.SIGHUP)  # by ``main``


def vderain(*words, stdin=b"", cwd=".", env=None):
    """Give the command in this process, with ``env`` besides its variables; returns what was said and the code."""
    argv = [VDERAIN[-1], *map(str, words)]
    with (
        _signals_and_log_kept(),
        patch.object(sys, "argv", argv),
        patch.dict(os.environ, env or {}),
        contextlib.chdir(cwd),
        CliRunner().isolation(stdin) as (out, err, _),
    ):
        code = _exit_code()
        sys.stdout.flush()
        sys.stderr.flush()
        said = [stream.getvalue().decode() for stream in (out, err)]
    return subprocess.CompletedProcess(argv, code, *said)


@contextlib.contextmanager
def _signals_and_log_kept():
    handlers = {number: signal.getsignal(number) for number in _TAKEN}
    logger = logging.getLogger("vderain")
    log = logger.handlers, logger.propagate, logger.level
    try:
        yield
    finally:
        for number, handler in handlers.items():
            signal.signal(number, handler)
        logger.handlers, logger.propagate = log[:2]
        logger.setLevel(log[2])


def in_a_process(*words, **settings):
    """Give the command in a process of its own; ``settings`` are those of ``subprocess.run``."""
    command = [*VDERAIN, *map(str, words)]
    return subprocess.run(command, capture_output=True, text="input" not in settings, **settings)


def _exit_code():
    try:
        main()
    except SystemExit as ended:
        return ended.code
    raise AssertionError("the command did not end with an exit code")
