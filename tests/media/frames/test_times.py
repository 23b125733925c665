from fractions import Fraction

import av
import pytest

from tests.media import synth
from vderain.media.frames.timing import FrameClock

VFR = tuple(9000 + pts for pts in (0, 3000, 3001, 9123, 20000, 20007, 30000, 41234, 50000, 60001))


@pytest.mark.parametrize("codec", ["h264", "hevc", "av1"])
def test_variable_times_with_an_offset_are_exact_in_mp4(tmp_path, codec):
    clip = synth.write(tmp_path / "in.mp4", pts=VFR)

    stats, report = synth.process(clip, tmp_path / "out.mp4", codec=codec)

    assert synth.times(tmp_path / "out.mp4") == [Fraction(pts, 90_000) for pts in VFR]
    assert (stats.frames, report.frames) == (10, 10)
    assert stats.notes == report.losses == []


def test_b_frames_on_both_sides_keep_their_times(tmp_path):
    clip = synth.write(tmp_path / "in.mp4", options={"bf": "3", "b-adapt": "0"})

    synth.process(clip, tmp_path / "out.mp4", preset="medium")

    kinds = {image.pict_type for image in synth.decoded_frames(tmp_path / "out.mp4")}
    assert len(kinds) == 3  # I, P and B
    assert synth.times(tmp_path / "out.mp4") == synth.times(clip)


def test_matroska_is_exact_to_a_millisecond_and_keeps_the_offset_to_sound(tmp_path):
    clip = synth.write(tmp_path / "in.mp4", pts=VFR, languages=("deu",))

    synth.process(clip, tmp_path / "out.mkv")

    for index in (0, 1):
        before = synth.packet_times(clip, index)
        after = synth.packet_times(tmp_path / "out.mkv", index)
        pairs = zip(sorted(before), sorted(after), strict=True)
        assert max(abs(a - b) for a, b in pairs) <= Fraction(1, 1000)


def test_a_transport_stream_keeps_its_offset(tmp_path):
    pts = tuple(126_000 + index * synth.STEP for index in range(10))
    clip = synth.write(tmp_path / "in.ts", pts=pts)

    stats, report = synth.process(clip, tmp_path / "out.ts")

    assert synth.times(tmp_path / "out.ts") == synth.times(clip)
    assert stats.notes == report.notes == []


def test_a_shift_that_the_container_forces_is_reported(tmp_path):
    clip = synth.write(tmp_path / "in.mp4")  # B-frames: decoding begins before zero

    _, report = synth.process(clip, tmp_path / "out.ts")

    assert "begin 0.080 s later" in report.notes[0]
    moved = [time - Fraction(80, 1000) for time in synth.times(tmp_path / "out.ts")]
    assert moved == synth.times(clip)


def test_the_last_frame_keeps_its_duration(tmp_path):
    clip = synth.write(tmp_path / "in.mp4", pts=(0, 3600, 7200))
    lengths = [image.duration for image in synth.decoded_frames(clip)]

    synth.process(clip, tmp_path / "out.mp4")

    assert [image.duration for image in synth.decoded_frames(tmp_path / "out.mp4")] == lengths


def test_one_frame_makes_a_video(tmp_path):
    clip = synth.write(tmp_path / "in.mp4", pts=(1234,), container={"movie_timescale": "90000"})

    _, report = synth.process(clip, tmp_path / "out.mp4")

    assert report.frames == 1
    assert synth.times(tmp_path / "out.mp4") == [Fraction(1234, 90_000)]


@pytest.mark.parametrize("frames", [1, 2, 3])
@pytest.mark.parametrize("codec", ["h264", "hevc", "av1"])
def test_very_short_videos_have_sane_decoding_times(tmp_path, codec, frames):
    clip = synth.write(tmp_path / "in.mp4", pts=tuple(range(0, frames * 3600, 3600)))

    synth.process(clip, tmp_path / "out.mp4", codec=codec)

    with av.open(str(tmp_path / "out.mp4")) as container:
        packets = [packet for packet in container.demux(video=0) if packet.size]
    assert len(packets) == frames
    assert all(packet.pts - 5 * 3600 <= packet.dts <= packet.pts for packet in packets)


@pytest.mark.parametrize("codec", ["libx264", "mpeg4", "rawvideo"])
def test_avi_gets_its_times_from_the_frame_rate(tmp_path, codec):
    clip = synth.write(
        tmp_path / "in.avi", codec=codec, time_base=Fraction(1, 25), pts=tuple(range(10))
    )

    stats, _ = synth.process(clip, tmp_path / "out.mp4")

    assert synth.times(tmp_path / "out.mp4") == [Fraction(index, 25) for index in range(10)]
    assert any("AVI" in note for note in stats.notes)


def test_a_bare_stream_gets_its_times_from_the_frame_rate(tmp_path):
    clip = synth.write(tmp_path / "in.h264", format="h264")

    stats, _ = synth.process(clip, tmp_path / "out.mp4")

    assert synth.times(tmp_path / "out.mp4") == [Fraction(index, 25) for index in range(10)]
    assert any("10 frames came without a time" in note for note in stats.notes)


def test_avi_output_is_a_constant_rate_and_says_what_that_costs(tmp_path):
    steady = synth.write(tmp_path / "steady.mp4")
    uneven = synth.write(tmp_path / "uneven.mp4", pts=VFR)

    _, kept = synth.process(steady, tmp_path / "steady.avi")
    _, lost = synth.process(uneven, tmp_path / "uneven.avi")

    assert len(synth.decoded_frames(tmp_path / "steady.avi")) == 10
    assert kept.losses == []
    assert "stores a frame rate only" in lost.losses[0]


class TestFrameClock:
    def test_passes_times_through(self):
        clock = FrameClock(Fraction(1, 1000), Fraction(25))
        assert [clock.stamp(pts) for pts in (5, 6, 1000)] == [5, 6, 1000]
        assert clock.notes == []

    def test_moves_repeated_and_backward_times_behind_the_last(self):
        clock = FrameClock(Fraction(1, 1000), Fraction(25))
        assert [clock.stamp(pts) for pts in (10, 10, 4, 50)] == [10, 11, 12, 50]
        assert "2 times" in clock.notes[0]

    def test_makes_up_missing_times_without_drift(self):
        clock = FrameClock(Fraction(1, 1000), Fraction(30_000, 1001))
        stamps = [clock.stamp(None) for _ in range(30_001)]
        assert stamps[-1] == 1_001_000
        assert "30001 frames" in clock.notes[0]

    def test_gives_sorted_decoding_times_in_presentation_order(self):
        clock = FrameClock(Fraction(1, 25), Fraction(25), sort_dts=True)
        for dts in (0, 1, 2):
            clock.sent(dts)
        assert [clock.stamp(99), clock.stamp(None)] == [0, 1]
