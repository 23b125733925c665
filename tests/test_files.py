import errno
import os
import resource
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest

from tests.media import synth
from vderain.errors import SinkError, SourceError
from vderain.files import Destination, folder_for_work, write_whole
from vderain.media import open_sink, open_source
from vderain.media.carry.sidecar import Sidecar
from vderain.options import EncodeOptions, RunOptions


@pytest.fixture
def clip(tmp_path):
    return synth.write(tmp_path / "in.mp4")


RGB = {"codec": "ffv1", "pix_fmt": "bgr0"}


def fail(*_):
    raise OSError(errno.ENOSPC, "No space left on device")


def names(folder):
    return sorted(path.name for path in folder.iterdir())


def test_the_name_appears_when_the_output_is_complete(tmp_path, clip):
    seen = []

    def look(item):
        seen.append(names(tmp_path))
        return item

    synth.process(clip, tmp_path / "out.mp4", change=look)

    assert all("out.mp4" not in listing for listing in seen)
    assert [name for name in seen[-1] if name.startswith(".") and name.endswith(".part.mp4")]
    assert names(tmp_path) == ["in.mp4", "out.mp4"]


def test_a_failure_leaves_nothing(tmp_path, clip):
    count = iter(range(100))

    def fail(item):
        if next(count) == 5:
            raise RuntimeError("engine")
        return item

    with pytest.raises(RuntimeError):
        synth.process(clip, tmp_path / "out.mp4", change=fail)
    assert names(tmp_path) == ["in.mp4"]


def test_a_killed_run_does_not_trip_the_next(tmp_path, clip, monkeypatch):
    with monkeypatch.context() as patched:
        patched.setattr(Destination, "publish", fail)
        patched.setattr(Destination, "discard", lambda place: None)
        with pytest.raises(OSError, match="No space"):
            synth.process(clip, tmp_path / "out.mp4")
    (left,) = (name for name in names(tmp_path) if name.startswith("."))
    synth.process(clip, tmp_path / "out.mp4")
    assert names(tmp_path) == [left, "in.mp4", "out.mp4"]
    assert len(synth.decoded_frames(tmp_path / "out.mp4")) == 10


def test_what_killed_runs_left_is_removed_when_it_is_old(tmp_path, clip):
    dead = subprocess.Popen([sys.executable, "-c", ""])
    dead.wait()
    old = [f".vderain-{dead.pid}-0123abcd.part.mp4", f".vderain-{dead.pid}-0123abce.part"]
    kept = [
        f".vderain-{os.getpid()}-0123abcd.part.mp4",  # of a process that runs
        f".vderain-{dead.pid}-0123abcf.part.mp4",  # young
        ".vderain-notes.part.mp4",
    ]
    for name in (old[0], *kept):
        (tmp_path / name).write_bytes(b"")
    (tmp_path / old[1]).mkdir()
    (tmp_path / old[1] / "a.png").write_bytes(b"")
    for name in (*old, kept[0], kept[2]):
        os.utime(tmp_path / name, (1, 1))
    synth.process(clip, tmp_path / "out.mp4")
    assert names(tmp_path) == sorted([*kept, "in.mp4", "out.mp4"])


@pytest.mark.parametrize("links", [True, False])
def test_an_output_made_in_the_meantime_is_not_replaced(tmp_path, clip, monkeypatch, links):
    if not links:
        monkeypatch.setattr(os, "link", fail)

    def other(item):
        (tmp_path / "out.mp4").write_bytes(b"other")
        return item

    with pytest.raises(SinkError, match="was written by another program in the meantime"):
        synth.process(clip, tmp_path / "out.mp4", change=other)
    assert (tmp_path / "out.mp4").read_bytes() == b"other"
    assert names(tmp_path) == ["in.mp4", "out.mp4"]
    synth.process(clip, tmp_path / "new.mp4")
    assert names(tmp_path) == ["in.mp4", "new.mp4", "out.mp4"]


