"""A container's clock that restarts, runs over or begins far from zero is one clock in the output."""

from contextlib import closing
from dataclasses import replace
from fractions import Fraction
from itertools import pairwise

import pytest

from tests.cases.clips import RATE, Part, assert_kept, content, joined, write
from tests.media.synth import packet_times, times
from vderain.media import open_source
from vderain.media.io import formats
from vderain.options import EncodeOptions, RunOptions

WRAP_S = Fraction(2**33, 90_000)
RESTART = (Part(at_s=Fraction(2)), Part(at_s=Fraction(3, 2), first=20))
AHEAD = (Part(at_s=Fraction(2)), Part(at_s=Fraction(900), first=20))


def steps(path):
    shown = times(path)
    return [float(b - a) for a, b in pairwise(shown)]


def notes(done):
    return "\n".join(done.lines("note"))


@pytest.mark.parametrize("output", ["dry.mkv", "dry.mp4", "dry.ts"])
def test_a_clock_that_restarts_is_one_event_for_all_tracks(user, output):
    done, dry = user.run("clock_restarts.ts", output)
    assert (done.code, done.losses) == (0, [])
    assert "the clock of the input jumps back by 1.52 s at 1.53 s" in notes(done)
    assert len(times(dry)) == 76
    assert min(steps(dry)) > 0.038
    sound = packet_times(dry, 1)
    assert len(sound) == 132
    assert sound[-1] > times(dry)[-1] - Fraction(1, 10)


@pytest.mark.parametrize("source", ["clock_restarts.ts", "in.mkv"])
def test_info_names_the_jumps_of_a_clock_before_the_run(user, source):
    if source == "in.mkv":
        parts = Part(at_s=Fraction(0)), Part(at_s=Fraction(300), first=20)
        joined(user.folder / source, *parts)
    done, _ = user.run(source, "out.mp4")
    jumps = [note for note in done.lines("note") if "the clock of the input jumps" in note]
    assert len(jumps) == 1 and set(jumps) <= set(user.info(source)["notes"])


def test_a_batch_puts_a_clock_that_restarts_together_too(user):
    done, folder = user.batch("clock_restarts.ts", "--segment", "1")
    assert done.code == 0, done.said
    dry = folder / "clock_restarts.ts"
    assert len(times(dry)) == 76
    assert min(steps(dry)) > 0.038
    assert len(packet_times(dry, 1)) == 132


@pytest.mark.parametrize("kind", ["ts", "mkv"])
@pytest.mark.parametrize("parts", [RESTART, AHEAD], ids=["back", "ahead"])
def test_sound_stays_in_sync_over_a_jump(user, kind, parts):
    source = joined(user.folder / f"rainy.{kind}", *parts)
    done, dry = user.run(source.name, "dry.mkv")
    assert (done.code, done.losses) == (0, [])
    assert "jumps" in notes(done)
    assert_kept(source, dry, *parts)
    assert max(steps(dry)) < 0.2


def test_the_segments_of_a_batch_find_their_frames_behind_a_jump(user):
    parts = (
        Part(60, at_s=Fraction(5)),
        Part(60, at_s=Fraction(3), first=60),
        Part(60, at_s=Fraction(4), first=120),
    )
    source = joined(user.folder / "rainy.ts", *parts)
    done, folder = user.batch("rainy.ts", "--segment", "1")
    assert done.code == 0, done.said
    assert_kept(source, folder / "rainy.ts", *parts)


def test_a_pause_of_the_video_alone_stays(user):
    part = Part(frames=400, missing=tuple(range(30, 395)))
    source = write(user.folder / "rainy.mkv", part)
    done, dry = user.run(source.name, "dry.mkv")
    assert "jumps" not in done.said
    assert max(steps(dry)) == pytest.approx(366 / RATE, abs=0.01)
    assert_kept(source, dry, part)


