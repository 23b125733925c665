"""Files like those that people have, through the commands as people give them; the network changes nothing."""

import json
import shutil
from dataclasses import dataclass
from pathlib import Path

import pytest
from click.testing import CliRunner

from tests.fakes import OffsetEngine
from vderain.cli import cli

FILES = Path(__file__).parent / "files"
FAST = ("--preset", "ultrafast", "--overwrite")


@dataclass
class Done:
    """What a command said, and its exit code."""

    code: int
    said: str

    def lines(self, kind):
        """The lines that begin with ``loss`` or ``note``, without that word."""
        return [
            line.removeprefix(f"{kind}: ")
            for line in self.said.splitlines()
            if line.startswith(kind)
        ]

    @property
    def losses(self):
        return self.lines("loss")


class User:
    """Gives commands in a folder."""

    def __init__(self, folder):
        self.folder = folder

    def file(self, name):
        """A file of this folder, copied from the cases where it is one of them."""
        place = self.folder / name
        if not place.exists() and (FILES / name).exists():
            shutil.copyfile(FILES / name, place)
        return place

    def run(self, source, output, *options):
        """``vderain run``; returns what was said and the output's path."""
        place = self.folder / output
        fast = ("--overwrite",) if "ffv1" in options else FAST
        arguments = ["run", str(self.file(source)), str(place), *fast, *options]
        return self.give(arguments), place

    def batch(self, source, *options):
        """``vderain batch`` of a folder with this file; returns what was said and the output's folder."""
        folder, target = self.folder / "in", self.folder / "out"
        folder.mkdir(exist_ok=True)
        shutil.copyfile(self.file(source), folder / Path(source).name)
        return self.give(["batch", str(folder), str(target), *FAST, *options]), target

    def info(self, source):
        """``vderain info --json``."""
        done = self.give(["info", str(self.file(source)), "--json"])
        assert done.code == 0, done.said
        return json.loads(done.said)

    def give(self, arguments):
        result = CliRunner().invoke(cli, arguments)
        if result.exception is not None and not isinstance(result.exception, SystemExit):
            raise result.exception
        return Done(result.exit_code, result.output)


@pytest.fixture
def user(tmp_path, monkeypatch):
    for place in ("vderain.api", "vderain.engines", "vderain.cli.info"):
        monkeypatch.setattr(f"{place}.open_engine", lambda options: OffsetEngine(0))
    return User(tmp_path)
