"""The commands for live cameras, run as a user runs them."""

import json
import os
import signal
import subprocess
import urllib.request
from collections import Counter

import av
import pytest

from tests.command import VDERAIN, in_a_process, vderain
from tests.live.fakes import until
from tests.media.synth import Video, write


def clip(tmp_path, seconds):
    pts = tuple(range(0, seconds * 90_000, 3600))
    return write(tmp_path / "clip.mp4", Video(size=(64, 48), pts=pts, languages=("eng",)))


@pytest.mark.slow
def test_run_live_to_several_outputs_until_sigterm(tmp_path):
    source = clip(tmp_path, 60)
    outputs = (tmp_path / "recordings", tmp_path / "www" / "dry.m3u8")
    command = [*VDERAIN, "live", source, *map(str, outputs), "--log", "json"]
    command += ["--report", str(tmp_path / "report.json")]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
    try:
        assert until(lambda: list(outputs[0].glob("*.part")) and outputs[1].exists(), 90)
        process.send_signal(signal.SIGTERM)
        _, log = process.communicate(timeout=30)
    finally:
        process.kill()
    assert process.returncode == 0, log
    (recording,) = outputs[0].iterdir()
    with av.open(str(recording)) as container:
        assert sorted(s.type for s in container.streams) == ["audio", "video"]
        assert sum(1 for _ in container.decode(video=0)) >= 10
    lines = [json.loads(line) for line in log.splitlines()]
    states = [line["state"] for line in lines if line.get("camera") == source and "state" in line]
    assert states[0] == "running" and states[-1] == "ended"
    (camera,) = json.loads((tmp_path / "report.json").read_text())["cameras"]
    # The first engine is built here, whose libraries hold Python's lock for a while: on a machine that is
    # busy enough nothing is read for two seconds, and the camera has stalled.
    assert camera["states"] == {"connecting": 1, **Counter(states)} and camera["reconnects"] == 0
    stalls = ["stalled", "running"] * states.count("stalled")
    assert states == ["running", *stalls, "ended"], log
    assert camera["frames"]["decoded"] >= 10 and camera["latency_ms"]["emit"]["p95"] > 0
    assert [output["packets"] > 0 for output in camera["outputs"]] == [True, True]


@pytest.mark.slow
def test_the_report_names_what_failed_and_no_password(tmp_path):
    report = tmp_path / "report.json"
    words = ("--tries", "2", "--timeout", "1", "--report", report)
    url = "rtsp://admin:geheim@127.0.0.1:9/none"
    assert in_a_process("live", url, tmp_path / "r", *words, timeout=120).returncode == 1
    text = report.read_text()
    (camera,) = json.loads(text)["cameras"]
    assert camera["state"] == "failed" and camera["states"]["backoff"] == 1
    assert camera["failures"] == 2 and "2 tries" in camera["reason"]
    assert [loss.endswith("*.mp4: nothing was sent") for loss in camera["losses"]] == [True]
    assert "geheim" not in text and "admin" not in text


def test_run_live_ends_with_the_file_and_sums_up(tmp_path):
    done = in_a_process("live", clip(tmp_path, 3), tmp_path / "recordings", timeout=120)
    assert done.returncode == 0, done.stderr
    assert "75 frames in" in done.stderr and "Traceback" not in done.stderr


