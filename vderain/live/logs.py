"""The log of a live process: lines for people, or one JSON object per line; never a password."""

from __future__ import annotations

import json
import logging
import sys
import time
from collections.abc import Callable
from typing import Literal

from vderain.media.io.urls import redact

LogKind = Literal["text", "json"]
_FIELDS = ("camera", "output", "state", "was", "tier", "flag")


class _Text(logging.Formatter):
    def __init__(self, spell: Callable[[str], str]) -> None:
        super().__init__()
        self._spell = spell

    def format(self, record: logging.LogRecord) -> str:
        """``12:00:00 gate is running``."""
        stamp = time.strftime("%H:%M:%S", time.localtime(record.created))
        level = "" if record.levelno <= logging.INFO else f"{record.levelname.lower()}: "
        message = self._spell(record.getMessage()).replace("\n", "\\n")
        return redact(f"{stamp} {level}{message}")


class _Json(logging.Formatter):
    def __init__(self, spell: Callable[[str], str]) -> None:
        super().__init__()
        self._spell = spell

    def format(self, record: logging.LogRecord) -> str:
        """One object; ``time`` is UTC, ISO 8601."""
        stamp = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(record.created))
        line = {
            "time": f"{stamp}.{int(record.msecs):03d}Z",
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": redact(self._spell(record.getMessage())),
        }
        fields = {name: getattr(record, name) for name in _FIELDS if hasattr(record, name)}
        line |= {name: redact(str(value)) for name, value in fields.items()}
        if record.exc_info:
            line["error"] = redact(self.formatException(record.exc_info))
        return json.dumps(line, ensure_ascii=False)


def log_to_stderr(kind: LogKind, *, quiet: bool = False, spell: Callable[[str], str] = str) -> None:
    """Send the log of vderain to standard error; ``quiet`` leaves warnings and errors.

    ``spell`` spells the options in messages as the reader knows them.
    """
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter((_Json if kind == "json" else _Text)(spell))
    logger = logging.getLogger("vderain")
    logger.handlers = [handler]
    logger.propagate = False
    logger.setLevel(logging.WARNING if quiet else logging.INFO)
