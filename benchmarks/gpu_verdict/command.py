"""Runs a Python command of the verdict in a process group of its own, and ends all of it when its time is over."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

_LINES = 60  # of what a command wrote, from its end
_END_S = 10.0  # a process that waits for the driver may not even end when it is killed


@dataclass(frozen=True)
class Ended:
    """How a command ended; ``code`` is its exit code, None where its time was over."""

    code: int | None
    stdout: str
    stderr: str

    @property
    def tail(self) -> str:
        """The end of what it wrote: stack traces of a crash or a hang go to standard error."""
        parts = [*self.stdout.splitlines()[-_LINES:], *self.stderr.splitlines()[-_LINES:]]
        return "\n".join(parts)


def ended(arguments: tuple[str, ...], folder: Path, limit_s: float, threads: int = 0) -> Ended:
    """Run Python with these arguments; with ``threads``, so many of torch's for each process."""
    environment = dict(os.environ)
    if threads:
        environment["OMP_NUM_THREADS"] = str(threads)
    process = subprocess.Popen(
        [sys.executable, *arguments],
        cwd=folder, env=environment, text=True, errors="replace", process_group=0,
        stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    )  # fmt: skip
    try:
        stdout, stderr = process.communicate(timeout=max(0.0, limit_s))
    except subprocess.TimeoutExpired as over:
        _end(process)
        try:
            stdout, stderr = process.communicate(timeout=_END_S)
        except subprocess.TimeoutExpired:
            stdout, stderr = _text(over.stdout), _text(over.stderr)
        return Ended(None, stdout, stderr)
    except BaseException:
        _end(process)
        raise
    return Ended(process.returncode, stdout, stderr)


def _end(process: subprocess.Popen[str]) -> None:
    """End a process with all that it has started, which would go on using the GPU."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)


def _text(wrote: str | bytes | None) -> str:
    """What a command wrote before its time was over, which is bytes also where text is asked for."""
    return wrote.decode(errors="replace") if isinstance(wrote, bytes) else wrote or ""
