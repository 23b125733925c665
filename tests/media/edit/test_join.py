"""Files of one recording that become one: every packet at its place, nothing encoded again."""

from fractions import Fraction
from itertools import pairwise

import av
import numpy as np
import pytest

from tests.media.synth import (
    STEP,
    Video,
    decoded_frames,
    packet_times,
    payloads,
    samples,
    streams,
    times,
    write,
)
from vderain.errors import OptionError, SinkError, SourceError
from vderain.media.edit.join import join
from vderain.media.muxing import Muxer

PTS = tuple(range(0, 20 * STEP, STEP))


def parts(folder, extension=".mp4", count=3, **changes):
    """Files that follow each other, each with its own frames."""
    paths = []
    for number in range(count):
        video = Video(**{"pts": PTS, **changes})
        video.size = changes.get("size", (64, 48))
        paths.append(write(folder / f"part{number}{extension}", video))
    return paths


def looks(path):
    return [samples(image).tobytes() for image in decoded_frames(path)]


def sound(path, index=0):
    """Decoded samples of a track, and how long it should be by its times."""
    with av.open(str(path)) as container:
        stream = container.streams.audio[index]
        return np.concatenate([frame.to_ndarray()[0] for frame in container.decode(stream)])


@pytest.mark.parametrize("extension", [".mp4", ".mkv", ".mov", ".ts"])
def test_frames_are_those_of_the_parts_without_a_gap(tmp_path, extension):
    made = parts(tmp_path, extension)
    output = tmp_path / f"all{extension}"
    report = join(made, str(output))
    assert looks(output) == [look for part in made for look in looks(part)]
    assert {b - a for a, b in pairwise(times(output))} == {Fraction(1, 25)}
    assert times(output)[0] == times(made[0])[0]
    assert (report.frames, report.losses, report.path) == (60, [], str(output))


@pytest.mark.parametrize("codec", ["libx265", "libsvtav1"])
def test_other_codecs_are_joined(tmp_path, codec):
    made = parts(tmp_path, count=2, codec=codec)
    join(made, str(tmp_path / "all.mp4"))
    assert looks(tmp_path / "all.mp4") == [look for part in made for look in looks(part)]


def test_decoding_times_rise_over_the_cut_and_lie_before_the_frames(tmp_path):
    join(parts(tmp_path), str(tmp_path / "all.mp4"))
    with av.open(str(tmp_path / "all.mp4")) as container:
        found = [(p.dts, p.pts) for p in container.demux(video=0) if p.size]
    assert all(a[0] < b[0] for a, b in pairwise(found))
    assert all(dts <= pts for dts, pts in found)


def test_parts_of_one_and_two_frames_can_be_joined(tmp_path):
    made = [
        write(tmp_path / f"{count}.mp4", pts=tuple(range(0, count * STEP, STEP)))
        for count in (2, 1, 20)
    ]
    join(made, str(tmp_path / "all.mp4"))
    assert len(decoded_frames(tmp_path / "all.mp4")) == 23
    assert {b - a for a, b in pairwise(times(tmp_path / "all.mp4"))} == {Fraction(1, 25)}


def test_a_part_that_begins_late_begins_where_the_one_before_ends(tmp_path):
    first = write(tmp_path / "a.mp4", pts=PTS)
    second = write(tmp_path / "b.mp4", pts=tuple(time + 777 for time in PTS))
    join([first, second], str(tmp_path / "all.mp4"))
    assert {b - a for a, b in pairwise(times(tmp_path / "all.mp4"))} == {Fraction(1, 25)}


@pytest.mark.parametrize("extension", [".mp4", ".mkv", ".ts"])
def test_sound_goes_on_over_the_cut(tmp_path, extension):
    made = parts(tmp_path, extension, languages=("eng", "deu"))
    output = tmp_path / f"all{extension}"
    join(made, str(output))
    assert [kind for kind, *_ in streams(output)] == [kind for kind, *_ in streams(made[0])]
    packet = 1024 / 48_000
    for index in (1, 2):
        found = packet_times(output, index)
        # Where times are rounded a packet may seem a millisecond longer; a gap is below one packet.
        assert all(0 < b - a < 2 * packet for a, b in pairwise(found))
        assert found[-1] - times(output)[-1] < 2 * packet
    lasts_s = len(sound(output)) / 48_000
    assert abs(lasts_s - 60 / 25) < 3.5 * packet


def test_subtitles_and_data_move_along(tmp_path):
    made = parts(tmp_path, count=2, subtitle="mov_text", data=True)
    output = tmp_path / "all.mp4"
    join(made, str(output))
    kinds = [kind for kind, *_ in streams(output)]
    for kind in ("subtitle", "data"):
        index = kinds.index(kind)
        texts = [text for text in payloads(output, index) if text != b"\0\0"]
        expected = [text for text in payloads(made[0], index) if text != b"\0\0"]
        assert texts == 2 * expected
    notes = packet_times(output, kinds.index("data"))
    assert notes[20] == Fraction(20, 25)


