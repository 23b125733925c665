import os
import select
import signal
import subprocess
import sys
import threading
import time
from fractions import Fraction
from pathlib import Path

import av
import pytest

from tests.media import synth
from vderain.errors import SinkError, SourceError
from vderain.media import open_source
from vderain.media.describe import describe
from vderain.options import EncodeOptions, RunOptions

SCRIPT = "import json, sys; from tests.media import synth; from vderain.options import RunOptions\n"
CARRY = SCRIPT + (
    "stats, report = synth.process(sys.argv[1], sys.argv[2], **json.loads(sys.argv[3]))\n"
    "print(json.dumps([stats.frames, stats.notes, report.losses]), file=sys.stderr)\n"
)


def carry(source, sink, options="{}", data=None):
    done = subprocess.run(
        [sys.executable, "-c", CARRY, str(source), str(sink), options],
        input=data, capture_output=True, check=True, timeout=60,
    )  # fmt: skip
    return done.stdout, done.stderr.decode()


@pytest.mark.parametrize("name", ["in.mkv", "in.y4m", "in.ts"])
def test_standard_input_is_read_without_seeking(tmp_path, name):
    y4m = {"codec": "rawvideo", "time_base": Fraction(1, 25), "pts": tuple(range(10))}
    clip = synth.write(tmp_path / name, **(y4m if name.endswith("y4m") else {}))

    carry("-", tmp_path / "out.mp4", data=Path(clip).read_bytes())

    assert synth.times(tmp_path / "out.mp4") == synth.times(clip)


def test_standard_output_is_matroska_with_all_tracks(tmp_path):
    clip = synth.write(tmp_path / "in.mkv", languages=("deu",), subtitle="subrip")

    content, log = carry(clip, "-")

    (tmp_path / "out.mkv").write_bytes(content)
    assert synth.times(tmp_path / "out.mkv") == synth.times(clip)
    assert synth.payloads(tmp_path / "out.mkv", 1) == synth.payloads(clip, 1)
    assert synth.payloads(tmp_path / "out.mkv", 2) == synth.payloads(clip, 2)
    assert log.startswith("[10, [], []]")


@pytest.mark.parametrize("pix_fmt", ["yuv420p", "yuv444p", "gray", "yuv420p10le"])
def test_standard_output_can_be_y4m_and_names_what_it_drops(tmp_path, pix_fmt):
    clip = synth.write(tmp_path / "in.mkv", codec="ffv1", pix_fmt=pix_fmt, languages=("deu",))

    content, log = carry(clip, "-", '{"pipe_format": "y4m"}')

    (tmp_path / "out.y4m").write_bytes(content)
    before, after = synth.decoded_frames(clip), synth.decoded_frames(tmp_path / "out.y4m")
    assert [image.format.name for image in after] == [pix_fmt] * 10
    for old, new in zip(before, after, strict=True):
        assert (synth.samples(old) == synth.samples(new)).all()
    assert "#1 audio aac (deu mono 48000 Hz): dropped" in log


def test_a_reader_that_goes_away_is_an_error_and_no_hang(tmp_path):
    clip = synth.write(tmp_path / "in.mkv", codec="ffv1", size=(320, 240))
    process = subprocess.Popen(
        [sys.executable, "-c", CARRY, clip, "-", '{"codec": "ffv1"}'],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    )  # fmt: skip
    process.stdout.close()
    log = process.stderr.read().decode()
    assert process.wait(timeout=60) != 0
    assert "SinkError: standard output: cannot be written" in log


def test_an_end_in_the_middle_of_a_pipe_gives_what_came(tmp_path):
    clip = synth.write(tmp_path / "in.mkv", options={"g": "2", "bf": "0"})
    content = Path(clip).read_bytes()
    with av.open(clip) as container:
        half = [packet.pos for packet in container.demux(video=0) if packet.size][5]

    carry("-", tmp_path / "out.mp4", data=content[:half])

    assert len(synth.decoded_frames(tmp_path / "out.mp4")) == 5


@pytest.mark.parametrize("kind", ["empty", "noise", "index at the end"])
def test_what_is_no_video_on_standard_input_is_named(tmp_path, monkeypatch, kind):
    path = tmp_path / "in.mp4"
    path.write_bytes(b"" if kind == "empty" else b"\x91\x03\xfe" * 999)
    if kind == "index at the end":
        synth.write(path, size=(640, 480), options={"crf": "1"})
    message = r"standard input: is empty" if kind == "empty" else r"standard input: .* index"
    with path.open() as file:
        monkeypatch.setattr(sys, "stdin", file)
        with pytest.raises(SourceError, match=message):
            open_source("-", run=RunOptions(), encode=EncodeOptions())


