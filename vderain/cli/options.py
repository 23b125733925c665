"""Turns the fields of an options dataclass into click options: one source of defaults, bounds and help.

Options for experts share one click option, ``--set NAME=VALUE``.
"""

from __future__ import annotations

import difflib
from collections.abc import Callable
from dataclasses import Field, dataclass, fields
from pathlib import Path
from typing import Any, TypeVar, get_args, get_type_hints

import click

from vderain.cli.wording import flag_of

Options = TypeVar("Options")
Command = TypeVar("Command", bound=Callable[..., Any])

_TRUE, _FALSE = ("true", "yes", "on", "1"), ("false", "no", "off", "0")
_ENDLESS = 1e6  # an upper bound that no user meets; the options class checks it
_GIVEN = "vderain.cli.options.given"


REPORT = click.option(
    "--report", type=click.Path(dir_okay=False, path_type=Path), help="Write a JSON report here."
)
LOG = click.option(
    "--log", type=click.Choice(["text", "json"]), default="text", show_default=True,
    help="Format of the events on standard error.",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Setting:
    """A field of an options class, as ``--set`` knows it; ``kind`` is int, float, bool or str."""

    item: Field[Any]
    kind: type[Any]

    @property
    def name(self) -> str:
        """As a user writes it."""
        return flag_of(self.item.name).removeprefix("--")

    @property
    def help(self) -> str:
        """Help text, then choices or bounds, then the default."""
        low, high, choices = (self.item.metadata[key] for key in ("low", "high", "choices"))
        default = self.item.default
        notes = [", ".join(map(str, choices))] if choices else []
        notes += [f"{low} to {high}"] if low is not None and high is not None else []
        shown = str(default).lower() if isinstance(default, bool) else default
        notes += [f"default: {shown}"] if default is not None else []
        text: str = self.item.metadata["help"]
        return f"{text}  [{'; '.join(notes)}]" if notes else text

    def read(self, text: str) -> Any:
        """The value that a text stands for; the options class checks its bounds. Raises BadParameter."""
        if self.kind is bool:
            if text.lower() not in (*_TRUE, *_FALSE):
                raise click.BadParameter(f"{self.name}={text}: write true or false")
            return text.lower() in _TRUE
        try:
            return self.kind(text)
        except ValueError:
            wanted = "a whole number" if self.kind is int else "a number"
            raise click.BadParameter(f"{self.name}={text}: must be {wanted}") from None


class SetOption(click.Option):
    """``--set NAME=VALUE``: becomes parameters of the command, as if each were an option of its own."""

    def __init__(self) -> None:
        super().__init__(
            ["--set"],
            multiple=True,
            metavar="NAME=VALUE",
            help="Set an expert option, listed below; may be repeated.",
            expose_value=False,
            callback=self._store,
        )
        self.settings: dict[str, Setting] = {}

    def add(self, item: Field[Any], kind: type[Any]) -> None:
        """Know one more option."""
        setting = Setting(item, kind)
        self.settings[setting.name] = setting

    def _store(self, ctx: click.Context, param: click.Parameter, texts: tuple[str, ...]) -> None:
        given = ctx.meta.setdefault(_GIVEN, set())
        for text in texts:
            name, has_value, value = text.partition("=")
            setting = self._known(ctx, name.strip())
            if not has_value:
                raise click.BadParameter(f"{text}: write {setting.name}=VALUE")
            ctx.params[setting.item.name] = setting.read(value.strip())
            given.add(setting.item.name)

    def _known(self, ctx: click.Context, name: str) -> Setting:
        spelled = name.replace("_", "-")
        if spelled in self.settings:
            return self.settings[spelled]
        if any(f"--{spelled}" in option.opts for option in ctx.command.params):
            raise click.BadParameter(f"{name} is an option of its own; use --{spelled}")
        elsewhere = getattr(ctx.command, "elsewhere", {})
        if f"--{spelled}" in elsewhere:
            raise click.BadParameter(f"{name} {elsewhere[f'--{spelled}']}")
        near = difflib.get_close_matches(spelled, self.settings, n=1)
        hint = f"did you mean {near[0]}?" if near else f"use one of {', '.join(self.settings)}"
        raise click.BadParameter(f"{name} is not known; {hint}")


class OptionsCommand(click.Command):
    """A command that lists what ``--set`` takes, and says where an option that it lacks is found.

    Args:
        elsewhere: options of other commands, and what is said of them.

    """

    def __init__(self, *args: Any, elsewhere: dict[str, str] | None = None, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.elsewhere = elsewhere or {}

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Parse, with a better hint than click's for an unknown option."""
        try:
            return super().parse_args(ctx, args)
        except click.NoSuchOption as error:
            name = error.option_name
            for option in self._set_options():
                setting = option.settings.get(name.removeprefix("--"))
                if setting is not None:
                    message = f"{name} is an expert option; use --set {setting.name}=VALUE"
                    raise click.UsageError(message, ctx) from None
            if name in self.elsewhere:
                raise click.UsageError(f"{name} {self.elsewhere[name]}", ctx) from None
            raise

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """List the options, then the expert options."""
        super().format_options(ctx, formatter)
        for option in self._set_options():
            rows = [(f"{name}=...", setting.help) for name, setting in option.settings.items()]
            with formatter.section("Expert options, for --set NAME=VALUE"):
                formatter.write_dl(rows)

    def _set_options(self) -> list[SetOption]:
        return [option for option in self.params if isinstance(option, SetOption)]


def options_of(
    *classes: type[Any], leave_out: tuple[str, ...] = ()
) -> Callable[[Command], Command]:
    """A decorator that adds one option for each field of ``classes``, in their order.

    Fields for experts go to one ``--set``. Those named in ``leave_out`` get no option, and keep their default.
    """

    def add(command: Command) -> Command:
        wanted = [
            (item, _kind(hints[item.name]))
            for options in classes
            for hints in [get_type_hints(options)]
            for item in fields(options)
            if item.name not in leave_out
        ]
        experts = [(item, kind) for item, kind in wanted if item.metadata["expert"]]
        if experts:
            option = _set_option(command)
            for item, kind in experts:
                option.add(item, kind)
        for item, kind in reversed(wanted):
            if not item.metadata["expert"]:
                command = _click_option(item, kind)(command)
        return command

    return add


def given(name: str) -> bool:
    """Whether the current command line has an option, also where its value is the default."""
    context = click.get_current_context()
    source = context.get_parameter_source(name)
    is_option = source is click.core.ParameterSource.COMMANDLINE
    return is_option or name in context.meta.get(_GIVEN, ())


def pick(options: type[Options], values: dict[str, Any]) -> Options:
    """Build ``options`` from the values of a command's parameters, taking its own fields only."""
    names = [item.name for item in fields(options) if item.name in values]  # type: ignore[arg-type]  # a dataclass
    return options(**{name: values[name] for name in names})


def _set_option(function: Any) -> SetOption:
    """The ``--set`` of a function that becomes a command; click keeps the parameters of such at the function."""
    if not hasattr(function, "__click_params__"):
        function.__click_params__ = []
    known: list[click.Parameter] = function.__click_params__
    for param in known:
        if isinstance(param, SetOption):
            return param
    option = SetOption()
    known.append(option)
    return option


def _kind(hint: Any) -> type[Any]:
    kind: type[Any] = next(t for t in (*get_args(hint), hint) if t is not type(None))
    return kind


def _click_option(item: Field[Any], kind: type[Any]) -> Callable[[Command], Command]:
    low, high, choices = (item.metadata[key] for key in ("low", "high", "choices"))
    settings: dict[str, Any] = {"help": item.metadata["help"], "default": item.default}
    if kind is bool:
        settings["is_flag"] = True
    elif choices is not None:
        settings["type"] = click.Choice(choices)
    elif kind in (int, float):
        shown_high = high if high is not None and high < _ENDLESS else None
        settings["type"] = (click.IntRange if kind is int else click.FloatRange)(low, shown_high)
    else:
        settings["type"] = kind
    settings["show_default"] = item.default is not None and item.default is not False
    return click.option(flag_of(item.name), item.name, **settings)