def test_chapters_move_along_and_tags_are_those_of_the_first(tmp_path):
    made = [
        write(tmp_path / f"{name}.mkv", pts=PTS, chapters=True, metadata={"title": name})
        for name in ("one", "two")
    ]
    join(made, str(tmp_path / "all.mkv"))
    with av.open(str(tmp_path / "all.mkv")) as container:
        starts = [c["start"] * c["time_base"] for c in container.chapters()]
        assert container.metadata["title"] == "one"
    tenths = [Fraction(t, 10) for t in (0, 2, 8, 10)]
    assert starts == tenths


def test_a_turned_video_stays_turned(tmp_path):
    made = parts(tmp_path, count=2, rotation=90)
    join(made, str(tmp_path / "all.mp4"))
    turned = {image.rotation for image in decoded_frames(tmp_path / "all.mp4")}
    assert turned == {image.rotation for image in decoded_frames(made[0])} != {0}


def test_a_track_that_a_part_lacks_is_left_out_and_named(tmp_path):
    first = write(tmp_path / "a.mp4", pts=PTS, languages=("eng",))
    second = write(tmp_path / "b.mp4", pts=PTS)
    report = join([first, second], str(tmp_path / "all.mp4"))
    assert [kind for kind, *_ in streams(tmp_path / "all.mp4")] == ["video"]
    (loss,) = report.losses
    assert "audio" in loss
    assert second in loss


def test_a_track_that_begins_with_a_later_part_is_named(tmp_path):
    made = [write(tmp_path / "a.mp4", pts=PTS)]
    made += [write(tmp_path / f"{name}.mp4", pts=PTS, languages=("eng",)) for name in "bc"]
    report = join(made, str(tmp_path / "all.mp4"))
    assert [kind for kind, *_ in streams(tmp_path / "all.mp4")] == ["video"]
    assert report.losses == [f"#1 audio aac of {made[1]}: left out, {made[0]} has no such track"]


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"size": (80, 48)}, "size 80x48, not 64x48"),
        ({"codec": "libx265"}, "codec hevc, not h264"),
        ({"pix_fmt": "yuv444p"}, "pixel format yuv444p"),
        ({"options": {"bf": "0", "refs": "1"}}, "parameter sets"),
        ({"time_base": Fraction(1, 25), "pts": tuple(range(20))}, "time base"),
    ],
)
def test_parts_that_differ_are_refused_by_name(tmp_path, changes, told):
    first = write(tmp_path / "a.mp4", pts=PTS)
    other = write(tmp_path / "other.mp4", **{"pts": PTS, **changes})
    with pytest.raises(SinkError, match=told) as caught:
        join([first, other], str(tmp_path / "all.mp4"))
    assert "other.mp4" in str(caught.value)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.mp4", "other.mp4"]


def test_nothing_is_left_where_a_part_cannot_be_read(tmp_path):
    first = write(tmp_path / "a.mp4", pts=PTS)
    (tmp_path / "b.mp4").write_bytes(b"no video" * 100)
    with pytest.raises(SourceError, match=r"b\.mp4"):
        join([first, str(tmp_path / "b.mp4")], str(tmp_path / "all.mp4"))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.mp4", "b.mp4"]


def test_an_output_that_exists_or_is_a_part_is_refused(tmp_path):
    made = parts(tmp_path, count=2)
    with pytest.raises(SinkError, match="is the input itself"):
        join(made, made[1], overwrite=True)
    (tmp_path / "all.mp4").write_bytes(b"mine")
    with pytest.raises(SinkError, match="exists already"):
        join(made, str(tmp_path / "all.mp4"))
    assert (tmp_path / "all.mp4").read_bytes() == b"mine"


def test_one_part_is_nothing_to_join(tmp_path):
    with pytest.raises(OptionError, match="two or more"):
        join(parts(tmp_path, count=1), str(tmp_path / "all.mp4"))


@pytest.mark.parametrize("extension", ["mp4", "mkv"])
def test_joined_video_has_the_rate_and_the_timecode_of_its_parts(tmp_path, extension):
    timecode = {"timecode": "01:02:03:04"}
    parts = [write(tmp_path / f"{n}.{extension}", Video(metadata=timecode)) for n in range(2)]
    output = str(tmp_path / f"out.{extension}")
    assert join(parts, output).losses == []
    with av.open(output) as container:
        video = container.streams.video[0]
        assert video.average_rate == 25
        tags = {**container.metadata, **video.metadata}
        assert {key.lower(): value for key, value in tags.items()}["timecode"] == "01:02:03:04"


def test_frames_that_a_joined_file_lacks_are_a_loss(tmp_path, monkeypatch):
    mux, seen = Muxer.mux, []

    def some(self, packet):
        seen.append(packet)
        if len(seen) != 7:
            mux(self, packet)

    monkeypatch.setattr(Muxer, "mux", some)
    report = join(parts(tmp_path, count=2), str(tmp_path / "all.mp4"))
    assert "it has 39 video frames instead of 40" in report.losses