@pytest.fixture
def named_pipe(tmp_path):
    """The name of a pipe that holds a video, and a file with the same; as a shell makes of <(...)."""
    clip = synth.write(tmp_path / "in.mkv", options={"g": "2", "bf": "0"})
    reading, writing = os.pipe()
    os.write(writing, Path(clip).read_bytes())
    os.close(writing)
    yield f"/dev/fd/{reading}", clip
    os.close(reading)


def test_a_named_pipe_is_read_once_where_the_run_begins_later(tmp_path, named_pipe):
    for path, name in zip(named_pipe, ("pipe", "file"), strict=True):
        synth.process(path, tmp_path / f"{name}.mkv", run=RunOptions(start_s=0.2))
    expected = synth.times(tmp_path / "file.mkv")
    assert len(expected) == 5 and synth.times(tmp_path / "pipe.mkv") == expected


def test_a_named_pipe_is_described_from_one_reading(named_pipe):
    pipe, clip = map(describe, named_pipe)
    assert pipe.refusal == "" and pipe.info.tracks == clip.info.tracks


def test_a_named_pipe_is_not_opened_for_nvdec_first(tmp_path, named_pipe):
    stats, _ = synth.process(named_pipe[0], tmp_path / "out.mkv", run=RunOptions(decoder="nvdec"))
    assert stats.frames == 10


def stalled(tmp_path, share):
    """A pipe that gave a part of a video, and its end for writing, which is left open."""
    content = Path(synth.write(tmp_path / "in.mkv", options={"g": "2", "bf": "0"})).read_bytes()
    reading, writing = os.pipe()
    os.write(writing, content[: int(share * len(content))])
    return reading, writing


READ = SCRIPT + (
    "from vderain.media import open_source; from vderain.options import EncodeOptions\n"
    "sys.stderr.write('ready\\n')\n"
    "for item in open_source('-', run=RunOptions(), encode=EncodeOptions()): pass\n"
)


@pytest.mark.parametrize("share", [0, 0.9], ids=["at opening", "in the middle"])
def test_an_interrupt_ends_a_wait_for_standard_input(tmp_path, share):
    reading, writing = stalled(tmp_path, share)
    process = subprocess.Popen(
        [sys.executable, "-c", READ], stdin=reading, stderr=subprocess.PIPE, text=True
    )
    assert process.stderr.readline() == "ready\n"
    time.sleep(0.5)
    process.send_signal(signal.SIGINT)
    try:
        _, log = process.communicate(timeout=10)
    finally:
        process.kill()
        os.close(writing)
    assert log.rstrip().endswith("KeyboardInterrupt") and "Exception ignored" not in log


@pytest.mark.parametrize("method", ["cancel", "close"])
def test_a_wait_for_standard_input_ends_when_another_thread_says_so(tmp_path, monkeypatch, method):
    reading, writing = stalled(tmp_path, 0.9)
    monkeypatch.setattr(sys, "stdin", os.fdopen(reading))
    source = open_source("-", run=RunOptions(), encode=EncodeOptions())
    thread = threading.Thread(target=lambda: list(source), daemon=True)
    thread.start()
    thread.join(0.5)
    assert thread.is_alive()
    getattr(source, method)()
    thread.join(0.5)
    alive = thread.is_alive()
    os.close(writing)
    assert not alive
    source.close()


def test_an_interrupt_ends_a_wait_for_the_reader_of_standard_output(tmp_path):
    clip = synth.write(tmp_path / "in.mkv", codec="ffv1", size=(640, 480))
    process = subprocess.Popen(
        [sys.executable, "-c", CARRY, clip, "-", '{"codec": "ffv1"}'],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    )  # fmt: skip
    assert select.select([process.stdout], [], [], 30)[0]
    time.sleep(0.5)
    process.send_signal(signal.SIGINT)
    _, log = process.communicate(timeout=10)
    assert b"KeyboardInterrupt" in log and b"Exception ignored" not in log


def test_closed_standard_streams_are_named(tmp_path, monkeypatch):
    clip = synth.write(tmp_path / "in.mkv")
    monkeypatch.setattr(sys, "stdin", None)
    monkeypatch.setattr(sys, "stdout", None)
    with pytest.raises(SourceError, match="standard input: is closed"):
        synth.process("-", tmp_path / "out.mkv")
    with pytest.raises(SinkError, match="standard output: is closed"):
        synth.process(clip, "-")
