"""The command as a user runs it, kills it, and runs it again."""

import errno
import json
import os
import shutil
import signal
import subprocess
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner

from tests.batch.conftest import Killed, Rig
from tests.batch.test_derain_clips import KillAfter
from tests.cli.archive import FAST, batch, clip, command
from tests.command import in_a_process
from tests.engines.conftest import write_weights
from tests.live.fakes import until
from tests.media.synth import decoded_frames, payloads, samples
from tests.networks import TEMPORAL
from vderain.batch.clips.find import Found
from vderain.batch.disk import BatchStoppedError
from vderain.batch.estimate import Estimate
from vderain.batch.planning import Plan, open_manifest
from vderain.cli import cli, main


@pytest.fixture
def folder(tmp_path):
    clip(tmp_path / "in" / "day" / "20260101_120000_F.mp4", languages=("eng",))
    clip(tmp_path / "in" / "20260101_120100_R.mkv")
    return tmp_path


def test_an_archive_is_mirrored(folder):
    done = in_a_process("batch", folder / "in", folder / "out", *FAST)
    assert done.returncode == 0 and done.stdout == "", done.stderr
    assert "2 clips derained" in done.stderr
    assert len(decoded_frames(folder / "out" / "day" / "20260101_120000_F.mp4")) == 25
    again = batch(folder / "in", folder / "out", *FAST)
    assert again.returncode == 0 and "0 clips derained" in again.stderr
    assert "day/20260101_120000_F.mp4: done" in done.stderr, "a log has a line for each clip"


def test_a_report_lists_every_clip_and_series_are_joined(folder):
    clip(folder / "in" / "day" / "20260101_120001_F.mp4", languages=("eng",))
    (folder / "in" / "broken.mp4").write_bytes(b"no video" * 100)
    done = batch(folder / "in", folder / "out", *FAST, "--retries", 0, "--join")
    report = json.loads((folder / "out" / "report.json").read_text())
    assert {entry["state"] for entry in report["clips"]} == {"done", "failed"}
    assert "broken.mp4" in (folder / "out" / "report.html").read_text()
    joined = folder / "out" / "day" / "20260101_120000_F-joined.mp4"
    assert len(decoded_frames(joined)) == 50 and "joined with 1 after it" in done.stderr


@pytest.mark.parametrize("gate", ["frames", "smart-copy"])
def test_dry_clips_stay_as_they_are(folder, gate):
    done = batch(folder / "in", folder / "out", *FAST, "--gate", gate)
    assert done.returncode == 0, done.stderr
    names = ("day/20260101_120000_F.mp4", "20260101_120100_R.mkv")
    for name in names:
        before, after = payloads(folder / "in" / name, 0), payloads(folder / "out" / name, 0)
        assert len(before) == len(after) and (before == after) == (gate == "smart-copy")


def test_a_dry_run_shows_the_plan_and_writes_nothing(folder):
    done = batch(folder / "in", folder / "out", *FAST, "--dry-run")
    assert done.returncode == 0, done.stderr
    assert "2 clips to derain" in done.stdout and "20260101_120100_R.mkv" in done.stdout
    assert "if all are like the 2 clips that were tried" in done.stdout
    assert "GB are free, enough" in done.stdout
    assert not (folder / "out").exists()


@pytest.mark.parametrize("more", [("--dry-run",), ()])
def test_clips_that_do_not_fit_all_together_are_reported_ahead(folder, monkeypatch, more):
    # Each clip finds room for itself.
    usage = shutil._ntuple_diskusage(10**12, 10**12, 80 << 20)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage)
    monkeypatch.setattr(Plan, "size_bytes", 90 << 20)
    estimated = Estimate(sampled=2, output_bytes=90 << 20)
    monkeypatch.setattr("vderain.batch.derain_archive.estimate", lambda *_, **__: estimated)
    arguments = ["batch", folder / "in", folder / "out", *FAST, "--engine", "reference", *more]
    done = CliRunner().invoke(cli, [str(argument) for argument in arguments])
    said = done.stdout if more else done.stderr
    assert done.exit_code == 0, done.stderr
    assert (
        "out: 0.1 GB are free, and 2 clips may need 0.2; the batch stops when the disk is full"
        in said
    )
    assert (folder / "out" / "20260101_120100_R.mkv").exists() == (not more)


