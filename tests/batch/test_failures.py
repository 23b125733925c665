"""Clips through a batch that fail: folders, disks, sources and engines."""

import errno
import os
import shutil
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import pytest

from tests.batch.conftest import GOP, Killed
from tests.batch.test_derain_clips import KillAfter, Recorded, with_sidecar
from tests.fakes import OffsetEngine
from tests.media.synth import decoded_frames, noisy
from vderain.batch.disk import BatchStoppedError
from vderain.batch.jobs import InProcess, Outcome, attempt
from vderain.batch.planning import open_manifest
from vderain.errors import SinkError
from vderain.frames import Frame
from vderain.media import open_source
from vderain.options import EncodeOptions, RunOptions


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

    output, _ = with_sidecar(rig)
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
    assert len(decoded_frames(rig.target / "a.mp4")) == 60


@pytest.mark.parametrize(
    "change", [{"encode": EncodeOptions(preset="ultrafast", crf=30)}, {"weights_sha256": "others"}]
)
def test_other_settings_and_other_weights_start_a_clip_again(rig, change):
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
    from vderain.batch import derain_clips

    path = rig.clip(frames=60)
    if place is not None:
        noisy(path, [place])
    monkeypatch.setattr(derain_clips, "problems_of", lambda *paths, frames: ["a frame is missing"])
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
    assert len(decoded_frames(rig.target / "a.mp4")) == 60


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


def test_too_little_space_is_reported_before_the_work(rig, monkeypatch):
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


def test_a_clip_that_changes_while_it_is_derained_is_started_again(rig):
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
    assert len(tally.done) == 1 and len(decoded_frames(rig.target / "a.mp4")) == 40
