"""Settings as plain values: from a TOML file, and from "name=value" texts that override them."""

from __future__ import annotations

import copy
import json
import re
import tomllib
from collections.abc import Mapping, Sequence
from importlib.resources import files
from importlib.resources.abc import Traversable
from pathlib import Path
from typing import Any

from vderain.errors import OptionError

_SHIPPED = files("vderain.training") / "recipes"
_BARE = re.compile(r"[\w-]+", re.ASCII)  # a key that needs no quotes
_SCORED = {"dev"}  # configurations that list sets to score


def shipped_recipe(name: Path) -> Traversable | None:
    """The shipped recipe of a name such as ``fast``; None where there is none, or a file has the name."""
    shipped = _SHIPPED / f"{name}.toml"
    return shipped if shipped.is_file() and not name.is_file() else None


def read_settings(path: Path) -> dict[str, Any]:
    """A TOML file, or a shipped one by its name; OptionError where it cannot be read."""
    try:
        return tomllib.loads((shipped_recipe(path) or path).read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        shipped_names = {p.name.removesuffix(".toml") for p in _SHIPPED.iterdir()} - _SCORED
        raise OptionError(
            f"{path}: not a readable configuration ({error}); "
            f"name a TOML file, or one of {', '.join(sorted(shipped_names))}"
        ) from None


def overridden(settings: Mapping[str, Any], overrides: Sequence[str]) -> dict[str, Any]:
    """The settings with "name=value" texts that override them; OptionError for what is no such text."""
    result = copy.deepcopy(dict(settings))
    for item in overrides:
        _update(result, _override(item), merge="." in item.partition("=")[0])
    return result


def _override(item: str) -> dict[str, Any]:
    name, equals, value = item.partition("=")
    if not equals:
        raise OptionError(f"{item}: write name=value")
    try:
        return tomllib.loads(f"{name} = {value}")
    except (tomllib.TOMLDecodeError, RecursionError):
        return {name.strip(): value}  # a text needs no quotes here


def _update(settings: dict[str, Any], values: dict[str, Any], *, merge: bool) -> None:
    """Set values; with ``merge``, of a dotted name, only what it names inside a table."""
    for name, value in values.items():
        known = settings.get(name)
        if merge and isinstance(value, dict) and isinstance(known, dict):
            _update(known, value, merge=True)
        else:
            settings[name] = value


def overrides_between(settings: Mapping[str, Any], wanted: Mapping[str, Any]) -> list[str]:
    """The "name=value" texts that ``overridden`` turns ``settings`` into ``wanted`` with.

    What ``wanted`` lacks stays; of a table whose entries are others, all of it is given.
    """
    return [
        text
        for name, value in wanted.items()
        if name not in settings or settings[name] != value
        for text in _texts(_key(name), settings.get(name), value)
    ]


def _texts(name: str, known: Any, value: Any) -> list[str]:
    if isinstance(value, dict) and isinstance(known, dict) and known.keys() == value.keys():
        inner = overrides_between(known, value)
        return [f"{name}.{text}" for text in inner]
    return [f"{name}={_toml(value)}"]


def _key(name: str) -> str:
    return name if _BARE.fullmatch(name) else json.dumps(name)


def _toml(value: Any) -> str:
    """A value as TOML has it; of tables the entries that are not None."""
    if isinstance(value, dict):
        held = ", ".join(f"{_key(k)} = {_toml(v)}" for k, v in value.items() if v is not None)
        return f"{{{held}}}"
    if isinstance(value, list | tuple):
        return f"[{', '.join(map(_toml, value))}]"
    return json.dumps(value, ensure_ascii=False)  # texts, numbers and truth values are TOML's too