def test_a_counter_that_runs_over_hides_no_frame(user):
    done, dry = user.run("clock_wraps.ts", "dry.mp4")
    assert done.code == 0
    assert "0.843 s later, so that no frame is before zero" in notes(done)
    assert len(times(dry)) == 38
    assert times(dry)[0] >= 0


def test_sound_that_ends_before_the_counter_runs_over_is_no_false_loss(user):
    begin_s = Fraction(2**33, 90_000) - 4
    source = write(user.folder / "rainy.ts", Part(at_s=begin_s), mpegts_copyts="1", muxdelay="0")
    done, dry = user.run("rainy.ts", "dry.mkv")
    assert (done.code, done.losses) == (0, [])
    assert_kept(source, dry, Part(at_s=begin_s))


def test_a_counter_that_runs_over_in_mid_file_goes_on_exactly(user):
    write(user.folder / "rainy.ts", Part(100, at_s=WRAP_S - 2), mpegts_copyts="1")
    done, dry = user.run("rainy.ts", "dry.mp4")
    assert done.code == 0
    assert len(times(dry)) == 100
    assert steps(dry) == pytest.approx([1 / RATE] * 99, abs=1e-4)
    assert times(dry)[0] >= 0


@pytest.mark.parametrize("source", ["fragment_at_20h.mp4", "made.ts"])
@pytest.mark.parametrize("output", ["dry.mp4", "dry.mov"])
def test_a_clock_that_begins_far_from_zero_begins_there_in_mp4(user, source, output):
    write(user.folder / "made.ts", Part(38, at_s=Fraction(40_000)), mpegts_copyts="1")
    done, dry = user.run(source, output)
    assert (done.code, done.losses) == (0, [])
    assert "s earlier, because players" in notes(done)
    assert 0 <= times(dry)[0] < Fraction(1, 10)
    assert len(times(dry)) == 38


def test_matroska_keeps_a_far_beginning(user):
    part = Part(38, at_s=Fraction(40_000))
    source = write(user.folder / "rainy.ts", part, mpegts_copyts="1")
    done, dry = user.run("rainy.ts", "dry.mkv")
    assert done.code == 0
    assert times(dry)[0] >= 40_000
    assert_kept(source, dry, part)


def test_a_batch_moves_a_far_beginning_as_a_run_does(user):
    done, folder = user.batch("fragment_at_20h.mp4")
    assert done.code == 0, done.said
    dry = folder / "fragment_at_20h.mp4"
    assert times(dry)[0] < 1
    assert len(times(dry)) == 38


@pytest.mark.parametrize(
    ("source", "frames", "length_s"),
    [
        ("clock_restarts.ts", 76, 3.04),
        ("fragment_at_20h.mp4", 38, 1.52),
        ("clock_wraps.ts", 38, 1.52),
    ],
)
def test_lengths_and_estimates_leave_out_origin_and_gaps(user, source, frames, length_s):
    found = user.info(source)
    assert found["info"]["frames"] == frames
    assert found["info"]["duration_s"] == pytest.approx(length_s, rel=0.1)


def test_a_gap_of_the_clock_is_no_part_of_the_length(user):
    joined(user.folder / "rainy.mkv", *AHEAD)
    found = user.info("rainy.mkv")
    assert found["info"]["frames"] == 40
    assert found["info"]["duration_s"] == pytest.approx(1.6, rel=0.1)


def test_a_length_before_zero_counts_too(user):
    """FFmpeg gives times before zero to a counter that is about to run over."""
    joined(user.folder / "rainy.ts", Part(50, at_s=WRAP_S - 10))
    assert user.info("rainy.ts")["info"]["duration_s"] == pytest.approx(2, rel=0.1)