def test_a_full_disk_leaves_what_was_to_be_replaced(tmp_path, request):
    pts = tuple(range(0, 30 * synth.STEP, synth.STEP))
    clip = synth.write(tmp_path / "in.mkv", pts=pts)
    (tmp_path / "out.mp4").write_bytes(b"precious")
    request.getfixturevalue("small_disk")
    with pytest.raises(SinkError, match="the file that was there before is still intact"):
        synth.process(clip, tmp_path / "out.mp4", crf=0, overwrite=True)
    assert (tmp_path / "out.mp4").read_bytes() == b"precious"


def test_an_existing_output_is_replaced_only_when_asked(tmp_path, clip):
    (tmp_path / "out.mp4").write_bytes(b"precious")
    with pytest.raises(SinkError, match=r"out\.mp4: exists already; use overwrite=True"):
        synth.process(clip, tmp_path / "out.mp4")
    assert (tmp_path / "out.mp4").read_bytes() == b"precious"
    synth.process(clip, tmp_path / "out.mp4", overwrite=True)
    assert len(synth.decoded_frames(tmp_path / "out.mp4")) == 10


@pytest.mark.parametrize("name", ["out.mp4", "out"])
def test_a_link_to_nothing_is_refused_before_any_work(tmp_path, clip, name):
    (tmp_path / name).symlink_to(tmp_path / "gone")
    source = clip if name == "out.mp4" else synth.write(tmp_path / "rgb.mkv", **RGB)
    opened = open_source(str(source), run=RunOptions(), encode=EncodeOptions())
    with pytest.raises(SinkError, match=rf"{name}: is a link to a \w+ that does not exist"):
        open_sink(str(tmp_path / name), opened, EncodeOptions())
    opened.close()


@pytest.mark.parametrize("link", [None, os.symlink, os.link])
def test_the_input_is_never_the_output(tmp_path, clip, link):
    target = tmp_path / "other.mp4" if link else clip
    if link:
        link(clip, target)
    before = Path(clip).read_bytes()
    with pytest.raises(SinkError, match="is the input itself"):
        synth.process(clip, target, overwrite=True)
    assert Path(clip).read_bytes() == before


def test_a_missing_folder_is_named(tmp_path, clip):
    with pytest.raises(SinkError, match=r"the folder .*/no does not exist; create it"):
        synth.process(clip, tmp_path / "no" / "out.mp4")


def test_a_folder_without_permission_is_named(tmp_path, clip, monkeypatch):
    monkeypatch.setattr(os, "access", lambda path, mode: not mode & os.W_OK)
    with pytest.raises(SinkError, match="no permission to write into the folder"):
        synth.process(clip, tmp_path / "out.mp4")


