"""The errors of vderain as one tree: each message names the file or value, the fault, and what to do.

A message names an option as Python does, ``crf=17`` or ``hdr='keep'``. The command line and configuration files
show it in their own spelling, see ``respell``.
"""

from __future__ import annotations

import re
from collections.abc import Callable

_OPTION = re.compile(r"""(?<![\w./=&?-])([a-z][a-z_]*)=('[^']*'|"[^"]*"|[\w+-]+(?:\.\w+)*)""")


def respell(message: str, spell: Callable[[str, str], str | None]) -> str:
    """A message with its options in another spelling.

    ``spell`` gets name and value, without quotes, and returns None for what is no option.
    """

    def spelled(found: re.Match[str]) -> str:
        name, value = found.groups()
        text = spell(name, value[1:-1] if value[0] in "'\"" else value)
        return found[0] if text is None else text

    return _OPTION.sub(spelled, message)


class VderainError(Exception):
    """Root of all errors that a caller or a user may see; ``exit_code`` is what the command returns."""

    exit_code = 1


class SourceError(VderainError):
    """The input cannot be opened or read."""


class LoginError(SourceError):
    """The other side refuses the user name or the password; many attempts may lock the account."""


class UnusableError(SourceError):
    """The input is of a kind that another attempt to read it cannot change."""


class SinkError(VderainError):
    """The output cannot be created, written or completed."""


class EngineBuildError(VderainError):
    """An engine cannot be built from the weights on this machine."""


class EngineLoadError(VderainError):
    """A built engine cannot be loaded, or its results are wrong."""


class NoRoomError(EngineLoadError):
    """The memory is too small, or too full at the moment, for an engine that may be sound."""


class EngineFailedError(EngineLoadError):
    """An engine fails during its work; another one may continue."""


class WeightsError(VderainError):
    """A weights file or its card is missing, damaged or does not fit."""


class TrainingError(VderainError):
    """Training cannot continue: the loss is not a number any more."""


class OptionError(VderainError, ValueError):
    """An option has a value that cannot be used."""

    exit_code = 2


def needs_torch(what: str) -> str:
    """The message for a user without torch, about the part that needs it."""
    return f"{what} needs torch, which is not installed; pip install 'vderain[train]'"
