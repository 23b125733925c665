"""Clips through a batch: all of them, once, whole, whatever happens on the way."""

import errno
import os
import shutil
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from tests.batch.conftest import GOP, Killed
from tests.fakes import OffsetEngine
from tests.media.synth import STEP, noisy, payloads, pictures, samples, streams, times
from vderain.batch.archive import open_manifest
from vderain.batch.disk import BatchStoppedError
from vderain.batch.jobs import InProcess, Outcome, attempt
from vderain.batch.options import Settings
from vderain.batch.rain.spans import Gated
from vderain.errors import SinkError
from vderain.frames import Frame
from vderain.media import open_source
from vderain.media.edit.inspect import inspect
from vderain.options import EncodeOptions, RunOptions


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
    return [samples(image).copy() for image in pictures(path)]


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
    assert len(pictures(output)) == 12 and payloads(output, 1) == payloads(source, 1)
    assert rig.left_over() == []


def test_what_lies_beside_a_clip_of_a_long_name_has_a_shorter_one(rig):
    name = "雨" * 80 + ".mp4"
    rig.clip(name, frames=12, data=True)
    encode = replace(rig.settings.encode, codec="ffv1", preset=None)
    rig.settings = replace(rig.settings, encode=encode)
    tally = rig.run()
    assert (len(tally.done), tally.failed) == (1, []), rig.events
    (beside,) = rig.target.glob("*.bin")
    assert beside.name.startswith("雨" * 70) and beside.name.endswith(".1.bin_data.bin")
    assert beside.read_bytes().startswith(b"GPS0GPS1")
    assert beside.with_name(beside.name + ".jsonl").exists()


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


def test_overwrite_makes_what_is_done_anew(rig):
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
    assert len(rig.run().done) == 1 and len(pictures(output)) == 12


def test_a_source_that_changed_since_is_not_taken_for_done(rig):
    rig.clip("a.mp4", frames=12)
    rig.run()
    rig.clip("a.mp4", frames=20)
    assert [clip.output.name for clip in rig.plan().waiting] == ["a.mp4"]
    rig.settings = replace(rig.settings, encode=replace(rig.settings.encode, overwrite=True))
    rig.run()
    assert len(pictures(rig.target / "a.mp4")) == 20


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
    from vderain.batch import runner

    rig.clip(frames=12)

    def die(*_):
        raise Killed

    with monkeypatch.context() as patch:
        patch.setattr(runner.Batch, "_finish", die)
        with pytest.raises(Killed):
            rig.run()
    assert (rig.target / "a.mp4").exists()
    executor = Recorded(rig.engine)
    tally = rig.run(executor)
    assert executor.jobs == [] and len(tally.done) == 1 and rig.rows()["a.mp4"].state == "done"
    assert rig.left_over() == []


def with_data_beside(rig):
    """The output of a clip whose data no Matroska holds, and the file that they go to."""
    rig.clip("x.mp4", frames=12, data=True)
    encode = replace(rig.settings.encode, codec="ffv1", preset=None)
    rig.settings = replace(rig.settings, encode=encode)
    return rig.target / "x.mp4.mkv", rig.target / "x.mp4.mkv.1.bin_data.bin"


def test_a_kill_between_the_names_of_a_clip_and_of_what_lies_beside_it_costs_no_clip(
    rig, monkeypatch
):
    from vderain.batch.clips import clip_files

    output, beside = with_data_beside(rig)
    name_file = clip_files.name_file

    def die_at_the_video(partial, path, *, overwrite):
        if path == output:
            raise Killed
        name_file(partial, path, overwrite=overwrite)

    with monkeypatch.context() as patch:
        patch.setattr(clip_files, "name_file", die_at_the_video)
        with pytest.raises(Killed):
            rig.run()
    assert beside.exists() and not output.exists()
    assert len(rig.run().done) == 1 and output.exists()


def test_an_output_that_was_removed_is_made_again_with_what_lies_beside_it(rig):
    output, beside = with_data_beside(rig)
    rig.run()
    output.unlink()
    assert beside.exists() and len(rig.run().done) == 1 and output.exists()