def test_a_dry_run_changes_nothing_of_a_batch_that_is_there(tmp_path):
    rig = Rig(tmp_path)
    rig.clip("a.mp4", frames=12)
    rig.run()
    rig.clip("b.mp4", frames=60)
    with pytest.raises(Killed):
        rig.run(KillAfter(rig.engine, 1))
    rig.clip("c.mp4", frames=12)
    with open_manifest(rig.target) as manifest:
        manifest.set_state(
            manifest.add(Found(rig.source / "c.mp4", Path("c.mp4"), 1, 1)).id, "failed"
        )

    def known():
        with open_manifest(rig.target) as manifest:
            clips = [(clip, manifest.segments(clip.id)) for clip in manifest.clips()]
        files = {path: path.stat().st_mtime_ns for path in rig.target.rglob("*.nut")}
        return clips, files

    before = known()
    assert before[1], "segments of b.mp4"
    done = batch(
        rig.source, rig.target, "--dry-run", "--codec", "ffv1", "--retry-failed", "--engine", "reference"
    )  # fmt: skip
    assert done.returncode == 0 and "3 clips to derain" in done.stdout, done.stderr
    assert known() == before


def test_a_folder_that_cannot_be_read_is_a_loss(folder, unreadable):
    unreadable.add("day")
    arguments = ["batch", folder / "in", folder / "out", *FAST, "--engine", "reference", "--quiet"]
    done = CliRunner().invoke(cli, [str(argument) for argument in arguments])
    assert done.exit_code == 3, done.stderr
    assert f"{folder / 'in' / 'day'}: cannot be read (Permission denied)" in done.stderr
    assert (folder / "out" / "20260101_120100_R.mkv").exists()


def test_patterns_lists_and_quiet(folder, tmp_path):
    listed = tmp_path / "list.txt"
    listed.write_text(f"{folder / 'in' / '20260101_120100_R.mkv'}\n")
    done = batch("--list", listed, folder / "out", *FAST, "--quiet")
    assert (done.returncode, done.stderr) == (0, "")
    assert [path.name for path in (folder / "out").glob("*.mkv")] == ["20260101_120100_R.mkv"]
    done = batch(folder / "in", folder / "front", *FAST, "--include", "*_F.mp4")
    assert not (folder / "front" / "20260101_120100_R.mkv").exists()
    assert (folder / "front" / "day" / "20260101_120000_F.mp4").exists()


def test_what_find_lists_keeps_its_tree_and_overwrite_joins_again(folder):
    clip(folder / "in" / "day" / "20260101_120001_F.mp4", languages=("eng",))
    names = b"".join(
        b"./" + str(path.relative_to(folder)).encode() + b"\0" for path in folder.rglob("*_F.mp4")
    )
    for more in ((), ("--overwrite", "--crf", "40")):
        sizes = [path.stat().st_size for path in folder.glob("dry/in/day/*-joined.mp4")]
        done = batch("--list", "-", "dry", *FAST, "--join", *more, stdin=names, cwd=folder)
        assert done.returncode == 0 and "2 clips derained" in done.stderr, done.stderr
        (joined,) = folder.glob("dry/in/day/*-joined.mp4")
        assert [joined.stat().st_size] != sizes and len(decoded_frames(joined)) == 50


