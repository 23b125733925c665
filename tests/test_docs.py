"""What the documents and help texts say of the command line is there."""

import re
import shlex
from pathlib import Path

import click
import pytest

from vderain.cli import cli
from vderain.cli.options import SetOption

ROOT = Path(__file__).parents[1]
DOCS = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
FORMER = ("--one-frame",)  # of a script of an earlier commit, which the document names


def commands():
    """Every command by its words: ``("engine", "build")``."""
    for name in cli.list_commands(None):
        command = cli.get_command(None, name)
        yield (name,), command
        if isinstance(command, click.Group):
            yield from (((name, sub), each) for sub, each in command.commands.items())


COMMANDS = dict(commands())


def flags(command):
    return {flag for param in command.params for flag in (*param.opts, *param.secondary_opts)}


def settings(command):
    """What ``--set`` takes; None where it takes other things than options."""
    for param in command.params:
        if isinstance(param, SetOption):
            return set(param.settings)
    return None


def wrong(words):
    """What is wrong with ``vderain WORDS``: a command, option or setting that there is not."""
    depth = 2 if tuple(words[:2]) in COMMANDS else 1
    command = COMMANDS.get(tuple(words[:depth]))
    if command is None:
        return f"vderain {' '.join(words[:1])}"
    known, named = flags(command) | {"--help", "-h"}, settings(command)
    for word, value in zip(words, [*words[1:], ""], strict=True):
        flag = word.partition("=")[0]
        if re.fullmatch(r"--?[a-z][a-z-]*", flag) and flag not in known:
            return f"{' '.join(words[:depth])} {flag}"
        if flag == "--set" and named is not None and value.partition("=")[0] not in named:
            return f"{' '.join(words[:depth])} --set {value}"
    return None


def blocks(text):
    """Lines of indented or fenced code, continued ones joined."""
    fenced, lines = False, []
    for line in text.splitlines():
        if line.startswith("```"):
            fenced = not fenced
        elif fenced or line.startswith("    "):
            lines.append(line.strip())
    return re.sub(r" *\\\n", " ", "\n".join(lines)).splitlines()


def calls(text):
    """Every ``vderain ...`` in code, as words without the program's name."""
    for line in [*blocks(text), *re.findall(r"`(vderain [^`]+)`", text)]:
        for part in re.split(r"[|;]", line):
            try:
                words = shlex.split(part, comments=True)
            except ValueError:  # an apostrophe of prose
                continue
            if words[:1] == ["vderain"] and len(words) > 1:
                if "[" in part:  # `engine verify [--remove]`
                    words = [word.strip("[]") for word in words]
                yield words[1:]


@pytest.mark.parametrize("path", DOCS, ids=lambda path: path.name)
def test_commands_in_the_documents_exist(path):
    found = list(calls(path.read_text()))
    names = [words for words in found if words[0] != "--help"]
    assert [fault for words in names if (fault := wrong(words))] == []


@pytest.mark.parametrize("path", DOCS, ids=lambda path: path.name)
def test_options_in_the_documents_exist(path):
    known = {flag for command in COMMANDS.values() for flag in flags(command)} | {"--help", *FORMER}
    for script in (ROOT / "benchmarks").glob("*.py"):
        known |= set(re.findall(r'add_argument\(\s*"(--[a-z-]+)"', script.read_text()))
    named = {name for command in COMMANDS.values() for name in settings(command) or ()}
    for code in re.findall(r"`(--[^`]+)`", path.read_text()):
        flag, value = re.fullmatch(r"(--[^\s=]+)[\s=]?(.*)", code, re.DOTALL).groups()
        assert flag in known, code
        # In these two it sets a configuration.
        if flag == "--set" and path.name not in ("training.md", "adapt.md"):
            assert value.split("=")[0].split()[0] in named, code


@pytest.mark.parametrize("words", COMMANDS, ids=" ".join)
def test_examples_of_the_help_exist(words):
    text = (COMMANDS[words].help or "").replace("\b", "")
    examples = [
        shlex.split(line, comments=True)
        for line in text.splitlines()
        if line.strip().startswith("vderain ")
    ]
    assert [fault for example in examples if (fault := wrong(example[1:]))] == []


def test_what_there_is_not_is_found():
    assert wrong(["run", "a", "b", "--crf", "3"]) is None
    assert wrong(["walk", "a"]) == "vderain walk"
    assert wrong(["run", "a", "b", "--port", "3"]) == "run --port"
    assert wrong(["run", "a", "b", "--set", "lanes=3"]) == "run --set lanes=3"
    assert list(calls("    vderain run a b \\\n        --crf 3   # so\n")) == [
        ["run", "a", "b", "--crf", "3"]
    ]