@pytest.fixture
def closed(monkeypatch):
    """Folders that take no files from now on; for root, permissions do not bind."""
    folders = set()
    access, link, replaces = os.access, os.link, os.replace

    def refused(move):
        def moved(source, destination, **options):
            if Path(destination).parent in folders:
                number = errno.EACCES
                raise PermissionError(number, os.strerror(number), source, None, destination)
            move(source, destination, **options)

        return moved

    monkeypatch.setattr(os, "link", refused(link))
    monkeypatch.setattr(os, "replace", refused(replaces))
    monkeypatch.setattr(os, "access", lambda p, m: Path(p) not in folders and access(p, m))
    return folders


def test_a_folder_of_the_target_that_takes_no_files_is_named_before_the_work(rig, closed):
    rig.clip("day/a.mp4", frames=12)
    rig.clip("b.mp4", frames=12)
    place = rig.target / "day"
    place.mkdir(parents=True)
    closed.add(place)
    executor = Recorded(rig.engine)
    tally = rig.run(executor)
    assert executor.jobs == [("b.mp4", 0)] and len(tally.done) == 1
    reason = rig.rows()["a.mp4"].reason
    assert reason.startswith(f"{place}: ") and reason.endswith(
        "writable, then use retry_failed=True"
    )


def test_a_folder_of_the_target_that_takes_no_files_at_the_end_is_named(rig, closed):
    rig.clip("day/a.mp4", frames=12)
    place = rig.target / "day"

    class Closes(Recorded):
        def run(self, next_job):
            for outcome in super().run(next_job):
                closed.add(place)
                yield outcome

    executor = Closes(rig.engine)
    rig.run(executor)
    assert len(executor.jobs) == 1, "what is derained stays"
    told = [text for name, text in rig.events]
    assert len(told) == 2 and all(f"{place}: no file can be put there (" in text for text in told)
    closed.clear()
    with open_manifest(rig.target) as manifest:
        manifest.forgive()
    executor = Recorded(rig.engine)
    assert len(rig.run(executor).done) == 1 and executor.jobs == []


def test_what_is_in_the_way_of_an_output_is_named(rig, monkeypatch):
    from vderain.batch.clips import clip_files

    output, _ = with_data_beside(rig)
    name_file = clip_files.name_file

    def others_are_faster(partial, path, *, overwrite):
        output.touch()
        name_file(partial, path, overwrite=overwrite)

    monkeypatch.setattr(clip_files, "name_file", others_are_faster)
    rig.run()
    assert f"{output}: was written by another program" in rig.events[0][1]


def test_a_segment_file_that_was_cut_short_is_made_again(rig):
    rig.clip(frames=60)
    with pytest.raises(Killed):
        rig.run(KillAfter(OffsetEngine(), 2))
    (first, *_) = sorted((rig.target / ".vderain-batch/segments").iterdir())
    first.write_bytes(first.read_bytes()[:100])
    executor = Recorded(rig.engine)
    rig.run(executor)
    assert [number for _, number in executor.jobs] == [0, 2]
    assert len(pictures(rig.target / "a.mp4")) == 60


@pytest.mark.parametrize(
    "change", [{"encode": EncodeOptions(preset="ultrafast", crf=30)}, {"weights_sha256": "others"}]
)
def test_other_settings_and_other_weights_begin_a_clip_anew(rig, change):
    rig.clip(frames=60)
    with pytest.raises(Killed):
        rig.run(KillAfter(OffsetEngine(), 2))
    rig.settings = replace(rig.settings, **change)
    executor = Recorded(rig.engine)
    rig.run(executor)
    assert len(executor.jobs) == 3 and rig.left_over() == []


def test_damage_in_several_segments_is_added_up_and_counted_once(rig):
    large = {"g": str(GOP), "bf": "0", "crf": "5"}
    path = noisy(rig.clip(frames=60, options=large), [4, 15, 16, 27, 44])
    with closing(open_source(str(path), run=RunOptions(), encode=EncodeOptions())) as source:
        assert len([item for item in source if isinstance(item, Frame)]) == 60
        skipped, damaged = source.stats.skipped, source.stats.damaged_frames
    assert (skipped, damaged) == (0, 5)
    # Around each cut is a GOP that both sides decode.
    assert rig.run(margin=2).exit_code == 3
    assert rig.rows()["a.mp4"].record["losses"] == [
        "5 damaged frames were derained as far as they could be decoded"
    ]


