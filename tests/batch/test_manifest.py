"""What a batch remembers."""

import os
import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest

from vderain.batch.clips.find import Found
from vderain.batch.manifest import Manifest, Segment
from vderain.errors import SinkError

CLIP = Found(Path("/in/a.mp4"), Path("a.mp4"), 100, 5)


@pytest.fixture
def path(tmp_path):
    return tmp_path / "out" / ".vderain-batch" / "manifest.sqlite"


def test_a_clip_is_remembered_with_its_segments(path):
    with Manifest(path) as manifest:
        clip = manifest.add(CLIP)
        manifest.cut(
            clip.id, [Segment(0, 0, 10, 5), Segment(1, 10, 20, 5, "copy")], "how", codec="x"
        )
        manifest.finish_segment(clip.id, 0, {"frames": 5})
    with Manifest(path) as manifest:
        (clip,) = manifest.clips()
        assert manifest.add(CLIP) == clip
        assert (clip.source, clip.state, clip.settings) == (CLIP.source, "planned", "how")
        assert clip.record == {"codec": "x"}
        first, second = manifest.segments(clip.id)
        assert first == Segment(0, 0, 10, 5, record={"frames": 5}) and first.is_done
        assert second.kind == "copy" and second.is_done


def test_a_source_that_changed_is_planned_again(path):
    with Manifest(path) as manifest:
        clip = manifest.add(CLIP)
        manifest.cut(clip.id, [Segment(0, 0, 10, 5)], "how")
        manifest.set_state(clip.id, "done", frames=5)
        assert manifest.add(CLIP).state == "done"
        again = manifest.add(Found(CLIP.source, CLIP.output, 101, 5))
        assert (again.id, again.state, again.record) == (clip.id, "planned", {})
        assert manifest.segments(clip.id) == []


def test_names_that_are_no_text_come_back(path):
    odd = Path(os.fsdecode(b"/in/\xff\n.mp4"))
    with Manifest(path) as manifest:
        assert manifest.add(Found(odd, Path(odd.name), 1, 1)).source == odd


def test_failed_clips_can_be_forgiven(path):
    with Manifest(path) as manifest:
        clip = manifest.add(CLIP)
        assert [manifest.count_attempt(clip.id) for _ in range(2)] == [1, 2]
        manifest.set_state(clip.id, "failed", "broken")
        manifest.forgive()
        assert (manifest.clip(clip.id).state, manifest.clip(clip.id).attempts) == ("planned", 0)


def test_a_copy_keeps_its_changes_for_itself(path):
    with Manifest(path) as manifest:
        clip = manifest.add(CLIP)
    copy = path.with_name("copy.sqlite")
    with Manifest(path, copy=copy) as manifest:
        assert manifest.clips() == [clip]
        manifest.set_state(clip.id, "failed")
    with Manifest(path) as manifest:
        assert manifest.clips() == [clip]
        with pytest.raises(SinkError, match="another batch"):
            Manifest(path, copy=path.with_name("other.sqlite"))


def test_a_second_batch_on_the_same_target_is_refused(path):
    with Manifest(path):
        code = (
            "from pathlib import Path; from vderain.batch.manifest import Manifest\n"
            f"Manifest(Path({str(path)!r}))"
        )
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
        assert "another batch is at work there" in done.stderr.splitlines()[-1]
        with pytest.raises(SinkError, match="another batch"):
            Manifest(path)
    Manifest(path).close()


def test_a_kill_between_two_changes_loses_neither(path):
    code = (
        "import os, signal; from pathlib import Path; from vderain.batch.manifest import *\n"
        "from vderain.batch.clips.find import Found\n"
        f"m = Manifest(Path({str(path)!r})); c = m.add(Found(Path('/in/a.mp4'), Path('a.mp4'), 100, 5))\n"
        "m.cut(c.id, [Segment(0, 0, 10, 5)], 'how'); m.finish_segment(c.id, 0, {'frames': 5})\n"
        "os.kill(os.getpid(), signal.SIGKILL)"
    )
    assert subprocess.run([sys.executable, "-c", code]).returncode == -9
    with Manifest(path) as manifest:
        (clip,) = manifest.clips()
        assert manifest.segments(clip.id)[0].record == {"frames": 5}


def test_a_failed_change_leaves_things_as_they_were(path):
    with Manifest(path) as manifest:
        clip = manifest.add(CLIP)
        with pytest.raises(SinkError):
            manifest.cut(
                clip.id, [Segment(0, 0, 1, 1), Segment(0, 1, 2, 1)], "twice the same number"
            )
        assert manifest.segments(clip.id) == [] and manifest.clip(clip.id).settings == ""


@pytest.mark.parametrize("content", [b"no database at all, but long enough to look at" * 50])
def test_a_damaged_manifest_is_named(path, content):
    path.parent.mkdir(parents=True)
    path.write_bytes(content)
    with pytest.raises(SinkError, match="is damaged"):
        Manifest(path)


def garbled(content, page):
    """Some pages of a database of many are overwritten, behind the first, which tells what is where."""
    for number in (2, 5, 8, 11):
        content[number * page : (number + 1) * page] = b"\xa5" * page


def cut_short(content, page):
    del content[len(content) // 2 // page * page :]


def misspelt(content, page):
    """The structure is whole, what stands in it is not."""
    content[:] = content.replace(b'{"note"', b'{"note\n')


@pytest.mark.parametrize("damage", [garbled, cut_short, misspelt])
def test_a_manifest_that_is_damaged_inside_is_named_with_what_to_do(path, damage):
    with Manifest(path) as manifest:
        for number in range(60):
            clip = manifest.add(Found(Path(f"/in/{number}.mp4"), Path(f"{number}.mp4"), 1, 1))
            manifest.cut(
                clip.id, [Segment(n, n, n + 1, 1) for n in range(9)], "how", note="x" * 500
            )
            manifest.finish_segment(clip.id, 0, {"note": "x" * 500})
    content = bytearray(path.read_bytes())
    damage(content, 4096)
    path.write_bytes(content)

    def read_and_change():
        with Manifest(path) as manifest:
            for clip in manifest.clips():
                manifest.segments(clip.id)
                manifest.set_state(clip.id, "failed")

    with pytest.raises(SinkError, match="is damaged; remove it, and outputs"):
        read_and_change()


def test_a_manifest_of_another_version_is_left_alone(path):
    Manifest(path).close()
    with sqlite3.connect(path) as db:
        db.execute("PRAGMA user_version = 99")
    db.close()
    with pytest.raises(SinkError, match="another version"):
        Manifest(path)


def test_a_manifest_that_is_read_only_says_so_and_what_to_do(path, monkeypatch):
    Manifest(path).close()

    class Refuses(sqlite3.Connection):
        def execute(self, *_):
            raise sqlite3.OperationalError("disk I/O error")

    connect = sqlite3.connect
    monkeypatch.setattr(sqlite3, "connect", lambda p, **o: connect(p, factory=Refuses, **o))
    with pytest.raises(SinkError, match="is the disk full"):
        Manifest(path)
    monkeypatch.setattr(os, "access", lambda place, mode: Path(place) != path.parent)
    with pytest.raises(SinkError, match="is read-only; make it writable") as error:
        Manifest(path)
    assert str(path.parent) in str(error.value)


def test_a_target_that_cannot_be_made_is_named(tmp_path):
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(SinkError, match="cannot be made"):
        Manifest(tmp_path / "file" / "manifest.sqlite")
