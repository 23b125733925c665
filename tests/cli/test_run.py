"""The command as a user runs it: its exit code, what it says, what it leaves."""

import json
import os
import shutil
import signal
import subprocess
import time
from pathlib import Path

import av
import pytest
from click.testing import CliRunner

from tests.cases.test_sequence import frames
from tests.command import VDERAIN, in_a_process, vderain
from tests.media.synth import STEP, Video, decoded_frames, write
from vderain.cli import cli
from vderain.cli.run import run
from vderain.errors import OptionError

SAMPLE = Path(__file__).parents[2] / "samples" / "rainy_road.mp4"


@pytest.fixture(scope="module")
def clip(tmp_path_factory):
    return Path(write(tmp_path_factory.mktemp("clip") / "rainy.mp4", languages=("eng", "deu")))


@pytest.fixture(scope="module")
def long_clip(tmp_path_factory):
    """One that takes a run long enough to be interrupted."""
    frames = tuple(range(0, 900 * STEP, STEP))
    return write(tmp_path_factory.mktemp("clip") / "long.mp4", Video(size=(320, 240), pts=frames))


def test_the_main_job_and_its_report(clip, tmp_path):
    done = in_a_process("run", clip, tmp_path / "dry.mp4", "--report", tmp_path / "r.json")
    assert done.returncode == 0, done.stderr
    assert done.stdout == ""
    for text in ("10 frames", "openvino", "copied:", "limited by"):
        assert text in done.stderr
    report = json.loads((tmp_path / "r.json").read_text())
    assert (report["frames_in"], report["frames_out"], report["losses"]) == (10, 10, [])
    assert len(report["tracks_copied"]) == 2
    assert report["limiting_stage"] in report["stage_s"]
    assert report["engines"][0]["name"] == "openvino"
    assert len(decoded_frames(tmp_path / "dry.mp4")) == 10


def test_the_report_names_options_as_the_command_line_does(tmp_path):
    frames(tmp_path / "frames")
    done = vderain("run", tmp_path / "frames", tmp_path / "dry", "--report", tmp_path / "r.json")
    assert done.returncode == 0, done.stderr
    (note,) = json.loads((tmp_path / "r.json").read_text())["notes"]
    assert "with --sequence each" in note


def test_quiet_says_nothing(clip, tmp_path):
    done = vderain("run", clip, tmp_path / "dry.mp4", "--quiet")
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