@pytest.mark.parametrize("place", [None, 15])
def test_only_damage_excuses_an_output_that_is_not_as_its_source(rig, monkeypatch, place):
    from vderain.batch import runner

    path = rig.clip(frames=60)
    if place is not None:
        noisy(path, [place])
    monkeypatch.setattr(runner, "problems_of", lambda *paths, frames: ["a frame is missing"])
    tally = rig.run()
    assert (len(tally.done), len(tally.failed)) == ((0, 1) if place is None else (1, 0))
    assert place is None or "a frame is missing" in rig.rows()["a.mp4"].record["losses"]


def test_a_broken_clip_is_tried_again_after_the_others_and_set_aside(rig):
    rig.clip("b.mp4", frames=12)
    rig.source.joinpath("a.mp4").write_bytes(b"this is no video" * 100)
    tally = rig.run()
    assert len(tally.done) == 1 and len(tally.failed) == 1 and tally.exit_code == 3
    names = [name for name, text in rig.events if text.startswith(("failed", "done"))]
    assert names == ["a.mp4", "b.mp4", "a.mp4"]
    row = rig.rows()["a.mp4"]
    assert row.state == "failed" and "no video" in row.reason and row.attempts == 2
    executor = Recorded(rig.engine)
    assert rig.run(executor).exit_code == 3 and executor.jobs == [], "told again, not tried again"
    assert rig.left_over() == []


def test_an_engine_that_fails_once_costs_one_attempt(rig):
    rig.clip(frames=60)

    class FailsOnce(InProcess):
        failed = False

        def run(self, next_job):
            while (job := next_job()) is not None:
                if job.number == 1 and not self.failed:
                    self.failed = True
                    yield Outcome(job, error=SinkError("a moment of weakness"))
                else:
                    yield attempt(job, self._engine)

    tally = rig.run(FailsOnce(rig.engine))
    assert len(tally.done) == 1 and tally.failed == []
    assert len(pictures(rig.target / "a.mp4")) == 60


def test_a_full_disk_stops_the_batch_and_keeps_what_is_done(rig):
    rig.clip(frames=60)

    class Full(InProcess):
        def run(self, next_job):
            while (job := next_job()) is not None:
                if job.number == 1:
                    error = SinkError("cannot be written")
                    error.__cause__ = OSError(errno.ENOSPC, "No space left on device")
                    yield Outcome(job, error=error)
                else:
                    yield attempt(job, self._engine)

    with pytest.raises(BatchStoppedError, match="No space left"):
        rig.run(Full(rig.engine))
    executor = Recorded(rig.engine)
    rig.run(executor)
    assert [number for _, number in executor.jobs] == [1, 2]


def test_too_little_space_is_told_before_the_work(rig, monkeypatch):
    rig.clip(frames=12)
    usage = shutil._ntuple_diskusage(10**9, 10**9, 1000)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage)
    with pytest.raises(BatchStoppedError, match="make room"):
        rig.run()


def test_an_output_of_somebody_else_is_left_alone(rig):
    rig.clip(frames=12)
    rig.target.mkdir()
    (rig.target / "a.mp4").write_text("not ours")
    tally = rig.run()
    assert (rig.target / "a.mp4").read_text() == "not ours"
    assert len(tally.skipped) == 1 and tally.exit_code == 0


def test_a_clip_that_is_deleted_in_mid_work_fails_alone(rig):
    source = rig.clip("a.mp4", frames=60)
    rig.clip("b.mp4", frames=12)

    class Deletes(InProcess):
        def run(self, next_job):
            while (job := next_job()) is not None:
                yield attempt(job, self._engine)
                source.unlink(missing_ok=True)

    tally = rig.run(Deletes(rig.engine))
    assert len(tally.done) == 1 and len(tally.failed) == 1
    assert "gone" in rig.rows()["a.mp4"].reason or "no such file" in rig.rows()["a.mp4"].reason


