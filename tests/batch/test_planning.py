"""A whole batch: what waits, what it goes on with."""

import os
import time
from pathlib import Path

import pytest

from tests.batch.conftest import Killed
from tests.batch.test_derain_clips import KillAfter, Recorded
from tests.fakes import OffsetEngine
from tests.media.synth import decoded_frames
from vderain.batch.clips.find import Found
from vderain.batch.clips.joining import join_series
from vderain.batch.options import BatchOptions
from vderain.batch.planning import Settled, open_manifest, pinned, unpin
from vderain.batch.report.record import write_report
from vderain.interfaces import EngineSpec
from vderain.options import EngineOptions


class Openvino(OffsetEngine):
    def open(self, fmt):
        return EngineSpec("openvino", "bfloat16", "cpu", "fast")


def test_a_clip_in_work_keeps_its_engine_and_precision(rig):
    rig.clip(frames=60)
    with pytest.raises(Killed):
        rig.run(KillAfter(Openvino(), 1))
    with open_manifest(rig.target) as manifest:
        kept = pinned(manifest, EngineOptions())
        assert (kept.engine, kept.precision) == ("openvino", "bfloat16")
        chosen = EngineOptions(engine="reference")
        assert pinned(manifest, chosen) == chosen
    rig.run()
    with open_manifest(rig.target) as manifest:
        assert pinned(manifest, EngineOptions()) == EngineOptions(), "nothing is in work"


def test_a_clip_whose_engine_does_not_run_here_is_started_again_and_the_report_says_so(rig):
    rig.clip(frames=60)
    with pytest.raises(Killed):
        rig.run(KillAfter(Openvino(), 1))
    told = []
    with open_manifest(rig.target) as manifest:
        unpin(manifest, EngineOptions(engine="reference"), obstacle=lambda options: "never asked")
        unpin(manifest, EngineOptions(), obstacle=lambda options: "")
        assert pinned(manifest, EngineOptions()).engine == "openvino"
        unpin(
            manifest, EngineOptions(), lambda clip, text: told.append((clip.output.name, text)),
            obstacle=lambda options: f"no {options.precision}",
        )  # fmt: skip
        assert pinned(manifest, EngineOptions()) == EngineOptions()
    note = "begun again, since openvino bfloat16, which it began with, does not run: no bfloat16"
    assert told == [("a.mp4", note)]
    executor = Recorded(rig.engine)
    rig.run(executor)
    assert len(executor.jobs) == 3 and rig.left_over() == []
    assert rig.rows()["a.mp4"].record["notes"][0] == note


def test_this_machine_is_asked_which_engines_it_runs(rig):
    rig.clip(frames=60)

    class OnGpu(OffsetEngine):
        def open(self, fmt):
            return EngineSpec("cuda", "float16", "cuda", "fast")

    with pytest.raises(Killed):
        rig.run(KillAfter(OnGpu(), 1))
    with open_manifest(rig.target) as manifest:
        unpin(manifest, EngineOptions(device="cpu"))
        assert pinned(manifest, EngineOptions()) == EngineOptions()


def test_a_joined_file_that_existed_before_is_left_alone_and_reported(rig):
    for second in range(2):
        rig.clip(f"20260101_12000{second}_F.mp4", frames=25)
    rig.run()
    name = "20260101_120000_F-joined.mp4"
    (rig.target / name).write_bytes(b"somebody else's")
    told = []
    with open_manifest(rig.target) as manifest:
        assert join_series(manifest, rig.target, lambda clip, text: told.append(text))
        assert (rig.target / name).read_bytes() == b"somebody else's"
        assert told == [
            f"{name} was there before and is left alone; use overwrite=True, or remove it"
        ]
        clips = [clip.id for clip in manifest.clips()]
        assert join_series(manifest, rig.target, lambda clip, text: None, clips)
    assert len(decoded_frames(rig.target / name)) == 50


def test_a_joined_file_has_the_time_of_the_last_clip_of_its_recording(rig):
    for second in range(2):
        source = rig.clip(f"20260101_12000{second}_F.mp4", frames=25)
        os.utime(source, (1e9 + second, 1e9 + second))
    rig.run()
    with open_manifest(rig.target) as manifest:
        assert join_series(manifest, rig.target, lambda clip, text: None)
    assert os.stat(rig.target / "20260101_120000_F-joined.mp4").st_mtime == 1e9 + 1


class Clock:
    now = 0.0

    def __call__(self):
        return self.now


def found(name, size=10, mtime=5):
    return Found(Path(name), Path(name), size, mtime)


