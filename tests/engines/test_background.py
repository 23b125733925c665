"""A builder in a process of its own: what it says never stops it."""

import os
import signal
import sys
import time

import pytest

from tests.engines.conftest import write_weights
from tests.engines.test_contract import make_format
from tests.live.fakes import until
from vderain.engines import background
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


def test_a_builder_that_dies_silently_is_reported_with_its_exit_code(build):
    running = build("exit 7")
    assert until(lambda: running.outcome() is not None)
    assert running.outcome() == "its builder ended with code 7"


def test_a_builder_of_its_own_puts_the_engine_into_the_cache(tmp_path, cache_folder):
    path = write_weights(tmp_path / "own.safetensors")
    options = EngineOptions(weights=str(path), precision="float32")
    build = ProcessBuild("openvino", options, FMT)
    until = time.monotonic() + 120
    while build.outcome() is None and time.monotonic() < until:
        time.sleep(0.1)
    assert build.outcome() == ""
    build.close()
    assert len(list(cache_folder.glob("*.bin"))) == 1


def test_a_builder_that_fails_says_why_and_one_that_hangs_is_ended(
    weights, cache_folder, monkeypatch
):
    build = ProcessBuild("openvino", EngineOptions(weights="nowhere.safetensors"), FMT)
    until = time.monotonic() + 60
    while build.outcome() is None and time.monotonic() < until:
        time.sleep(0.05)
    assert "no such weights file" in build.outcome()
    build.close()
    monkeypatch.setattr(background, "_TERMINATE_S", 0.2)
    running = ProcessBuild("openvino", EngineOptions(weights=str(weights)), FMT)
    os.kill(running._process.pid, signal.SIGSTOP)  # so that it hears of nothing but SIGKILL
    _, status = os.waitpid(running._process.pid, os.WUNTRACED)  # or SIGTERM might come first
    assert os.WIFSTOPPED(status)
    running.close()
    assert running._process.returncode == -signal.SIGKILL
    with pytest.raises(ProcessLookupError):
        os.kill(running._process.pid, 0)
