"""Names that cameras give to clips, and the order that follows from them."""

from pathlib import Path, PurePath

import pytest

from vderain.batch.clips.find import Found
from vderain.batch.clips.series import ordered, read_name, series_of


def found(*names, mtimes=None):
    times = mtimes or [0] * len(names)
    return [Found(Path(n), Path(n), 1, t * 10**9) for n, t in zip(names, times, strict=True)]


def names(clips):
    return [str(clip.output) for clip in clips]


@pytest.mark.parametrize(
    ("name", "camera", "moment"),
    [
        ("20240115_123000_NF.mp4", "front", "20240115123000"),
        ("20240115_123000_ER.mp4", "rear", "20240115123000"),
        ("2024_0115_123456_001F.MP4", "front", "20240115123456"),
        ("2024-01-15_12-30-00-front.mp4", "front", "20240115123000"),
        ("2024-01-15_12-30-00-back.mp4", "rear", "20240115123000"),
        ("240115_123000_012_R.MP4", "rear", "20240115123000"),
        ("FILE240115-123000R.MP4", "rear", "20240115123000"),
        ("REC_2024_01_15_12_30_00_F.ts", "front", "20240115123000"),
    ],
)
def test_dates_and_cameras_are_read_from_names(name, camera, moment):
    read = read_name(PurePath(name))
    assert (read.camera, read.moment, read.is_dated) == (camera, moment, True)


@pytest.mark.parametrize("name", ["holiday.mp4", "cam1.mp4", "final_v2.mov", "99.mp4"])
def test_names_of_no_pattern_say_nothing(name):
    assert read_name(PurePath(name)) is None


def test_chapters_of_a_recording_follow_each_other():
    clips = found("GX010002.MP4", "GX010001.MP4", "GX020001.MP4", "GX020002.MP4")
    expected = ["GX010001.MP4", "GX020001.MP4", "GX010002.MP4", "GX020002.MP4"]
    assert names(ordered(clips, "name")) == expected
    assert [names(series) for series in series_of(ordered(clips, "name"))] == [
        expected[:2],
        expected[2:],
    ]


def test_front_and_rear_of_one_moment_stand_together():
    clips = found("a/20240115_120000_F.mp4", "a/20240115_120100_F.mp4", "a/20240115_120000_R.mp4")
    expected = [
        "a/20240115_120000_F.mp4",
        "a/20240115_120000_R.mp4",
        "a/20240115_120100_F.mp4",
    ]
    assert names(ordered(clips, "name")) == names(ordered(clips, "oldest")) == expected
    assert names(ordered(clips, "newest")) == [expected[2], *expected[:2]]
    front, rear = series_of(ordered(clips, "name"))
    assert names(front) == [expected[0], expected[2]] and names(rear) == [expected[1]]


@pytest.mark.parametrize("mtimes", [[0, 0, 0, 0], [50, 60, 90, 70]])
def test_chapters_stay_in_order_whatever_comes_first(mtimes):
    clips = found("GX010001.MP4", "GX010002.MP4", "GX020001.MP4", "other.mp4", mtimes=mtimes)
    chapters = ["GX010001.MP4", "GX020001.MP4"]
    oldest = names(ordered(clips, "oldest"))
    assert oldest == [*chapters, "GX010002.MP4", "other.mp4"]
    newest = names(ordered(clips, "newest"))
    assert newest == (oldest if not any(mtimes) else ["other.mp4", "GX010002.MP4", *chapters])


def test_files_without_a_date_in_their_names_go_by_their_last_change():
    clips = found("b.mp4", "a.mp4", "c.mp4", mtimes=[200_000, 300_000, 100_000])
    assert names(ordered(clips, "oldest")) == ["c.mp4", "b.mp4", "a.mp4"]
    assert names(ordered(clips, "newest")) == ["a.mp4", "b.mp4", "c.mp4"]


def test_numbered_clips_are_one_series_in_their_order():
    clips = found("MOVI0010.avi", "MOVI0009.avi", "other.avi")
    assert [names(series) for series in series_of(ordered(clips, "name"))] == [
        ["MOVI0009.avi", "MOVI0010.avi"],
        ["other.avi"],
    ]