@pytest.mark.parametrize(
    ("arguments", "code", "says"),
    [
        (["{}/empty", "{}/new/out"], 1, "/empty: no video in it"),
        (["{}/in", "{}/new/out", "--include", "zzz*"], 1, "no video is left by --include 'zzz*'"),
        (["{}/photos", "{}/new/out"], 1, "vderain run"),
        (["--list", "/dev/null", "{}/new/out"], 1, "names no clip"),
        (["{}/in/a.mp4", "{}/in/day/a.mp4", "{}/new/out"], 2, "would both be written"),
        (["{}/in", "{}/new/out", "--engine", "reference", "--device", "cuda:99"], 2, "on the CPU"),
    ],
)
def test_a_batch_that_is_refused_makes_nothing(folder, arguments, code, says):
    (folder / "empty").mkdir()
    (folder / "photos").mkdir()
    (folder / "photos" / "a.jpg").write_bytes(b"image")
    for name in ("in/a.mp4", "in/day/a.mp4"):
        (folder / name).write_bytes(b"clip")
    done = batch(*(argument.format(folder) for argument in arguments))
    assert done.returncode == code and says in done.stderr
    assert done.stderr.count("\n") == 1 and not (folder / "new").exists()


@pytest.mark.parametrize(
    ("arguments", "code", "says"),
    [
        (["{}/nothing", "{}/out"], 1, "there is no such file or folder"),
        (["{}/in", "{}/in"], 2, "is the source itself"),
        (["{}/out"], 2, "name the clips or their folder before it"),
        (["{}/in", "{}/in/20260101_120100_R.mkv"], 2, "is a file"),
        (["{}/in", "/proc/nothing"], 1, "make it writable, or choose another target folder"),
        (["{}/in", "{}/" + "x" * 256], 1, "File name too long"),
        (["/" + "x" * 256, "{}/out"], 1, "cannot be read (File name too long)"),
        (["{}/in", "{}/out", "--weights", "none.safetensors"], 1, "no such weights file"),
    ],
)
def test_what_cannot_be_done_is_one_line(folder, arguments, code, says):
    done = batch(*(argument.format(folder) for argument in arguments))
    assert done.returncode == code and says in done.stderr
    assert done.stderr.count("\n") == 1 and "Traceback" not in done.stderr


def test_a_broken_clip_is_named_and_the_others_are_done(folder):
    (folder / "in" / "broken\n.mp4").write_bytes(b"no video" * 100)
    done = batch(folder / "in", folder / "out", *FAST, "--retries", 0)
    assert done.returncode == 3 and "is set aside" in done.stderr
    assert "2 clips derained" in done.stderr and "1 set aside" in done.stderr


def test_a_full_disk_that_takes_no_report_either_is_still_reported(folder, monkeypatch):
    def full(*_, **__):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr("vderain.batch.derain_clips.assemble", full)
    monkeypatch.setattr("vderain.batch.report.record.write_whole", full)
    arguments = ["batch", folder / "in", folder / "out", *FAST, "--engine", "reference"]
    done = CliRunner().invoke(cli, [str(argument) for argument in arguments])
    assert isinstance(done.exception, BatchStoppedError), done.exception
    assert "make room and give the same command again" in str(done.exception)
    assert "the report cannot be written (No space left on device)" in done.stderr


def killed_after(folder, count):
    """Run the command and kill it when so many more segments are complete."""
    segments = folder / "out" / ".vderain-batch" / "segments"
    before = set(segments.glob("*.nut"))
    process = subprocess.Popen(
        command(folder / "in", folder / "out", *FAST, "--retries", 1), stderr=subprocess.DEVNULL
    )
    seen = set()

    def is_reached():
        seen.update(set(segments.glob("*-*.nut")) - before)  # a clip that is done has none any more
        return len(seen) >= count or process.poll() is not None

    try:
        until(is_reached, 60)
    finally:
        os.kill(process.pid, signal.SIGKILL)
        process.wait()
    return process.returncode


def clips_reported_in(target):
    clips = json.loads((target / "report.json").read_text())["clips"]
    return {(clip["output"], clip["state"], clip["reason"], clip["frames"]) for clip in clips}


