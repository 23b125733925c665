"""Where the beginning is cut off, timecode is that of the first frame, and copied video begins with a keyframe."""

from fractions import Fraction

import av
import pytest

from tests.media.synth import Video, packet_times, painted, times
from vderain.media.carry.timecode import later

NTSC = Fraction(30_000, 1001)


def timecode(path):
    with av.open(str(path)) as container:
        tags = [container.metadata, *(stream.metadata for stream in container.streams)]
        found = {key.lower(): value for tag in tags for key, value in tag.items()}
    return found["timecode"]


@pytest.mark.parametrize("output", ["dry.mp4", "dry.mov", "dry.mkv"])
def test_the_timecode_moves_with_the_start(user, output):
    done, dry = user.run("timecode.mp4", output, "--start", "1.3")
    assert done.code == 0, done.said
    assert len(times(dry)) == 75 - 33
    assert timecode(dry) == "01:02:04:12"


def test_without_a_start_the_timecode_stays(user):
    _, dry = user.run("timecode.mp4", "dry.mp4", "--duration", "1")
    assert timecode(dry) == "01:02:03:04"


@pytest.mark.parametrize(
    ("begin", "frames", "rate", "expected"),
    [
        ("01:02:03:04", 33, 25, "01:02:04:12"),
        ("00:00:59;29", 1, NTSC, "00:01:00;02"),
        ("00:09:59;29", 1, NTSC, "00:10:00;00"),
        ("00:00:00;00", 17_982 * 6, NTSC, "01:00:00;00"),
        ("00:00:59;59", 1, 2 * NTSC, "00:01:00;04"),
        ("00:00:59:29", 1, NTSC, "00:01:00:00"),
        ("23:59:59:24", 1, 25, "00:00:00:00"),
        ("no timecode", 5, 25, "no timecode"),
    ],
)
def test_frames_are_counted_as_smpte_has_it(begin, frames, rate, expected):
    assert later(begin, frames, Fraction(rate)) == expected


@pytest.mark.parametrize("output", ["dry.mp4", "dry.mkv"])
def test_a_copied_second_video_begins_with_a_keyframe(user, output):
    done, dry = user.run("two_videos.mp4", output, "--start", "1.3")
    with av.open(str(dry)) as container:
        packets = [packet for packet in container.demux(container.streams[1]) if packet.size]
    assert packets[0].is_keyframe
    assert all(packet.pts >= packets[0].pts for packet in packets)
    source = {round(float(time), 3) for time in packet_times(user.file("two_videos.mp4"), 1)}
    moved = {round(float(time) + 1.3, 3) for time in packet_times(dry, 1)}
    assert len([time for time in moved if any(abs(time - s) < 0.003 for s in source)]) == len(moved)
    assert done.code == 3
    assert "frames before its first keyframe behind the start were left out" in done.losses[0]


def test_sound_is_cut_where_the_start_is(user):
    _, dry = user.run("two_videos.mp4", "dry.mp4", "--start", "1.3")
    assert 0 <= packet_times(dry, 2)[0] < Fraction(25, 1000)


@pytest.mark.parametrize("output", ["dry.mkv", "dry.mp4"])
def test_a_subtitle_that_is_shown_over_the_start_begins_there(user, output):
    with_subtitles(user.folder / "rainy.mkv", (0.2, 0.5), (0.6, 2.0), (2.2, 2.4))
    _, dry = user.run("rainy.mkv", output, "--start", "1")
    with av.open(str(dry)) as container:
        shown = [
            (float(packet.pts * packet.time_base), float(packet.duration * packet.time_base))
            for packet in container.demux(subtitles=0)
            if packet.size > 2  # mp4 writes empty ones between
        ]
    assert [round(value, 2) for text in shown for value in text] == [0.0, 1.0, 1.2, 0.2]


def with_subtitles(path, *spans):
    with av.open(str(path), "w") as output:
        video = output.add_stream("libx264", rate=25)
        video.width, video.height, video.pix_fmt = 64, 48, "yuv420p"
        texts = output.add_mux_stream("subrip", time_base=Fraction(1, 1000))
        for index in range(75):
            image = painted(Video(size=(64, 48), time_base=Fraction(1, 25)), index, index)
            output.mux(video.encode(image))
            for begin_s, end_s in spans:
                if round(begin_s * 25) == index:
                    text = av.Packet(b"rain")
                    text.stream, text.time_base = texts, Fraction(1, 1000)
                    text.pts = text.dts = round(begin_s * 1000)
                    text.duration = round((end_s - begin_s) * 1000)
                    output.mux(text)
        output.mux(video.encode(None))


def test_a_second_video_is_whole_without_a_start(user):
    done, dry = user.run("two_videos.mp4", "dry.mp4")
    assert done.losses == []
    assert len(packet_times(dry, 1)) == 90
