"""A builder in a process of its own: what it says never stops it."""

import sys

import pytest

from tests.engines.test_contract import make_format
from tests.live.fakes import until
from vderain.engines.background import ProcessBuild
from vderain.options import EngineOptions

FMT = make_format("gray", 6, 4)
PIPE_AND_MORE = 200_000  # bytes; a pipe holds 65536


@pytest.fixture
def build(tmp_path, monkeypatch):
    """Start a build whose process is the shell script given; ended at the end."""
    made = []

    def start(script):
        stand_in = tmp_path / "python"
        stand_in.write_text(f"#!/bin/sh\ncat >/dev/null\n{script}\n")
        stand_in.chmod(0o700)
        monkeypatch.setattr(sys, "executable", str(stand_in))
        made.append(ProcessBuild("openvino", EngineOptions(), FMT))
        return made[-1]

    yield start
    for each in made:
        each.close()


CHATTER = f"head -c {PIPE_AND_MORE} /dev/zero | tr '\\0' x >&2; echo >&2"


def test_a_builder_that_says_much_comes_to_its_end(build):
    running = build(CHATTER)
    assert until(lambda: running.outcome() is not None)
    assert running.outcome() == ""


def test_the_last_line_of_a_builder_that_failed_is_the_reason(build):
    running = build(f"{CHATTER}\necho 'out of memory \\377' >&2\nexit 1")
    assert until(lambda: running.outcome() is not None)
    assert running.outcome().startswith("out of memory")


def test_a_builder_that_dies_without_a_word_is_told_by_its_code(build):
    running = build("exit 7")
    assert until(lambda: running.outcome() is not None)
    assert running.outcome() == "its builder ended with code 7"
