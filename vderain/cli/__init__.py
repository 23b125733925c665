"""The command line: one module per command, imported when it is called; parses, wires, prints, no logic."""

from __future__ import annotations

import importlib
import os
import signal
import sys
from types import FrameType

import click

from vderain import __version__
from vderain.cli.terminal import PrintableText, one_line
from vderain.errors import VderainError, needs_torch

_COMMANDS = {
    "run": "Take the rain out of a video, an image or a folder of images.",
    "live": "Take the rain out of a live camera, until Ctrl-C.",
    "batch": "Take the rain out of an archive of clips; resumes where it was stopped.",
    "serve": "Derain live cameras and show them, before and after, on a web page.",
    "train": "Train weights on pairs, or on clean footage alone.",
    "adapt": "Adapt weights to the rain of your own camera, from unlabelled footage.",
    "export": "Turn a training run into a weights file.",
    "evaluate": "Score weights, or any results, against ground truth: a table, a JSON file, a page.",
    "engine": "Build, list, verify, clear, measure and tune engines, which run the network.",
    "compare": "Show a rainy and a derained video side by side, or split by a moving line.",
    "info": "Show what a file holds, and what would be copied.",
    "doctor": "Show versions, CPU features, engines and encoders that work on this machine.",
}
# Commands whose module is in a folder -> the folder; the others are next to this file.
_FOLDERS = {
    **dict.fromkeys(("live", "serve"), "cameras"),
    **dict.fromkeys(("train", "adapt", "export", "evaluate"), "training"),
}
_WITH_TORCH = ("torch", "safetensors")  # what the extra [train] installs
INTERRUPTED = 130  # the shell's code for a command ended by Ctrl-C


class _LazyGroup(click.Group):
    """Knows its commands by name; imports only the one that is called."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(_COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in _COMMANDS:
            return None
        folder = f".{_FOLDERS[cmd_name]}" if cmd_name in _FOLDERS else ""
        module = importlib.import_module(f"vderain.cli{folder}.{cmd_name}")
        command: click.Command = getattr(module, cmd_name)
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl(list(_COMMANDS.items()))


@click.group(cls=_LazyGroup, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="vderain")
def cli() -> None:
    """Give it rainy video, get the same video back without the rain.

    Exit codes: 0 done, 1 failed, 2 wrong use, 3 done with losses that the report names, 130 interrupted.
    """


def main() -> None:
    """Entry point: errors become one line and an exit code; VDERAIN_DEBUG=1 shows the traceback."""
    take_signals()
    sys.stdout, sys.stderr = map(PrintableText.over, (sys.stdout, sys.stderr))
    try:
        code = cli.main(standalone_mode=False)
    except click.ClickException as error:
        error.show()
        code = error.exit_code
    except (KeyboardInterrupt, click.Abort):
        code = _stopped()
    except Exception as error:
        if _was_interrupted(error):
            sys.exit(_stopped())
        if os.environ.get("VDERAIN_DEBUG") == "1":
            raise
        code = _explain(error)
    sys.exit(code or 0)


def take_signals() -> None:
    """Let SIGTERM and SIGHUP stop a command like Ctrl-C, but for a hangup that the command was told to ignore.

    ``nohup`` does that, and a shell has its background jobs ignore Ctrl-C, which Python itself respects.
    """
    signal.signal(signal.SIGTERM, _interrupt)
    hangup = getattr(signal, "SIGHUP", None)  # Windows has none
    if hangup is not None and signal.getsignal(hangup) is not signal.SIG_IGN:
        signal.signal(hangup, _interrupt)


def _stopped() -> int:
    click.echo("vderain: interrupted", err=True)
    return INTERRUPTED


def _was_interrupted(error: BaseException | None) -> bool:
    """Whether an error came up while an interrupted command was ended, as by a second Ctrl-C."""
    while error is not None:
        if isinstance(error, KeyboardInterrupt):
            return True
        error = error.__context__
    return False


def _explain(error: Exception) -> int:
    """One line for a person; returns the exit code."""
    if isinstance(error, VderainError):
        from vderain.cli.wording import as_flags

        click.echo(f"vderain: {one_line(as_flags(str(error)))}", err=True)
        return error.exit_code
    if isinstance(error, ModuleNotFoundError) and error.name in _WITH_TORCH:
        click.echo(f"vderain: {needs_torch('this command')}", err=True)
        return 1
    click.echo(
        f"vderain: unexpected {type(error).__name__}: {error}; this is a bug, "
        "VDERAIN_DEBUG=1 shows where",
        err=True,
    )
    return 1


def _interrupt(signum: int, frame: FrameType | None) -> None:
    """Stop on a signal as on Ctrl-C: stages end, half files go."""
    raise KeyboardInterrupt