def test_a_clip_waits_until_it_has_not_changed_for_a_while():
    clock = Clock()
    settled = Settled(BatchOptions(settle_s=10.0), clock)
    assert settled.new(iter([found("a")])) == []
    clock.now = 6.0
    assert settled.new(iter([found("a", size=20)])) == []
    clock.now = 12.0
    assert settled.new(iter([found("a", size=20)])) == [], "six seconds since it grew"
    clock.now = 16.0
    assert settled.new(iter([found("a", size=20)])) == [found("a", size=20)]
    clock.now = 30.0
    assert settled.new(iter([found("a", size=20)])) == [], "it was given out"
    assert settled.new(iter([found("a", size=21)])) == []
    clock.now = 40.0
    assert settled.new(iter([found("a", size=21)])) == [found("a", size=21)]


def test_times_of_the_future_and_empty_files_are_no_trouble():
    clock = Clock()
    settled = Settled(BatchOptions(settle_s=1.0), clock)
    future = found("a", mtime=10**20)
    assert settled.new(iter([future, found("empty", size=0)])) == []
    clock.now = 2.0
    assert settled.new(iter([future, found("empty", size=0)])) == [future]


class Falling:
    """A clock that is set back by an hour whenever somebody looks."""

    def __init__(self):
        self.now_s = 1e9

    def __call__(self):
        self.now_s -= 3600.0
        return self.now_s


def test_a_batch_whose_clock_goes_backwards_goes_on_and_ends(rig, monkeypatch):
    source = rig.clip("a.mp4", frames=60)
    os.utime(source, (4e9, 4e9))
    clock = Falling()
    monkeypatch.setattr(time, "time", clock)
    with pytest.raises(Killed):
        rig.run(KillAfter(rig.engine, 1))
    executor = Recorded(rig.engine)
    tally = rig.run(executor)
    assert (len(tally.done), len(executor.jobs)) == (1, 2), "what was done counts"
    assert os.stat(rig.target / "a.mp4").st_mtime == 4e9
    executor = Recorded(rig.engine)
    assert rig.run(executor).exit_code == 0 and executor.jobs == []
    assert rig.left_over() == []
    # Of a process that is gone, and by this clock not there yet.
    unfinished = rig.target / f".vderain-{1 << 30}-00000000.part"
    unfinished.touch()
    with open_manifest(rig.target) as manifest:
        assert write_report(rig.target, rig.target, manifest.clips()).done == 1
    assert unfinished.exists() and clock.now_s < 1e9


def test_a_source_whose_modification_time_falls_during_the_work_is_started_again(rig):
    source = rig.clip("a.mp4", frames=60)
    os.utime(source, (2e9, 2e9))

    class SetsBack(Recorded):
        def run(self, next_job):
            for outcome in super().run(next_job):
                os.utime(source, (1e9, 1e9))
                yield outcome

    executor = SetsBack(rig.engine)
    tally = rig.run(executor)
    assert (len(tally.done), len(executor.jobs)) == (1, 6)
    assert os.stat(rig.target / "a.mp4").st_mtime == 1e9
    assert len(decoded_frames(rig.target / "a.mp4")) == 60 and rig.left_over() == []


def test_a_clip_whose_time_falls_has_changed():
    clock = Clock()
    settled = Settled(BatchOptions(settle_s=10.0), clock)
    for now_s, mtime, is_ready in (
        (0.0, 9, False),
        (9.0, 5, False),
        (18.0, 5, False),
        (19.0, 5, True),
    ):
        clock.now = now_s
        assert bool(settled.new(iter([found("a", mtime=mtime)]))) == is_ready


def test_a_joined_file_grows_with_its_series(rig):
    told = []

    def join():
        with open_manifest(rig.target) as manifest:
            return join_series(manifest, rig.target, lambda clip, text: told.append(text))

    for second in range(3):
        rig.clip(f"20260101_12000{second}_F.mp4", frames=25)
        rig.run()
        assert join()
    joined = rig.target / "20260101_120000_F-joined.mp4"
    assert len(decoded_frames(joined)) == 75
    before = joined.stat()
    assert join() and joined.stat() == before, "nothing is new"
    assert told == ["joined with 1 after it", "joined with 2 after it"]
    joined.write_bytes(b"somebody else's")
    assert join(), "of the same clips"
    rig.clip("20260101_120003_F.mp4", frames=25)
    rig.run()
    assert not join() and joined.read_bytes() == b"somebody else's"
    assert "overwrite=True" in told[-1]
