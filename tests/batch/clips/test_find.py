"""Which clips a batch finds, and where they go."""

import os
from pathlib import Path

import pytest

from vderain.batch.clips.find import WORK_FOLDER, Archive, output_name, read_list
from vderain.errors import OptionError, SourceError
from vderain.options import EncodeOptions


def put(folder, *names):
    for name in names:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"clip")


def outputs(*sources, target, **options):
    return {str(found.output) for found in Archive(sources, target, **options).clips()}


def test_one_folder_is_mirrored_and_other_files_are_left_out(tmp_path):
    put(tmp_path / "in", "a.mp4", "day/b.MKV", "day/notes.txt", ".hidden.mp4", ".trash/c.mp4")
    assert outputs(tmp_path / "in", target=tmp_path / "out") == {"a.mp4", "day/b.MKV"}


def test_several_folders_keep_their_names_and_files_go_to_the_top(tmp_path):
    put(tmp_path, "north/a.mp4", "south/a.mp4", "single.mp4")
    sources = (tmp_path / "north", tmp_path / "south", tmp_path / "single.mp4")
    expected = {"north/a.mp4", "south/a.mp4", "single.mp4"}
    assert outputs(*sources, target=tmp_path / "out") == expected


def test_patterns_match_names_and_paths(tmp_path):
    put(tmp_path / "in", "1_F.mp4", "1_R.mp4", "2024/2_F.mp4", "2025/3_F.mp4")
    options = {"target": tmp_path / "out", "include": ["*_F.mp4"], "exclude": ["2025/*"]}
    assert outputs(tmp_path / "in", **options) == {"1_F.mp4", "2024/2_F.mp4"}


def test_the_target_may_lie_inside_the_source_and_is_not_searched(tmp_path):
    put(tmp_path, "a.mp4", "dry/a.mp4", f"dry/{WORK_FOLDER}/segments/1-0.mp4")
    assert outputs(tmp_path, target=tmp_path / "dry") == {"a.mp4"}


def test_the_target_must_not_be_the_source(tmp_path):
    with pytest.raises(OptionError, match="is the source itself"):
        Archive([tmp_path], tmp_path)


def test_links_are_followed_but_not_in_circles(tmp_path):
    put(tmp_path, "in/a.mp4", "elsewhere/b.mp4")
    (tmp_path / "in" / "again").symlink_to(tmp_path / "in", target_is_directory=True)
    (tmp_path / "in" / "linked").symlink_to(tmp_path / "elsewhere", target_is_directory=True)
    assert outputs(tmp_path / "in", target=tmp_path / "out") == {"a.mp4", "linked/b.mp4"}


def test_a_folder_that_cannot_be_read_is_reported_once_and_the_others_are_searched(
    tmp_path, unreadable
):
    put(tmp_path / "in", "a.mp4", "closed/b.mp4", "lost+found/c.mp4")
    unreadable |= {"closed", "lost+found"}
    told = []
    archive = Archive(
        [tmp_path / "in"], tmp_path / "out", exclude=["lost+found/*"],
        on_left_out=lambda path, reason: told.append((path, reason)),
    )  # fmt: skip
    for _ in range(2):
        assert [str(found.output) for found in archive.clips()] == ["a.mp4"]
    assert told == list(archive.left_out.items()) == [
        (tmp_path / "in/closed", "cannot be read (Permission denied)")
    ]  # fmt: skip


def test_what_is_no_regular_file_is_reported_and_left_out(tmp_path):
    put(tmp_path, "in/a.mp4", "elsewhere/b.mp4")
    os.mkfifo(tmp_path / "in/pipe.mp4")
    (tmp_path / "in/linked.mp4").symlink_to(tmp_path / "elsewhere/b.mp4")
    archive = Archive([tmp_path / "in"], tmp_path / "out")
    assert [str(found.output) for found in archive.clips()] == ["a.mp4", "linked.mp4"]
    assert archive.left_out == {tmp_path / "in/pipe.mp4": "is no regular file"}
    with pytest.raises(SourceError, match=r"pipe\.mp4: is no regular file"):
        Archive([tmp_path / "in/pipe.mp4"], tmp_path / "out").found()


def test_a_source_of_which_nothing_can_be_read_is_an_error_that_says_so(tmp_path, unreadable):
    put(tmp_path / "in", "a.mp4")
    unreadable.add("in")
    with pytest.raises(SourceError, match=r"in: cannot be read \(Permission denied\)"):
        Archive([tmp_path / "in"], tmp_path / "out").found()


def test_names_of_all_kinds_come_through(tmp_path):
    long = "é" * 125 + ".mp4"
    put(tmp_path / "in", "two\nlines.mp4", "雨.mp4", "'q\" $x;.mp4", long)
    broken = os.fsencode(tmp_path / "in") + b"/\xff\xfe.mp4"
    with open(broken, "wb") as file:
        file.write(b"clip")
    found = outputs(tmp_path / "in", target=tmp_path / "out")
    assert {"two\nlines.mp4", "雨.mp4", "'q\" $x;.mp4", long, os.fsdecode(b"\xff\xfe.mp4")} == found


