"""What the documents and help texts say of the command line is there."""

import re
import shlex
from pathlib import Path

import click
import pytest

from tests.fakes import OffsetEngine
from tests.media.synth import STEP, write
from tests.networks import TINY
from tests.training.rainy_clips import scene, with_rain, write_frames
from vderain.cli import cli
from vderain.cli.options import SetOption

ROOT = Path(__file__).parents[1]
DOCS = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
PAGES = [*DOCS, ROOT / "CONTRIBUTING.md", ROOT / "CHANGELOG.md", *ROOT.glob("*/RESULTS.md")]
PYTHON = re.compile(r"^```python\n(.*?)^```", re.DOTALL | re.MULTILINE)
COLUMNS = 120


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
    known = {flag for command in COMMANDS.values() for flag in flags(command)} | {"--help"}
    for script in (ROOT / "benchmarks").rglob("*.py"):
        known |= set(re.findall(r'(?:add_argument|option)\(\s*"(--[a-z-]+)"', script.read_text()))
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


def test_run_has_at_most_twenty_options():
    options = [param for param in COMMANDS["run",].params if isinstance(param, click.Option)]
    assert len(options) <= 20


def test_what_there_is_not_is_found():
    assert wrong(["run", "a", "b", "--crf", "3"]) is None
    assert wrong(["walk", "a"]) == "vderain walk"
    assert wrong(["run", "a", "b", "--port", "3"]) == "run --port"
    assert wrong(["run", "a", "b", "--set", "lanes=3"]) == "run --set lanes=3"
    assert list(calls("    vderain run a b \\\n        --crf 3   # so\n")) == [
        ["run", "a", "b", "--crf", "3"]
    ]


@pytest.fixture
def reader(tmp_path, monkeypatch):
    """What a reader has who tries the Python blocks: footage in the working folder, an engine, a network."""
    from vderain.network.build import build_network

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("vderain.api.open_engine", lambda options: OffsetEngine())
    monkeypatch.setattr("vderain.batch.derain_archive.open_engine", lambda options: OffsetEngine())
    write(tmp_path / "rainy.mp4", pts=tuple(range(0, 5 * STEP, STEP)))
    (tmp_path / "dashcam").mkdir()
    write(tmp_path / "dashcam" / "20260101_120000_F.mp4", pts=tuple(range(0, 5 * STEP, STEP)))
    write_frames(tmp_path / "my_rain", with_rain([scene()] * 24))
    return {"network": build_network(TINY).eval()}


def python_blocks():
    for path in PAGES:
        for place, code in enumerate(PYTHON.findall(path.read_text())):
            yield pytest.param(code, id=f"{path.name}-{place}")


@pytest.mark.parametrize("code", python_blocks())
def test_python_blocks_run(code, reader):
    exec(compile(code, "block", "exec"), reader)


def test_python_is_always_in_a_block_that_runs():
    found = {p.values[0] for p in python_blocks()}
    assert len(found) >= 3
    for path in PAGES:
        rest = PYTHON.sub("", path.read_text())
        assert not re.search(r"^\s*(?:import|from) vderain\b", rest, re.MULTILINE), path.name


@pytest.mark.parametrize("path", PAGES, ids=lambda path: f"{path.parent.name}-{path.name}")
def test_prose_keeps_to_its_columns(path):
    lines = path.read_text().splitlines()
    # Tables and commands cannot be wrapped.
    prose = [line for line in lines if not line.startswith(("|", "    "))]
    assert [line for line in prose if len(line) > COLUMNS] == []


def test_an_entry_of_the_changelog_is_one_line():
    text = (ROOT / "CHANGELOG.md").read_text()
    assert [line for line in text.splitlines() if line.startswith(" ")] == []
