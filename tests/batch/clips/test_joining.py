"""Which clips of a batch go on where another one ends."""

import os
from pathlib import Path

import pytest

from vderain.batch.clips.joining import joinable, joined_name
from vderain.batch.manifest import ClipRow


def rows(*names, lasts_s=60.0, state="done", mtimes=None):
    seconds = mtimes or [0] * len(names)
    return [
        ClipRow(
            number, Path("/in") / name, Path(name), 1, changed * 10**9, state,
            record={"duration_s": lasts_s},
        )
        for number, (name, changed) in enumerate(zip(names, seconds, strict=True))
    ]  # fmt: skip


def names(groups):
    return [[str(clip.output) for clip in group] for group in groups]


def test_clips_that_follow_each_other_are_one_recording_for_each_camera():
    clips = rows(
        "20240115_123100_F.mp4", "20240115_123000_R.mp4", "20240115_123000_F.mp4",
        "20240115_123100_R.mp4", "20240115_123200_F.mp4",
    )  # fmt: skip
    assert sorted(names(joinable(clips))) == [
        ["20240115_123000_F.mp4", "20240115_123100_F.mp4", "20240115_123200_F.mp4"],
        ["20240115_123000_R.mp4", "20240115_123100_R.mp4"],
    ]


@pytest.mark.parametrize(
    ("second", "touches"),
    [
        ("20240115_123057_F.mp4", True),
        ("20240115_123056_F.mp4", False),
        ("20240115_123103_F.mp4", True),
        ("20240115_123104_F.mp4", False),
        ("20240116_123100_F.mp4", False),
    ],
)
def test_three_seconds_between_clips_are_no_gap(second, touches):
    assert bool(joinable(rows("20240115_123000_F.mp4", second))) is touches


def test_midnight_and_new_year_are_no_gap():
    assert joinable(rows("20231231_235930_F.mp4", "20240101_000030_F.mp4"))


def test_a_gap_begins_another_recording():
    clips = rows(*(f"20240115_12{minute}00_F.mp4" for minute in (30, 31, 40, 41, 42, 50)))
    assert [len(group) for group in joinable(clips)] == [2, 3]


def test_a_clip_that_failed_parts_its_neighbours():
    clips = rows(*(f"20240115_12{minute}00_F.mp4" for minute in range(30, 35)))
    failed = ClipRow(9, clips[2].source, clips[2].output, 1, 0, "failed")
    found = joinable([*clips[:2], failed, *clips[3:]])
    assert [len(group) for group in found] == [2, 2]


def test_chapters_of_one_number_are_one_recording():
    clips = rows("GH010042.MP4", "GH020042.MP4", "GH040042.MP4", "GH010043.MP4")
    assert names(joinable(clips)) == [["GH010042.MP4", "GH020042.MP4"]]


def test_numbered_clips_touch_unless_they_were_written_far_apart():
    clips = rows("MOVI0007.avi", "MOVI0008.avi", "MOVI0009.avi", mtimes=[60, 120, 600])
    assert names(joinable(clips)) == [["MOVI0007.avi", "MOVI0008.avi"]]


def test_clips_of_no_pattern_and_impossible_days_are_left_alone():
    assert not joinable(rows("holiday.mp4", "party.mp4"))
    assert not joinable(rows("20240231_123000_F.mp4", "20240231_123100_F.mp4"))


def test_a_clip_of_unknown_length_is_left_alone():
    assert not joinable(rows("20240115_123000_F.mp4", "20240115_123100_F.mp4", lasts_s=None))


def test_the_joined_file_is_next_to_its_first_clip():
    assert joined_name(Path("a/20240115_F.mp4")) == Path("a/20240115_F-joined.mp4")
    assert len(os.fsencode(joined_name(Path("ü" * 125 + ".mkv")).name)) <= 255
    assert joined_name(Path("x" + "ü" * 125 + ".mp4")).name == "x" + "ü" * 121 + "-joined.mp4"
