"""A batch as a call of the library."""

from pathlib import Path

import pytest

import vderain
from tests.batch.conftest import CLOSED
from tests.fakes import OffsetEngine
from tests.media.synth import STEP, decoded_frames, write
from vderain.batch.derain_archive import derain_archive, plan_archive
from vderain.batch.options import BatchOptions
from vderain.errors import OptionError, SourceError
from vderain.options import EncodeOptions

FAST = {"batch": BatchOptions(segment_s=1.0), "encode": EncodeOptions(preset="ultrafast")}


@pytest.fixture
def archive(tmp_path, monkeypatch):
    monkeypatch.setattr("vderain.batch.derain_archive.open_engine", lambda options: OffsetEngine())
    for name in ("day/a.mp4", "b.mkv"):
        path = tmp_path / "in" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        write(path, pts=tuple(range(0, 60 * STEP, STEP)), options=CLOSED, languages=("eng",))
    return tmp_path


def test_an_archive_is_derained_and_reported(archive):
    events, progress = [], []
    report = vderain.derain_archive(
        [archive / "in"], archive / "out", **FAST,
        on_event=events.append, on_progress=progress.append,
    )  # fmt: skip
    assert sorted(report.done) == [Path("b.mkv"), Path("day/a.mp4")]
    assert (report.lossy, report.skipped, report.failed, report.left_out) == ((), (), (), {})
    assert report.exit_code == 0 and report.seconds > 0
    assert len(decoded_frames(archive / "out" / "day" / "a.mp4")) == 60
    told = {(event.path, event.text) for event in events if event.kind == "clip"}
    assert {(path, "done") for path in report.done} <= told
    assert progress[-1].done == 2 and progress[-1].clips == 2 and progress[-1].share == 1.0
    assert any(seen.limiting_stage for seen in progress)


def test_what_is_done_is_skipped_and_what_was_there_is_named(archive):
    derain_archive([archive / "in"], archive / "out", include=["a.mp4"], **FAST)
    (archive / "out" / "b.mkv").write_text("somebody's")
    report = derain_archive([archive / "in"], archive / "out", **FAST)
    assert (report.done, report.skipped) == ((), (Path("b.mkv"),))
    assert (archive / "out" / "b.mkv").read_text() == "somebody's"


def test_a_clip_that_fails_is_in_the_report(archive):
    (archive / "in" / "c.mp4").write_bytes(b"no video" * 100)
    options = {**FAST, "batch": BatchOptions(segment_s=1.0, retries=0)}
    report = derain_archive([archive / "in"], archive / "out", **options)
    assert report.failed == (Path("c.mp4"),) and len(report.done) == 2 and report.exit_code == 3
    again = derain_archive([archive / "in"], archive / "out", **options)
    assert again.failed == (Path("c.mp4"),) and again.done == ()


def test_a_plan_writes_nothing(archive):
    planned = plan_archive([archive / "in"], archive / "out", **FAST)
    assert len(planned.clips.waiting) == 2 and planned.estimate.sampled == 2
    assert planned.shortage == "" and not (archive / "out").exists()


def test_an_interrupt_reports_the_progress_and_is_raised(archive, monkeypatch):
    def interrupted(*_, **__):
        raise KeyboardInterrupt

    monkeypatch.setattr("vderain.batch.derain_archive.work_through", interrupted)
    events = []
    with pytest.raises(KeyboardInterrupt):
        derain_archive([archive / "in"], archive / "out", **FAST, on_event=events.append)
    assert [event.kind for event in events] == ["interrupted"]
    assert (archive / "out" / "report.json").exists()


def test_nothing_to_do_is_an_error(archive):
    with pytest.raises(SourceError, match="no clip is named"):
        derain_archive([], archive / "out")
    with pytest.raises(OptionError, match="give a list"):
        derain_archive(str(archive / "in"), archive / "out")
    assert not (archive / "out").exists()
