"""``vderain batch --watch`` as a user runs and interrupts it."""

import signal
import subprocess
import time
from fractions import Fraction

import pytest

from tests.cli.archive import FAST, clip, command
from tests.live.fakes import until
from tests.media.synth import decoded_frames, write


def watched(folder, last, *options, meanwhile=lambda: None):
    """What ``--watch`` said, interrupted once the output ``last`` is there."""
    process = subprocess.Popen(
        command(folder / "in", folder / "out", *FAST, "--watch", *options),
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        meanwhile()
        until((folder / "out" / last).exists, 60)
        time.sleep(1.0)  # until its line is written
    finally:
        process.send_signal(signal.SIGINT)
        _, said = process.communicate(timeout=20)
    assert process.returncode == 130, said
    return said


@pytest.mark.slow
def test_watching_takes_clips_that_arrive_and_waits_for_those_being_written(tmp_path):
    ready = tmp_path / "ready.mp4"
    clip(ready)
    content = ready.read_bytes()
    growing, output = tmp_path / "in" / "growing.mp4", tmp_path / "out" / "growing.mp4"
    growing.parent.mkdir()

    def grow():
        for end in range(0, len(content), len(content) // 6):  # a camera writes for four seconds
            with growing.open("ab") as file:
                file.write(content[end : end + len(content) // 6])
            assert not output.exists()
            time.sleep(0.6)

    said = watched(tmp_path, "growing.mp4", "--settle", 1, meanwhile=grow)
    assert len(decoded_frames(output)) == 25, said
    assert "failed" not in said
    assert "growing.mp4: done" in said and "interrupted: 1 of 1 clip done" in said


@pytest.mark.slow
def test_watching_goes_on_where_a_name_collides(tmp_path):
    def arrive():
        clip(tmp_path / "a.avi.mkv")
        (tmp_path / "a.avi.mkv").rename(tmp_path / "in" / "a.avi.mkv")
        clip(tmp_path / "in" / "b.mp4")

    (tmp_path / "in").mkdir()
    pts = tuple(range(25))
    write(tmp_path / "in/a.avi", pts=pts, time_base=Fraction(1, 25), codec="mpeg4")
    said = watched(
        tmp_path, "b.mp4", "--settle", 0,
        meanwhile=lambda: (until((tmp_path / "out/a.avi.mkv").exists, 60), arrive()),
    )  # fmt: skip
    assert said.count("would both be written to a.avi.mkv, and is left out") == 1
    assert "interrupted: 2 of 2 clips done" in said


@pytest.mark.slow
def test_watching_joins_series_when_it_is_stopped(tmp_path):
    for second in range(2):
        clip(tmp_path / "in" / f"20260101_12000{second}_F.mp4")
    said = watched(tmp_path, "20260101_120001_F.mp4", "--settle", 0, "--join")
    assert "interrupted: 2 of 2 clips done" in said
    assert len(decoded_frames(tmp_path / "out" / "20260101_120000_F-joined.mp4")) == 50, said
