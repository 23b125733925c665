import os
import resource
import subprocess
import sys
from pathlib import Path

import pytest

from tests.media import synth
from vderain.errors import SinkError
from vderain.media import open_sink, open_source
from vderain.options import EncodeOptions, RunOptions


@pytest.fixture
def clip(tmp_path):
    return synth.write(tmp_path / "in.mp4")


def names(folder):
    return sorted(path.name for path in folder.iterdir())


def test_the_name_appears_when_the_output_is_complete(tmp_path, clip):
    seen = []

    def look(item):
        seen.append(names(tmp_path))
        return item

    synth.process(clip, tmp_path / "out.mp4", change=look)

    assert all("out.mp4" not in listing for listing in seen)
    assert [name for name in seen[-1] if name.startswith(".out.") and name.endswith(".part.mp4")]
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


def test_an_interrupted_run_does_not_trip_the_next(tmp_path, clip):
    (tmp_path / f".out.{os.getpid()}.part.mp4").write_bytes(b"half" * 10_000)
    synth.process(clip, tmp_path / "out.mp4")
    assert names(tmp_path) == ["in.mp4", "out.mp4"]
    assert len(synth.pictures(tmp_path / "out.mp4")) == 10


def test_an_existing_output_is_replaced_only_when_asked(tmp_path, clip):
    (tmp_path / "out.mp4").write_bytes(b"precious")
    with pytest.raises(SinkError, match=r"out\.mp4: exists already; use --overwrite"):
        synth.process(clip, tmp_path / "out.mp4")
    assert (tmp_path / "out.mp4").read_bytes() == b"precious"
    synth.process(clip, tmp_path / "out.mp4", overwrite=True)
    assert len(synth.pictures(tmp_path / "out.mp4")) == 10


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


def test_a_full_disk_under_a_sidecar_is_named_too(tmp_path, request):
    pts = tuple(range(0, 400 * synth.STEP, synth.STEP))
    clip = synth.write(tmp_path / "in.mkv", pts=pts, subtitle="ass", size=(16, 16))
    request.getfixturevalue("small_disk")

    with pytest.raises(SinkError, match=r"out\.mp4: cannot be written"):
        synth.process(clip, tmp_path / "out.mp4", preset="ultrafast", crf=51)
    assert names(tmp_path) == ["in.mkv"]


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
