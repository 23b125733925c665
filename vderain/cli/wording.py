"""Puts the options that a message names into the spelling of the command line."""

from __future__ import annotations

import shlex
from dataclasses import fields
from functools import cache
from typing import Any

from vderain.batch.options import BatchOptions
from vderain.errors import respell
from vderain.live.options import LiveOptions
from vderain.options import EncodeOptions, EngineOptions, RunOptions

# Options of commands that are no fields of an options class.
_OTHERS = ("exclude", "host", "include", "port", "ray", "results", "retry_failed", "still")


def as_flags(message: str) -> str:
    """``crf=17`` becomes ``--crf 17``, ``slots=2`` becomes ``--set slots=2``, ``overwrite=True`` ``--overwrite``."""
    return respell(message, _spell)


def flag_of(name: str) -> str:
    """The flag of a field."""
    return "--" + name.removesuffix("_s").replace("_", "-")


def _spell(name: str, value: str) -> str | None:
    flag = flag_of(name)
    if name in _experts():
        shown = value.lower() if value in ("True", "False") else shlex.quote(value)
        return f"--set {flag.removeprefix('--')}={shown}"
    if name not in _shown():
        return None
    # --ray may stand without a value, and takes none after a space where a folder could follow.
    return flag if value == "True" else f"{flag}{'=' if name == 'ray' else ' '}{shlex.quote(value)}"


@cache
def _experts() -> frozenset[str]:
    return frozenset(item.name for item in _fields() if item.metadata["expert"])


@cache
def _shown() -> frozenset[str]:
    return frozenset(item.name for item in _fields() if not item.metadata["expert"]) | {*_OTHERS}


def _fields() -> list[Any]:
    classes: tuple[type[Any], ...]
    classes = (RunOptions, EngineOptions, EncodeOptions, LiveOptions, BatchOptions)
    return [item for options in classes for item in fields(options)]