def test_two_clips_with_one_output_are_refused(tmp_path):
    put(tmp_path, "a/x.mp4", "b/x.mp4")
    archive = Archive([tmp_path / "a/x.mp4", tmp_path / "b/x.mp4"], tmp_path / "out")
    with pytest.raises(OptionError, match="would both be written"):
        list(archive.clips())
    put(tmp_path, "c/a/x.mp4")
    with pytest.raises(OptionError, match="same name"):
        Archive([tmp_path / "a", tmp_path / "c" / "a"], tmp_path / "out")


def test_a_source_that_is_not_there_is_named(tmp_path):
    with pytest.raises(SourceError, match="no such file"):
        Archive([tmp_path / "nothing"], tmp_path / "out")


def test_of_two_clips_with_one_output_the_later_is_left_out_where_that_is_wanted(tmp_path):
    told = []
    for first, later in (("a.avi", "a.avi.mkv"), ("b.avi.mkv", "b.avi")):
        put(tmp_path / "in", first)
        archive = Archive(
            [tmp_path / "in"], tmp_path / "out", include=[f"{first[0]}*"],
            on_left_out=lambda path, reason: told.append((path.name, reason)),
        )  # fmt: skip
        assert [found.source.name for found in archive.clips(lenient=True)] == [first]
        put(tmp_path / "in", later, f"{first[0]}c.mp4")
        for _ in range(2):
            names = {found.source.name for found in archive.clips(lenient=True)}
            assert names == {first, f"{first[0]}c.mp4"}
        (name, reason) = told.pop()
        assert name == later and f"in/{first} would both be written" in reason and told == []
        (tmp_path / "in" / first).unlink()
        assert later in {found.source.name for found in archive.clips(lenient=True)}


def test_listed_paths_keep_their_folders(tmp_path, monkeypatch):
    put(tmp_path, "a/x.mp4", "b/x.mp4", "b/deep/y.mp4", "top.mp4", "dry/a/x.mp4")
    monkeypatch.chdir(tmp_path)
    listed = [Path(n) for n in ("./a/x.mp4", "./b/x.mp4", "b", "top.mp4", "./dry/a/x.mp4")]
    found = list(Archive([], Path("dry"), listed=listed).clips())
    expected = ["a/x.mp4", "b/deep/y.mp4", "b/x.mp4", "top.mp4"]
    assert sorted(str(each.output) for each in found) == expected, "each once, none of the target"


def test_absolute_listed_paths_keep_what_they_do_not_share(tmp_path, monkeypatch):
    put(tmp_path, "in/l1/c.mp4", "in/l2/c.mp4", "here/d.mp4")
    monkeypatch.chdir(tmp_path / "here")
    listed = [tmp_path / "in/l1/c.mp4", tmp_path / "in/l2/c.mp4"]
    assert outputs(target=tmp_path / "out", listed=listed) == {"l1/c.mp4", "l2/c.mp4"}
    assert outputs(target=tmp_path / "out", listed=listed[:1]) == {"c.mp4"}
    climbing = [Path("../in/l1/c.mp4"), Path("../in/l2"), Path("d.mp4")]
    assert outputs(target=tmp_path / "out", listed=climbing) == {"l1/c.mp4", "l2/c.mp4", "d.mp4"}


def test_a_clip_is_never_its_own_output(tmp_path):
    put(tmp_path, "north/a.mp4", "south/a.mp4")
    archive = Archive([tmp_path / "north", tmp_path / "south"], tmp_path)
    with pytest.raises(OptionError, match="written over itself"):
        list(archive.clips())


@pytest.mark.parametrize(
    ("names", "patterns", "says"),
    [
        ([], {}, "no video in it"),
        (["a.mp4"], {"include": ["zzz*"]}, r"include='zzz\*'"),
        (["a.mp4"], {"exclude": ["a*"]}, r"exclude='a\*'"),
        (["day/a.JPG"], {}, "vderain run .*in/day"),
    ],
)
def test_a_folder_without_clips_is_an_error_that_says_why(tmp_path, names, patterns, says):
    (tmp_path / "in").mkdir()
    put(tmp_path / "in", *names)
    archive = Archive([tmp_path / "in"], tmp_path / "out", **patterns)
    with pytest.raises(SourceError, match=says) as error:
        archive.found()
    assert str(tmp_path / "in") in str(error.value)


@pytest.mark.parametrize(
    ("name", "codec", "output"),
    [
        ("a.mp4", "h264", "a.mp4"),
        ("a.wmv", "h264", "a.wmv.mkv"),
        ("a.avi", "h264", "a.avi.mkv"),
        ("a.webm", "h264", "a.webm.mkv"),
        ("a.mp4", "ffv1", "a.mp4.mkv"),
        ("x" * 251 + ".wmv", "h264", "x" * 251 + ".mkv"),
    ],
)
def test_what_cannot_be_written_as_it_was_becomes_matroska(tmp_path, name, codec, output):
    from pathlib import PurePath

    assert str(output_name(PurePath(name), EncodeOptions(codec=codec))) == output


def test_lists_hold_lines_or_nul_separated_names():
    assert [str(path) for path in read_list("a.mp4\n\nb c.mp4\n")] == ["a.mp4", "b c.mp4"]
    assert [str(path) for path in read_list("two\nlines.mp4\0b.mp4\0")] == [
        "two\nlines.mp4",
        "b.mp4",
    ]
