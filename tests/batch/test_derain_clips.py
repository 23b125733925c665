"""Clips through a batch: all of them, once, whole, whatever happens on the way."""

import os
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from tests.batch.conftest import Killed
from tests.fakes import OffsetEngine
from tests.media.synth import STEP, decoded_frames, payloads, samples, streams, times
from vderain.batch.jobs import InProcess, attempt
from vderain.batch.manifest import ClipRow, Segment
from vderain.batch.records import clip_record
from vderain.interfaces import SinkReport


class KillAfter(InProcess):
    """Dies as by SIGKILL when so many segments are complete."""

    def __init__(self, engine, count):
        super().__init__(engine)
        self.count = count

    def run(self, next_job):
        for number, outcome in enumerate(super().run(next_job)):
            if number == self.count:
                raise Killed
            yield outcome


class Recorded(InProcess):
    """Keeps the jobs that it was given."""

    def __init__(self, engine):
        super().__init__(engine)
        self.jobs = []

    def run(self, next_job):
        for outcome in super().run(next_job):
            self.jobs.append((outcome.job.source.name, outcome.job.number))
            yield outcome


def frames_of(path):
    return [samples(image).copy() for image in decoded_frames(path)]


def test_clips_come_out_darker_with_all_else_as_it_was(rig):
    source = rig.clip(
        "day/a.mp4", languages=("eng",), data=True, rotation=90, metadata={"title": "Monday"}
    )
    os.utime(source, (1e9, 1e9))
    tally = rig.run()
    output = rig.target / "day/a.mp4"
    assert (len(tally.done), tally.failed, tally.exit_code) == (1, [], 0)
    assert times(output) == times(source) and streams(output) == streams(source)
    assert payloads(output, 1) == payloads(source, 1)
    assert os.stat(output).st_mtime == 1e9
    difference = np.mean(
        [a.astype(int) - b for a, b in zip(frames_of(source), frames_of(output), strict=True)]
    )
    assert difference == pytest.approx(5, abs=0.5)
    assert rig.left_over() == []


@pytest.mark.parametrize(
    "name",
    ["two\nlines.mp4", "雨.mp4", "x" * 251 + ".mp4", "é" * 125 + "x.mkv", "x" * 251 + ".mov"],
    ids=["newline", "unicode", "255 bytes", "255 bytes of unicode", "255 bytes of mov"],
)
def test_a_clip_with_sound_comes_through_whatever_its_name(rig, name):
    source = rig.clip(name, frames=12, languages=("eng",))
    tally = rig.run()
    assert (len(tally.done), tally.failed) == (1, []), rig.events
    output = rig.target / name
    assert len(decoded_frames(output)) == 12 and payloads(output, 1) == payloads(source, 1)
    assert rig.left_over() == []


def test_the_sidecar_of_a_clip_with_a_long_name_has_a_shorter_name(rig):
    name = "雨" * 80 + ".mp4"
    rig.clip(name, frames=12, data=True)
    encode = replace(rig.settings.encode, codec="ffv1", preset=None)
    rig.settings = replace(rig.settings, encode=encode)
    tally = rig.run()
    assert (len(tally.done), tally.failed) == (1, []), rig.events
    (sidecar,) = rig.target.glob("*.bin")
    assert sidecar.name.startswith("雨" * 70) and sidecar.name.endswith(".1.bin_data.bin")
    assert sidecar.read_bytes().startswith(b"GPS0GPS1")
    assert sidecar.with_name(sidecar.name + ".jsonl").exists()


def test_what_is_done_is_skipped_and_what_is_new_is_not(rig):
    rig.clip("a.mp4", frames=12)
    rig.run()
    rig.clip("b.mp4", frames=12)
    executor = Recorded(rig.engine)
    tally = rig.run(executor)
    assert {name for name, _ in executor.jobs} == {"b.mp4"} and len(tally.done) == 1


def test_an_output_that_was_removed_is_made_again(rig):
    rig.clip("a.mp4", frames=12)
    rig.run()
    (rig.target / "a.mp4").unlink()
    rig.run()
    assert (rig.target / "a.mp4").exists()


def overwriting(rig, **changes):
    rig.settings = replace(
        rig.settings, encode=replace(rig.settings.encode, overwrite=True, **changes)
    )


def test_overwrite_derains_finished_clips_again(rig):
    rig.clip("a.mp4", frames=12)
    rig.run()
    overwriting(rig)
    for crf in (20, 30, 30):
        overwriting(rig, crf=crf)
        assert [clip.output.name for clip in rig.plan().waiting] == ["a.mp4"]
        assert rig.rows()["a.mp4"].state == "done", "a plan changes nothing"
        before = os.stat(rig.target / "a.mp4").st_ino
        assert len(rig.run().done) == 1 and os.stat(rig.target / "a.mp4").st_ino != before


def test_overwrite_that_was_killed_goes_on(rig):
    for name in ("a.mp4", "b.mp4", "c.mp4"):
        rig.clip(name, frames=12)
    rig.run()
    overwriting(rig)
    with pytest.raises(Killed):
        rig.run(KillAfter(rig.engine, 1))
    executor = Recorded(rig.engine)
    rig.run(executor)
    assert {name for name, _ in executor.jobs} == {"b.mp4", "c.mp4"}
    with pytest.raises(Killed):
        rig.run(KillAfter(rig.engine, 1))
    overwriting(rig, crf=30)
    executor = Recorded(rig.engine)
    rig.run(executor)
    assert {name for name, _ in executor.jobs} == {"a.mp4", "b.mp4", "c.mp4"}, "other settings"


