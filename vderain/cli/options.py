"""Turns the fields of an options dataclass into click options: one source of defaults, bounds and help."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import Field, fields
from typing import Any, TypeVar, get_args, get_type_hints

import click

Options = TypeVar("Options")
Command = TypeVar("Command", bound=Callable[..., Any])


def options_of(
    *classes: type[Any], title: str = "", leave_out: tuple[str, ...] = ()
) -> Callable[[Command], Command]:
    """A decorator that adds one option for each field of ``classes``, in their order.

    ``title`` goes before each help text; fields named in ``leave_out`` get no option, and keep their default.
    """

    def add(command: Command) -> Command:
        for options in reversed(classes):
            hints = get_type_hints(options)
            for item in reversed(fields(options)):
                if item.name in leave_out:
                    continue
                command = _click_option(item, hints[item.name], title)(command)
        return command

    return add


def pick(options: type[Options], values: dict[str, Any]) -> Options:
    """Build ``options`` from the values of a command's parameters, taking its own fields only."""
    names = [item.name for item in fields(options) if item.name in values]  # type: ignore[arg-type]  # a dataclass
    return options(**{name: values[name] for name in names})


def _click_option(item: Field[Any], hint: Any, title: str) -> Callable[[Command], Command]:
    flag = "--" + item.name.removesuffix("_s").replace("_", "-")
    low, high, choices = (item.metadata[key] for key in ("low", "high", "choices"))
    kind = next(t for t in (*get_args(hint), hint) if t is not type(None))
    settings: dict[str, Any] = {"help": title + item.metadata["help"], "default": item.default}
    if kind is bool:
        settings["is_flag"] = True
    elif choices is not None:
        settings["type"] = click.Choice(choices)
    elif kind in (int, float):
        settings["type"] = (click.IntRange if kind is int else click.FloatRange)(low, high)
    else:
        settings["type"] = kind
    settings["show_default"] = item.default not in (None, False)
    return click.option(flag, item.name, **settings)