@pytest.mark.parametrize(
    ("arguments", "code", "says"),
    [
        (["{missing}", "{out}"], 1, ["missing.mp4"]),
        (["{clip}", "{folder}/no/such/dry.mp4"], 1, ["no/such"]),
        (["{clip}", "{clip}", "--overwrite"], 1, ["rainy.mp4", "input"]),
        (["{clip}", "{exists}"], 1, ["exists.mp4", "--overwrite"]),
        (["{clip}", "{out}", "--codec", "mpeg9"], 2, ["--codec", "h264"]),
        (["{clip}", "{out}", "--tier", "huge"], 2, ["tier", "fast"]),
        (["{clip}", "{out}", "--engine", "warp"], 2, ["--engine", "openvino"]),
        (["{clip}", "{out}", "--device", "NPU9"], 1, ["NPU9", "CPU"]),
        (["{clip}", "{out}", "--weights", "{missing}"], 1, ["missing.mp4", "weights"]),
        (["{clip}", "{out}", "--strength", "2"], 2, ["--strength"]),
        (["{clip}", "{out}", "--start", "99"], 1, ["rainy.mp4", "0.400 s"]),
        (["{clip}", "{out}", "--report", "{folder}/no/r.json"], 1, ["r.json"]),
        (["{clip}", "{folder}/dry.xyz"], 1, ["dry.xyz"]),
        (["{clip}"], 2, ["DRY"]),
        (["{empty}", "{out}"], 1, ["empty"]),
        (["", "{out}"], 1, ["empty"]),
        (["{clip}", "{out}", "--crf", "20", "--bitrate", "900"], 2, ["--crf", "--bitrate"]),
        (["{clip}", "{out}", "--start", "inf"], 2, ["--start"]),
        (["{clip}", "{out}", "--report", "{clip}"], 1, ["rainy.mp4", "the report would replace"]),
        (["{clip}", "{out}", "--report", "{out}"], 1, ["dry.mp4", "the report would replace"]),
        (["{clip}", "{folder}/" + 300 * "x" + ".mp4"], 1, ["xxx"]),
        (["{clip}", "{out}", "--weights", 300 * "w"], 1, ["www"]),
    ],
    ids=lambda value: " ".join(value[1:]) if isinstance(value, list) else None,
)
def test_wrong_use_gets_one_clear_line_and_leaves_nothing(clip, tmp_path, arguments, code, says):
    (tmp_path / "exists.mp4").write_text("keep me")
    (tmp_path / "empty").mkdir()
    before = sorted(tmp_path.iterdir())
    places = {
        "clip": clip,
        "missing": tmp_path / "missing.mp4",
        "out": tmp_path / "dry.mp4",
        "exists": tmp_path / "exists.mp4",
        "empty": tmp_path / "empty",
        "folder": tmp_path,
    }
    done = vderain("run", *(argument.format(**places) for argument in arguments))
    assert done.returncode == code, done.stderr
    assert "Traceback" not in done.stderr
    for text in says:
        assert text in done.stderr
    assert sorted(tmp_path.iterdir()) == before
    assert (tmp_path / "exists.mp4").read_text() == "keep me"


@pytest.mark.parametrize(
    "given",
    [
        ("--ca-file", "missing.pem"),
        ("--port", "8080"),
        ("--log", "text"),
        ("--audio", "none"),
        ("--set", "engine-timeout=5"),
        ("--live",),
    ],
)
def test_options_of_live_cameras_are_those_of_vderain_live(given, tmp_path):
    result = CliRunner().invoke(cli, ["run", str(SAMPLE), str(tmp_path / "dry.mp4"), *given])
    assert result.exit_code == 2
    name = given[1].partition("=")[0] if given[0] == "--set" else given[0]
    assert f"{name} is for live cameras; use vderain live" in result.output
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    "given",
    [
        ("--start", "0"),
        ("--set", "lookahead=1"),
        ("--set", "decoder=nvdec"),
        ("--set", "queue-frames=4"),
        ("--overwrite",),
        ("--set", "pipe-format=y4m"),
    ],
)
def test_options_of_files_are_refused_for_live_cameras(given, tmp_path, monkeypatch):
    monkeypatch.setattr("vderain.cli.cameras.station.Station", None)  # nothing begins
    url, outputs = "rtsp://user:secret@127.0.0.1:1/a", str(tmp_path / "recordings")
    name = given[1].partition("=")[0] if given[0] == "--set" else given[0]
    result = CliRunner().invoke(run, [url, outputs, *given], standalone_mode=False)
    assert isinstance(result.exception, OptionError)
    assert f"{name} is for files" in str(result.exception)
    result = CliRunner().invoke(cli, ["live", url, outputs, *given])
    assert result.exit_code == 2 and f"{name} is for files" in result.output
    assert not list(tmp_path.iterdir())


def test_run_of_a_camera_is_vderain_live_with_its_defaults(tmp_path, monkeypatch):
    seen = []
    monkeypatch.setattr(
        "vderain.cli.cameras.station.derain_camera", lambda *parts: seen.append(parts[:3])
    )
    words = ["rtsp://user:secret@h/a", str(tmp_path / "r"), "http://h/b", "--crf", "30"]
    for command in ("run", "live"):
        assert CliRunner().invoke(cli, [command, *words, "--strength", "0.5"]).exit_code == 0
    assert seen[0] == seen[1]
    assert seen[0][0].name == "rtsp://***@h/a" and seen[0][0].encode.crf == 30