@pytest.mark.slow
def test_killed_at_any_moment_it_goes_on(tmp_path):
    frames = {"long.mp4": 150, "other.mkv": 90}
    for name, count in frames.items():
        clip(tmp_path / "in" / name, frames=count, languages=("eng",))
    (tmp_path / "in" / "middle.mp4").write_bytes(b"no video" * 100)
    reference = batch(tmp_path / "in", tmp_path / "whole", *FAST, "--retries", 1)
    assert reference.returncode == 3 and "2 clips derained" in reference.stderr, reference.stderr
    for count in (1, 4, 3):
        assert killed_after(tmp_path, count) == -signal.SIGKILL, "it is not over"
        with open_manifest(tmp_path / "out") as manifest:
            states = {row.output.name: row.state for row in manifest.clips()}
            segments = [s for row in manifest.clips() for s in manifest.segments(row.id)]
        assert "planned" in states.values()
        is_begun = any(s.is_done for s in segments) or "done" in states.values()
        assert is_begun or count == 1, "the last one may be on the disk, and not in the manifest"
    done = batch(tmp_path / "in", tmp_path / "out", *FAST, "--retries", 1)
    assert done.returncode == 3, done.stderr
    for name in frames:
        for track in (0, 1):
            got, expected = (payloads(tmp_path / each / name, track) for each in ("out", "whole"))
            assert got == expected
    assert clips_reported_in(tmp_path / "out") == clips_reported_in(tmp_path / "whole")
    hidden = tmp_path / "out" / ".vderain-batch"
    left = [p for p in hidden.rglob("*") if p.is_file() and "manifest" not in p.name]
    assert left == []


@pytest.mark.slow
@pytest.mark.parametrize("frames", [3, 5])
def test_a_network_that_looks_at_several_frames_sees_them_across_cuts(tmp_path, frames):
    clip(tmp_path / "in" / "a.mkv", frames=60)
    weights = tmp_path / "temporal.safetensors"
    write_weights(weights, replace(TEMPORAL, frames=frames))
    chosen = ["--codec", "ffv1", "--engine", "reference", "--weights", str(weights), "--quiet"]
    uncut = CliRunner().invoke(
        cli, ["run", str(tmp_path / "in/a.mkv"), str(tmp_path / "a.mkv"), *chosen]
    )
    assert uncut.exit_code == 0, uncut.stderr
    folders = [str(tmp_path / "in"), str(tmp_path / "out")]
    done = CliRunner().invoke(cli, ["batch", *folders, *chosen, "--segment", "1"])
    assert done.exit_code == 0, done.stderr
    whole, parts = (decoded_frames(tmp_path / place) for place in ("a.mkv", "out/a.mkv"))
    assert len(whole) == len(parts) == 60
    different = [n for n in range(60) if not np.array_equal(samples(whole[n]), samples(parts[n]))]
    assert different == []


@pytest.mark.slow
def test_interrupted_it_stops_and_says_so(tmp_path):
    clip(tmp_path / "in" / "long.mp4", frames=1500)
    words = command(tmp_path / "in", tmp_path / "out", *FAST, "--engine", "reference")
    process = subprocess.Popen(words, stderr=subprocess.PIPE, text=True)
    segments = tmp_path / "out" / ".vderain-batch" / "segments"
    assert until(lambda: segments.is_dir() and list(segments.iterdir()), 90)
    process.send_signal(signal.SIGINT)
    _, said = process.communicate(timeout=20)
    assert process.returncode == 130
    assert "interrupted: 0 of 1 clip done; give the same command again to resume" in said
    assert not (tmp_path / "out" / "long.mp4").exists()


def test_what_a_second_interrupt_breaks_is_no_bug(monkeypatch, capsys):
    def fail(**_):
        try:
            raise KeyboardInterrupt
        finally:
            raise ValueError("generator already executing")

    monkeypatch.setattr(cli, "main", fail)
    monkeypatch.setattr(signal, "signal", lambda *_: None)
    with pytest.raises(SystemExit) as stopped:
        main()
    assert stopped.value.code == 130 and capsys.readouterr().err == "vderain: interrupted\n"