@pytest.mark.slow
def test_an_output_that_got_nothing_is_a_loss(tmp_path):
    outputs = ("rtsp://127.0.0.1:9/out", tmp_path / "recordings")
    done = in_a_process("live", clip(tmp_path, 6), *outputs, timeout=120)
    assert done.returncode == 3, done.stderr
    (loss,) = [line for line in done.stderr.splitlines() if line.startswith("loss: ")]
    assert loss.startswith("loss: rtsp://127.0.0.1:9/out: nothing was sent (")


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["run", "a.mp4", "b.mp4", "c.mp4"], "c.mp4: only a live camera has several outputs"),
        (["run", "a.mp4", "www/dry.m3u8"], "www/dry.m3u8: is for live video; vderain live"),
        (["run", "a.mp4", "rtsp://u:p@h/x"], "rtsp://***@h/x: is for live video; vderain live"),
        (["run", "rtsp://h/a", "r", "--report", "no/report.json"], "its folder does not exist"),
        (["live", "rtsp://h/a", "r", "--ca-file", "ca.pem"], "--ca-file ca.pem: cannot be read"),
        (["run", "rtsp://h/a", "tcp://h:5?listen=1"], "it does not listen"),
        (["run", "rtsp://h/a", "dry.avi"], "live video is recorded as .mp4"),
        (["run", "rtsp://h/a", "dry.mp4", "--codec", "av1"], "--codec av1"),
        (["run", "rtsp://h/a", "dry.mp4", "--start", "3"], "--start is for files"),
        (["serve", "rtsp://h/a", "--overwrite"], "No such option"),
        (["run", "rtsp://h/a", "http://h/b"], "can be published to"),
        (["run", "rtsp://h/a", "r", "--weights", "none.safetensors"], "none.safetensors"),
        (["serve", "rtsp://h/a", "--host", "0.0.0.0"], "a token is needed"),
        (["run", "rtsp://h/a", "rtmp:/u:p@bad"], "rtmp:/...: looks like a URL that lacks a slash"),
        (["run", "rtsp://h/a", "rtmp:bad"], "rtmp:...: looks like a URL that lacks a slash"),
        (["run", "rtsp:/u:p@h/a", "r"], "rtsp:/...: looks like a URL that lacks a slash"),
        (["live", "nope.mp4", "r"], "nope.mp4: there is no such file"),
        (["serve", "foo://x"], "foo://x: FFmpeg has no such protocol"),
        (["run", "rtsp://h/a", "/dev/null/rec/"], "/dev/null/rec/: cannot be the output"),
        (["run", "rtsp://h/a", "/dev/null/x.mp4"], "/dev/null/x.mp4: cannot be the output"),
        (["run", "rtsp://h/a", "/dev/null/x.m3u8"], "/dev/null/x.m3u8: cannot be the output"),
        (
            ["live", "--url-env", "NOT_SET", "r"],
            "--url-env: the environment variable NOT_SET is not",
        ),
        (["live", "rtsp://h/a", "--out-env", "NOT_SET"], "--out-env: the environment variable"),
        (["live", "rtsp://h/a"], "Missing argument 'OUT...'"),
        (["live", "--url-env", "PATH"], "Missing argument 'OUT...'"),
        (["live"], "Missing argument 'URL'"),
        (["serve"], "Missing argument 'CAMERAS...'"),
        (["serve", "--url-env", "NOT_SET"], "--url-env: the environment variable NOT_SET is not"),
        (["serve", "none.toml"], "none.toml: cannot be read"),
        (["serve", "rtsp://h/a", "rtsp://h/a"], "two cameras have the name"),
    ],
)
def test_mistakes_are_reported_before_anything_begins(words, message, tmp_path):
    done = vderain(*words, cwd=tmp_path)
    assert done.returncode in (1, 2) and message in done.stderr, done.stderr
    assert "Traceback" not in done.stderr and not list(tmp_path.iterdir())


@pytest.mark.slow
def test_addresses_come_from_the_environment_so_that_no_command_line_shows_them(tmp_path):
    environment = {
        **os.environ,
        "CAMERA": "rtsps://admin:geheim@127.0.0.1:9/none",
        "SERVER": "rtsp://admin:geheim@127.0.0.1:9/dry",
    }
    words = ("--url-env", "CAMERA", "--out-env", "SERVER", "--tries", "1", "--timeout", "1")
    report = tmp_path / "report.json"
    done = in_a_process("live", *words, "--report", report, env=environment, timeout=120)
    assert done.returncode == 1
    assert "failed: rtsps://***@127.0.0.1:9/none" in done.stderr
    (camera,) = json.loads(report.read_text())["cameras"]
    assert [output["name"] for output in camera["outputs"]] == ["rtsp://***@127.0.0.1:9/dry"]
    # The camera alone speaks TLS.
    assert done.stderr.count("certificate is not checked") == 1
    assert "rtsps://***@127.0.0.1:9/none: its certificate is not checked" in done.stderr
    assert "--ca-file" in done.stderr and "geheim" not in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.slow
def test_serve_answers_and_stops_on_sigterm(tmp_path):
    source = clip(tmp_path, 60)
    config = tmp_path / "cameras.toml"
    config.write_text(f'[[camera]]\nname = "gate"\nurl = "{source}"\noutputs = ["recordings"]\n')
    process = subprocess.Popen(
        [*VDERAIN, "serve", str(config), "--port", "0"],
        stderr=subprocess.PIPE,
        text=True,
        cwd=tmp_path,
    )
    try:
        line = next(line for line in process.stderr if "the page is at" in line)
        address = line.split()[-1]
        status = json.load(urllib.request.urlopen(f"{address}api/cameras", timeout=10))
        assert status["cameras"][0]["name"] == "gate"
        assert until(lambda: list((tmp_path / "recordings").glob("*.part")), 90)
        process.send_signal(signal.SIGTERM)
        _, log = process.communicate(timeout=30)
    finally:
        process.kill()
    assert process.returncode == 0, log
    assert [p.suffix for p in (tmp_path / "recordings").iterdir()] == [".mp4"]