@pytest.mark.parametrize("is_longer", [True, False])
def test_an_output_that_another_program_replaced_is_not_taken_for_done(rig, is_longer):
    rig.clip("a.mp4", frames=12)
    rig.run()
    output = rig.target / "a.mp4"
    junk = b"x" * (output.stat().st_size + is_longer)
    time_ns = output.stat().st_mtime_ns
    output.write_bytes(junk)
    os.utime(output, ns=(time_ns, time_ns + (not is_longer) * 10**10))
    for _ in range(2):
        tally = rig.run()
        assert tally.done == [] and len(tally.skipped) == 1 and output.read_bytes() == junk
        assert "was modified since it was written; overwrite=True" in rig.events[-1][1]
    overwriting(rig)
    assert len(rig.run().done) == 1 and len(decoded_frames(output)) == 12


def test_a_source_that_changed_since_is_not_taken_for_done(rig):
    rig.clip("a.mp4", frames=12)
    rig.run()
    rig.clip("a.mp4", frames=20)
    assert [clip.output.name for clip in rig.plan().waiting] == ["a.mp4"]
    rig.settings = replace(rig.settings, encode=replace(rig.settings.encode, overwrite=True))
    rig.run()
    assert len(decoded_frames(rig.target / "a.mp4")) == 20


@pytest.mark.parametrize("count", [0, 1, 2])
def test_a_killed_batch_goes_on_and_the_result_is_that_of_an_uninterrupted_one(
    rig, tmp_path, count
):
    rig.clip(frames=60)
    rig.run()
    whole = payloads(rig.target / "a.mp4", 0)
    shutil.rmtree(rig.target)
    with pytest.raises(Killed):
        rig.run(KillAfter(OffsetEngine(), count))
    assert not (rig.target / "a.mp4").exists()
    executor = Recorded(rig.engine)
    rig.run(executor)
    assert payloads(rig.target / "a.mp4", 0) == whole
    assert len(executor.jobs) == 3 - count, "segments of a second: 20 frames, of 60"
    assert rig.left_over() == []


def test_a_kill_after_the_output_got_its_name_costs_nothing(rig, monkeypatch):
    from vderain.batch import derain_clips

    rig.clip(frames=12)

    def die(*_):
        raise Killed

    with monkeypatch.context() as patch:
        patch.setattr(derain_clips.Batch, "_finish", die)
        with pytest.raises(Killed):
            rig.run()
    assert (rig.target / "a.mp4").exists()
    executor = Recorded(rig.engine)
    tally = rig.run(executor)
    assert executor.jobs == [] and len(tally.done) == 1 and rig.rows()["a.mp4"].state == "done"
    assert rig.left_over() == []


def with_sidecar(rig):
    """The output of a clip whose data no Matroska holds, and the file that they go to."""
    rig.clip("x.mp4", frames=12, data=True)
    encode = replace(rig.settings.encode, codec="ffv1", preset=None)
    rig.settings = replace(rig.settings, encode=encode)
    return rig.target / "x.mp4.mkv", rig.target / "x.mp4.mkv.1.bin_data.bin"


def test_a_kill_between_renaming_a_clip_and_its_sidecar_costs_no_clip(rig, monkeypatch):
    from vderain.batch.clips import clip_files

    output, sidecar = with_sidecar(rig)
    name_file = clip_files.name_file

    def die_at_the_video(partial, path, *, overwrite):
        if path == output:
            raise Killed
        name_file(partial, path, overwrite=overwrite)

    with monkeypatch.context() as patch:
        patch.setattr(clip_files, "name_file", die_at_the_video)
        with pytest.raises(Killed):
            rig.run()
    assert sidecar.exists() and not output.exists()
    assert len(rig.run().done) == 1 and output.exists()


def test_an_output_that_was_removed_is_made_again_with_its_sidecar(rig):
    output, sidecar = with_sidecar(rig)
    rig.run()
    output.unlink()
    assert sidecar.exists() and len(rig.run().done) == 1 and output.exists()


def test_frames_that_the_container_announces_and_that_do_not_come_out_are_a_loss(rig):
    rig.clip(frames=60)

    class LosesTwo(InProcess):
        def run(self, next_job):
            while (job := next_job()) is not None:
                end_pts = job.end_pts - (job.number == 1) * 2 * STEP
                yield attempt(replace(job, end_pts=end_pts), self._engine)

    tally = rig.run(LosesTwo(rig.engine))
    assert (len(tally.done), tally.exit_code) == (1, 3)
    record = rig.rows()["a.mp4"].record
    assert record["losses"] == ["58 frames came out of 60 that its container announces"]


@pytest.mark.parametrize(("frames", "more"), [(59, []), (58, ["58 frames came out of 60"])])
def test_missing_frames_that_were_skipped_as_damaged_are_named_once(frames, more):
    record = {"frames": frames, "decode_failures": 1, "seconds": 1.0, "engine": "cpu float32"}
    segment = Segment(0, 0, 60, 60, record={**record, "losses": [], "notes": []})
    clip = ClipRow(1, Path("a.mp4"), Path("a.mp4"), 1, 1, "planned")
    losses = clip_record(clip, [segment], SinkReport("a.mp4"))["losses"]
    assert losses[0] == "1 damaged frames or packets were skipped"
    assert [loss.partition(" that")[0] for loss in losses[1:]] == more