def test_debug_shows_the_traceback(tmp_path):
    done = in_a_process(
        "run", tmp_path / "no.mp4", "x.mp4", env={**os.environ, "VDERAIN_DEBUG": "1"}
    )
    assert done.returncode == 1
    assert "Traceback" in done.stderr and "SourceError" in done.stderr


def test_weights_changed_by_one_byte_are_refused(clip, tmp_path):
    from vderain import weights

    shipped = Path(weights.__file__).parent
    for name in ("fast.safetensors", "fast.json"):
        (tmp_path / name).write_bytes((shipped / name).read_bytes())
    data = bytearray((tmp_path / "fast.safetensors").read_bytes())
    data[len(data) // 2] ^= 1
    (tmp_path / "fast.safetensors").write_bytes(data)
    done = vderain("run", clip, tmp_path / "dry.mp4", "--weights", tmp_path / "fast.safetensors")
    assert done.returncode == 1
    assert "damaged" in done.stderr and "fast.safetensors" in done.stderr
    assert not (tmp_path / "dry.mp4").exists()


def test_damage_and_losses_give_exit_code_three(tmp_path):
    clip = write(tmp_path / "rainy.mp4", data=True)
    done = vderain("run", clip, tmp_path / "dry.mkv")
    assert done.returncode == 3, done.stderr
    assert "loss:" in done.stderr
    assert (tmp_path / "dry.mkv").exists()


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_stops_the_run_and_leaves_no_file(long_clip, tmp_path, number):
    clip = shutil.copy(long_clip, tmp_path / "rainy.mp4")
    command = [*VDERAIN, "run", clip, str(tmp_path / "dry.mp4"), "--quiet"]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
    deadline = time.monotonic() + 60
    while not list(tmp_path.glob(".*part*")) and time.monotonic() < deadline:
        time.sleep(0.05)
    process.send_signal(number)
    assert process.wait(30) == 130
    assert "interrupted" in process.stderr.read()
    assert [path.name for path in tmp_path.iterdir()] == ["rainy.mp4"]


@pytest.mark.slow
def test_a_killed_run_does_not_trip_the_next(clip, long_clip, tmp_path):
    command = [*VDERAIN, "run", long_clip, str(tmp_path / "dry.mp4"), "--quiet"]
    process = subprocess.Popen(command)
    deadline = time.monotonic() + 60
    while not list(tmp_path.glob(".*part*")) and time.monotonic() < deadline:
        time.sleep(0.05)
    process.kill()
    process.wait(30)
    assert not (tmp_path / "dry.mp4").exists()
    assert in_a_process("run", clip, tmp_path / "dry.mp4").returncode == 0


def test_pipes_carry_matroska_in_and_out(tmp_path):
    clip = write(tmp_path / "rainy.mkv", languages=("eng",))
    done = in_a_process("run", "-", "-", input=Path(clip).read_bytes())
    assert done.returncode == 0, done.stderr
    (tmp_path / "dry.mkv").write_bytes(done.stdout)
    assert len(decoded_frames(tmp_path / "dry.mkv")) == 10
    with av.open(str(tmp_path / "dry.mkv")) as container:
        assert [stream.type for stream in container.streams] == ["video", "audio"]


@pytest.mark.slow
def test_a_reader_that_goes_away_ends_the_run_without_a_traceback(tmp_path):
    clip = write(tmp_path / "rainy.mkv", pts=tuple(range(0, 300 * STEP, STEP)))
    command = [*VDERAIN, "run", clip, "-", "--quiet"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=False)
    process.stdout.read(100)
    process.stdout.close()
    assert process.wait(60) == 1
    assert b"Traceback" not in process.stderr.read()


def test_help_names_every_command_and_exit_code():
    done = vderain("--help")
    assert done.returncode == 0
    for text in ("run", "compare", "info", "doctor", "Exit codes"):
        assert text in done.stdout
