"""Builds an engine in a process of its own, so that a run can begin with another engine meanwhile.

A process can be ended when its engine is no longer needed, and a builder that crashes does not take the run
with it. It writes into the cache, where the run finds the engine.
"""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
import tempfile
from dataclasses import asdict
from typing import Any, Protocol

from vderain.frames import PlaneFormat
from vderain.options import EngineOptions

_TERMINATE_S = 10.0  # until a builder that was asked to terminate is killed
_TAIL_BYTES = 4096  # of a builder's output, searched for its last line


class BackgroundBuild(Protocol):
    """A build in progress."""

    def outcome(self) -> str | None:
        """None during the build; "" once the engine is in the cache, else the reason of the failure."""

    def close(self) -> None:
        """Terminate it if it still runs."""


class ProcessBuild:
    """``python -m vderain.engines.background``, which reads what to build from its standard input."""

    def __init__(self, name: str, options: EngineOptions, fmt: PlaneFormat) -> None:
        self._outcome: str | None = None
        # A pipe is not read before the end, so that a builder with much output would block.
        self._said = tempfile.TemporaryFile()  # noqa: SIM115  # closed by close
        self._process = subprocess.Popen(
            [sys.executable, "-m", "vderain.engines.background"],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=self._said,
            text=True,
            start_new_session=True,  # Ctrl-C reaches the run alone, which ends its builder
        )
        order = {"engine": name, "options": asdict(options), "format": asdict(fmt)}
        assert self._process.stdin is not None
        with contextlib.suppress(BrokenPipeError):  # it died at once; ``outcome`` has the reason
            self._process.stdin.write(json.dumps(order))
            self._process.stdin.close()

    def outcome(self) -> str | None:
        """As the protocol says."""
        code = self._process.poll()
        if code is None or self._outcome is not None:
            return self._outcome
        self._outcome = (self._last_line() or f"its builder ended with code {code}") if code else ""
        return self._outcome

    def close(self) -> None:
        """Terminate the builder and wait for its end."""
        if self._process.poll() is None:
            self._process.terminate()
            try:
                self._process.wait(_TERMINATE_S)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait()
        self._said.close()
        if self._process.stdin is not None:
            with contextlib.suppress(OSError):
                self._process.stdin.close()

    def _last_line(self) -> str:
        size = self._said.seek(0, os.SEEK_END)
        self._said.seek(max(0, size - _TAIL_BYTES))
        lines = self._said.read().decode(errors="replace").strip().splitlines()
        return lines[-1] if lines else ""


def build(order: dict[str, Any]) -> None:
    """Build one engine into the cache; raises what its backend raises."""
    from vderain.engines.registry import make_backend
    from vderain.engines.store.cache import EngineCache
    from vderain.weights import find_weights

    options = EngineOptions(**order["options"])
    weights, card = find_weights(options.tier, options.weights)
    backend = make_backend(order["engine"], weights, card, options, EngineCache())
    backend.open(PlaneFormat(**order["format"])).close()


if __name__ == "__main__":
    from vderain.errors import VderainError

    try:
        build(json.load(sys.stdin))
    except VderainError as error:
        sys.exit(str(error).replace("\n", " "))