def test_a_clip_that_changes_in_mid_work_is_begun_anew(rig):
    rig.clip("a.mp4", frames=60)

    class Rewrites(InProcess):
        done = False

        def run(self, next_job):
            while (job := next_job()) is not None:
                yield attempt(job, self._engine)
                if not self.done:
                    self.done = True
                    rig.clip("a.mp4", frames=40)

    tally = rig.run(Rewrites(rig.engine))
    assert len(tally.done) == 1 and len(pictures(rig.target / "a.mp4")) == 40


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


class DryAt:
    """Gating that finds some GOPs dry."""

    def __init__(self, *numbers):
        self.numbers = numbers

    def look(self, path):
        known = inspect(path)
        index = known.index
        dry = [number in self.numbers for number in range(len(index.gops))]
        spans = tuple((g.start_pts, g.end_pts) for g, d in zip(index.gops, dry, strict=True) if d)
        return known, Gated(spans, dry)


def gated(rig, gate):
    batch = replace(rig.settings.batch, gate=gate)
    return Settings(batch, rig.settings.run, rig.settings.engine, rig.settings.encode)


def test_dry_groups_are_copied_bit_by_bit(rig):
    source = rig.clip(frames=60)
    rig.settings, rig.gating = gated(rig, "smart-copy"), DryAt(0, 1, 4, 5)
    tally = rig.run()
    row = rig.rows()["a.mp4"]
    assert tally.done == [row.id] and row.record["frames_copied"] == 40
    before, after = frames_of(source), frames_of(rig.target / "a.mp4")
    assert len(after) == 60 and times(rig.target / "a.mp4") == times(source)
    for index in (0, 19, 40, 59):
        assert np.array_equal(before[index], after[index])
    assert np.mean(before[30].astype(int) - after[30]) == pytest.approx(5, abs=0.5)


def test_that_a_clip_goes_on_is_told_only_where_some_of_it_was_derained_before(rig):
    rig.clip(frames=60)
    rig.settings, rig.gating = gated(rig, "smart-copy"), DryAt(0, 4)
    with pytest.raises(Killed):
        rig.run(KillAfter(rig.engine, 1))
    assert rig.events == []
    rig.run()
    assert rig.events[0] == ("a.mp4", "resumes: 1 of 3 segments are done")


def test_dry_frames_are_encoded_as_they_are(rig):
    source = rig.clip(frames=30)
    encode = replace(rig.settings.encode, codec="ffv1", preset=None)
    rig.settings, rig.gating = replace(gated(rig, "frames"), encode=encode), DryAt(1)
    rig.run()
    before, after = frames_of(source), frames_of(rig.target / "a.mp4.mkv")
    changed = [not np.array_equal(a, b) for a, b in zip(before, after, strict=True)]
    assert changed == [True] * GOP + [False] * GOP + [True] * GOP


def test_why_nothing_is_copied_is_recorded(rig):
    rig.clip(frames=20, codec="libx265", options={"preset": "ultrafast"})
    rig.settings, rig.gating = gated(rig, "smart-copy"), DryAt(0, 1)
    rig.run()
    record = rig.rows()["a.mp4"].record
    assert record["frames_copied"] == 0 and "codec='hevc'" in record["not_copied"]


@pytest.mark.parametrize(
    ("codec", "options"),
    [
        ("libx264", {"g": "10", "bf": "2", "x264-params": "open-gop=1:scenecut=0"}),
        ("libx265", {"x265-params": "keyint=9:bframes=2:b-adapt=0:log-level=none"}),
    ],
)
def test_that_nothing_is_copied_of_open_groups_is_recorded_where_some_are_dry(rig, codec, options):
    rig.clip("a.mp4", frames=60, codec=codec, options=options)
    encode = replace(rig.settings.encode, codec="h264" if codec == "libx264" else "hevc")
    rig.settings = replace(gated(rig, "smart-copy"), encode=encode)
    for numbers, is_told in (((1, 2, 3), True), ((), False)):
        rig.gating = DryAt(*numbers)
        rig.run()
        record = rig.rows()["a.mp4"].record
        assert record["frames_copied"] == 0
        assert ("GOPs are open" in record["not_copied"]) == is_told
        (rig.target / "a.mp4").unlink()