def test_info_says_how_much_of_a_long_file_was_searched_for_jumps(user, monkeypatch):
    source = joined(user.folder / "rainy.ts", *RESTART)
    size = source.stat().st_size
    monkeypatch.setattr("vderain.media.io.survey._MOST_BYTES_FOR_CLOCK", size // 4)
    assert any("looked for in the first" in note for note in user.info("rainy.ts")["notes"])
    monkeypatch.setattr("vderain.media.io.survey._MOST_BYTES_FOR_CLOCK", size)
    assert not any("looked for" in note for note in user.info("rainy.ts")["notes"])


@pytest.mark.parametrize("begin_s", [WRAP_S - 1, WRAP_S + 9])
def test_what_no_transport_stream_counts_begins_at_zero_there(user, begin_s):
    part = Part(50, at_s=begin_s)
    source = joined(user.folder / "rainy.mkv", part)
    done, dry = user.run("rainy.mkv", "dry.ts")
    assert (done.code, done.losses) == (0, [])
    assert "the clock of mpegts starts again after 95444 s" in notes(done)
    assert_kept(source, dry, part)
    assert times(dry)[0] < 1


def test_an_output_over_which_the_clock_runs_is_named(user, monkeypatch):
    short = replace(formats._TS, clock_s=Fraction(1))
    monkeypatch.setitem(formats._BY_EXTENSION, ".ts", short)
    write(user.folder / "rainy.mp4", Part(50))
    done, _ = user.run("rainy.mp4", "dry.ts")
    assert done.code == 0
    assert "the clock of mpegts starts again from zero at 1 s of the output" in notes(done)


def test_the_count_behind_fragments_is_not_the_header_s(user):
    """The header of such a file knows the frames before its first fragment."""
    write(user.folder / "rainy.mp4", Part(60), movflags="frag_keyframe")
    assert user.info("rainy.mp4")["info"]["frames"] == 60


def test_a_start_behind_a_jump_finds_its_frames(user):
    joined(user.folder / "rainy.ts", *RESTART)
    done, dry = user.run("rainy.ts", "dry.mkv", "--start", "1.2")
    assert done.code == 0
    assert content(dry).numbers == list(range(30, 40))


def test_a_comparison_pairs_what_was_moved(user):
    _, dry = user.run("fragment_at_20h.mp4", "dry.mp4")
    rainy = str(user.file("fragment_at_20h.mp4"))
    done = user.give(["compare", rainy, str(dry), "--output", str(user.folder / "both.mp4")])
    assert done.code == 0, done.said
    assert len(times(user.folder / "both.mp4")) == 38


def test_a_tag_does_not_outrank_the_duration_of_its_container(user):
    done, dry = user.run("stale_duration.mkv", "dry.mkv")
    assert (done.code, done.losses) == (0, [])
    assert len(times(dry)) == 50


def test_a_stale_length_of_mp4_is_no_loss_where_all_frames_of_its_index_came(user):
    source = write(user.folder / "rainy.mp4", Part(30))
    content = bytearray(source.read_bytes())
    place = content.index(b"mdhd") + 4
    content[place + 16 : place + 20] = (90_000 * 3600).to_bytes(4, "big")
    source.write_bytes(content)
    done, _ = user.run("rainy.mp4", "dry.mp4")
    assert (done.code, done.losses) == (0, [])


class TestNoRate:
    def test_the_distances_of_frames_show_it(self, user):
        assert user.info("no_rate.webm")["info"]["frame_rate"] == "30000/1001"

    @pytest.mark.parametrize(("output", "codec"), [("dry.mp4", "h264"), ("dry.webm", "av1")])
    def test_every_codec_takes_it(self, user, output, codec):
        arguments = [str(user.file("no_rate.webm")), str(user.folder / output)]
        done = user.give(["run", *arguments, "--codec", codec])
        assert done.code == 0, done.said
        assert len(times(user.folder / output)) == 30

    def test_no_frame_is_taken_for_a_cut(self, user):
        path = str(user.file("no_rate.webm"))
        with closing(open_source(path, run=RunOptions(), encode=EncodeOptions())) as source:
            assert not any(frame.discontinuity for frame in source)