@pytest.fixture
def small_disk():
    """Files of this process may not grow beyond 20 kB, which fails as a full disk does."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, hard))
    yield
    resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


@pytest.mark.parametrize("extension", ["mp4", "mkv"])
def test_a_full_disk_is_named_and_leaves_nothing(tmp_path, request, extension):
    pts = tuple(range(0, 30 * synth.STEP, synth.STEP))
    clip = synth.write(tmp_path / "in.mkv", pts=pts, languages=("eng",))
    request.getfixturevalue("small_disk")

    with pytest.raises(SinkError, match=rf"out\.{extension}: cannot be written .*File too large"):
        synth.process(clip, tmp_path / f"out.{extension}", crf=0)
    assert names(tmp_path) == ["in.mkv"]


@pytest.mark.slow
def test_a_full_disk_under_a_sidecar_is_named_too(tmp_path, request):
    pts = tuple(range(0, 400 * synth.STEP, synth.STEP))
    clip = synth.write(tmp_path / "in.mkv", pts=pts, subtitle="ass", size=(16, 16))
    request.getfixturevalue("small_disk")

    with pytest.raises(SinkError, match=r"out\.mp4: cannot be written"):
        synth.process(clip, tmp_path / "out.mp4", preset="ultrafast", crf=51)
    assert names(tmp_path) == ["in.mkv"]


def test_a_full_disk_at_opening_is_named_and_leaves_nothing(tmp_path, monkeypatch):
    """Attachments are written next to the output before the first frame."""
    clip = synth.write(tmp_path / "in.mkv", attachment=True)
    monkeypatch.setattr(Sidecar, "_line", fail)
    with pytest.raises(SinkError, match=r"out\.mp4: cannot be written .*No space left"):
        synth.process(clip, tmp_path / "out.mp4")
    assert names(tmp_path) == ["in.mkv"]


@pytest.mark.parametrize("extension", ["bin", "bin.jsonl"])
def test_a_file_next_to_the_output_is_replaced_only_when_asked(tmp_path, extension):
    clip = synth.write(tmp_path / "in.mkv", attachment=True, subtitle="ass")
    kept = tmp_path / f"out.mp4.1.ass.{extension}"
    kept.write_bytes(b"precious")
    with pytest.raises(
        SinkError, match=rf"1\.ass\.{extension}: exists already; use overwrite=True"
    ):
        synth.process(clip, tmp_path / "out.mp4")
    assert kept.read_bytes() == b"precious"
    assert names(tmp_path) == ["in.mkv", kept.name]
    synth.process(clip, tmp_path / "out.mp4", overwrite=True)
    assert kept.read_bytes() != b"precious"


def refuse_replacing(monkeypatch, name):
    replace = os.replace

    def refuse(source, target):
        if Path(target).name == name:
            fail()
        replace(source, target)

    monkeypatch.setattr(os, "replace", refuse)
    monkeypatch.setattr(os, "link", fail)  # as on a file system without links


def test_nothing_is_next_to_an_output_that_does_not_get_its_name(tmp_path, monkeypatch):
    clip = synth.write(tmp_path / "in.mkv", attachment=True, subtitle="ass")
    refuse_replacing(monkeypatch, "out.mp4")
    with pytest.raises(SinkError, match=r"out\.mp4: cannot be completed: No space"):
        synth.process(clip, tmp_path / "out.mp4")
    assert names(tmp_path) == ["in.mkv"]


def test_a_sidecar_that_does_not_get_its_name_next_to_a_complete_output_is_a_loss(
    tmp_path, monkeypatch
):
    clip = synth.write(tmp_path / "in.mkv", attachment=True)
    refuse_replacing(monkeypatch, "out.mp4.1.attachment.bin")
    _, report = synth.process(clip, tmp_path / "out.mp4")
    assert "attachment.bin: cannot be completed: No space" in report.losses[-1]
    assert names(tmp_path) == ["in.mkv", "out.mp4"]


@pytest.mark.parametrize("name", ["a" * 296 + ".mp4", "a" * 296, "a" * 296 + ".png"])
def test_a_name_that_is_too_long_is_an_error_that_names_it(tmp_path, clip, name):
    if not name.endswith(".mp4"):
        clip = tmp_path / "in.png"
        cv2.imwrite(str(clip), np.zeros((2, 2, 3), np.uint8))
    if name.endswith("a"):
        (tmp_path / "images").mkdir()
        clip = clip.rename(tmp_path / "images" / clip.name).parent
    with pytest.raises(SinkError, match=rf"{name}: cannot be the output: File name too long"):
        synth.process(clip, tmp_path / name)
    with pytest.raises(SourceError, match=rf"{name}: cannot be .*: File name too long"):
        synth.process(tmp_path / name, tmp_path / "out.mp4")


def test_the_longest_name_there_is_can_be_written(tmp_path, clip):
    name = "a" * 251 + ".mp4"
    synth.process(clip, tmp_path / name)
    assert names(tmp_path) == [name, "in.mp4"]


@pytest.mark.parametrize(("name", "reason"), [("", "is empty"), ("in.mp4\0", "holds a NUL byte")])
def test_an_impossible_name_is_refused(tmp_path, clip, monkeypatch, name, reason):
    """pathlib takes an empty name for the current folder, FFmpeg ends a name at a NUL byte."""
    monkeypatch.chdir(tmp_path)
    cv2.imwrite("in.png", np.zeros((2, 2, 3), np.uint8))
    before = names(tmp_path)
    with pytest.raises(SourceError, match=f"input {reason}"):
        synth.process(name, "out.mp4")
    with pytest.raises(SourceError, match=f"input {reason}"):
        synth.process(name.replace("mp4", "png"), "out")
    for source in ("in.mp4", "in.png"):
        with pytest.raises(SinkError, match=f"output {reason}"):
            synth.process(source, name)
    assert names(tmp_path) == before


@pytest.mark.parametrize("extension", ["mp4", "mkv", "png"])
def test_names_that_are_not_utf8_work(tmp_path, extension):
    name, dry = (os.fsdecode(b"\xff\xfe%d." % n) + extension for n in range(2))
    if extension == "png":
        encoded = cv2.imencode(".png", np.zeros((2, 2, 3), np.uint8))[1]
        (tmp_path / name).write_bytes(encoded.tobytes())
    else:
        clip = synth.write(tmp_path / "in.mkv", attachment=True)
        os.rename(clip, tmp_path / name)
    _, report = synth.process(tmp_path / name, tmp_path / dry)
    assert report.path == str(tmp_path / dry)
    assert set(names(tmp_path)) >= {name, dry}
    with pytest.raises(SinkError, match=f"{dry}: exists already"):
        synth.process(tmp_path / name, tmp_path / dry)
    with pytest.raises(SourceError, match=f"no{name}: .*[Nn]o such file"):
        synth.process(tmp_path / f"no{name}", tmp_path / "out.mp4")


def test_abort_may_come_twice_and_after_finish(tmp_path, clip):
    source = open_source(clip, run=RunOptions(), encode=EncodeOptions())
    sink = open_sink(str(tmp_path / "out.mp4"), source, EncodeOptions())
    for item in source:
        sink.write(item)
    sink.finish()
    sink.abort()
    sink.abort()
    source.close()
    source.close()
    assert names(tmp_path) == ["in.mp4", "out.mp4"]


def test_no_frame_makes_no_output(tmp_path, clip):
    source = open_source(clip, run=RunOptions(), encode=EncodeOptions())
    sink = open_sink(str(tmp_path / "out.mp4"), source, EncodeOptions())
    with pytest.raises(SinkError, match="not one frame"):
        sink.finish()
    sink.abort()
    source.close()
    assert names(tmp_path) == ["in.mp4"]


def test_nothing_heavy_is_imported_with_the_package():
    script = (
        "import sys, vderain.media; sys.exit(any(name in sys.modules for name in ('av', 'cv2')))"
    )
    assert subprocess.run([sys.executable, "-c", script]).returncode == 0


def fail_in(folder, *names):
    with folder_for_work(folder):
        for name in names:
            (folder / name).write_text("")
        raise SinkError("full")


def test_a_folder_for_work_stays_after_an_error_only_with_something_in_it(tmp_path):
    with pytest.raises(SinkError, match="full"):
        fail_in(tmp_path / "deep" / "empty")
    assert not (tmp_path / "deep" / "empty").exists()
    with pytest.raises(SinkError, match="full"):
        fail_in(tmp_path / "used", "checkpoint")
    assert (tmp_path / "used" / "checkpoint").exists()
    with folder_for_work(tmp_path / "kept"):
        pass
    assert (tmp_path / "kept").is_dir()


def test_a_folder_that_cannot_be_made_is_named():
    with pytest.raises(SinkError, match="/proc/nothing"), folder_for_work(Path("/proc/nothing")):
        pass


def test_a_small_file_is_replaced_whole_or_not_at_all(tmp_path, monkeypatch):
    page = tmp_path / "report.html"
    write_whole(page, b"first")
    write_whole(page, b"second")
    assert page.read_bytes() == b"second"

    def fail(*_):
        raise OSError(errno.ENOSPC, "full")

    monkeypatch.setattr(os, "replace", fail)
    with pytest.raises(OSError, match="full"):
        write_whole(page, b"third")
    assert page.read_bytes() == b"second"
    assert list(tmp_path.iterdir()) == [page]
