from fractions import Fraction

import av
import pytest

from tests.media import synth
from tests.media.carry.test_tracks import chapters
from vderain.errors import SourceError
from vderain.media.frames.decoding import Decoder
from vderain.options import RunOptions


@pytest.fixture(params=["mp4", "mkv", "ts"])
def clip(request, tmp_path):
    """Two seconds from 1.4 s on, a keyframe every 10 frames."""
    pts = tuple(126_000 + index * synth.STEP for index in range(50))
    return synth.write(
        tmp_path / f"in.{request.param}", pts=pts, options={"g": "10"}, languages=("eng",)
    )


def beginning(path):
    """Where a player's clock begins, in seconds."""
    with av.open(path) as container:
        return Fraction(container.start_time, av.time_base)


def cut(clip, output, **span):
    stats, _ = synth.process(clip, output, run=RunOptions(**span))
    return stats


def test_a_start_drops_what_lies_before_and_begins_near_zero(tmp_path, clip):
    origin = beginning(clip)

    stats = cut(clip, tmp_path / "out.mp4", start_s=1.9)

    expected = [time for time in synth.times(clip) if time >= origin + Fraction(19, 10)]
    moved = synth.times(tmp_path / "out.mp4")
    shift = origin + Fraction(19, 10)
    assert len(moved) == len(expected) == stats.frames
    for new, old in zip(moved, expected, strict=True):
        assert abs(new + shift - old) <= Fraction(1, 1000)
    assert 0 <= moved[0] < Fraction(15, 10)
    assert any("all tracks were cut at" in note for note in stats.notes)


def test_sound_is_cut_and_moved_with_the_image(tmp_path, clip):
    origin = beginning(clip)

    cut(clip, tmp_path / "out.mkv", start_s=1.0, duration_s=0.6)

    begin = origin + 1
    before = [
        time for time in synth.packet_times(clip, 1) if begin <= time < begin + Fraction(6, 10)
    ]
    after = synth.packet_times(tmp_path / "out.mkv", 1)
    assert len(after) == len(before) > 10
    for new, old in zip(after, before, strict=True):
        assert abs(new + begin - old) <= Fraction(2, 1000)


def test_a_duration_alone_moves_nothing(tmp_path, clip):
    stats = cut(clip, tmp_path / "out.mp4", duration_s=1.6)

    origin = beginning(clip)
    expected = [time for time in synth.times(clip) if time < origin + Fraction(16, 10)]
    assert 0 < len(expected) < 50
    assert synth.times(tmp_path / "out.mp4") == expected
    assert stats.notes == []


@pytest.mark.parametrize(("rate", "threads"), [(1, 0), (1, 16), (10, 16)])
def test_the_last_frames_of_a_duration_come_however_late_the_decoder_gives_them(
    tmp_path, monkeypatch, rate, threads
):
    """Threads and B-frames hold back many frames, which at a low rate are many seconds."""

    class Threaded(Decoder):
        def __init__(self, stream, *others, **options):
            super().__init__(stream, *others, **options)
            stream.codec_context.thread_count = threads

    monkeypatch.setattr("vderain.media.source.Decoder", Threaded)
    pts = tuple(index * 90_000 // rate for index in range(14 * rate))
    clip = synth.write(
        tmp_path / "in.mkv", pts=pts, rate=rate, options={"bf": "3", "g": "250"}, size=(16, 16)
    )

    stats = cut(clip, tmp_path / "out.mkv", duration_s=10)

    assert stats.frames == 10 * rate
    assert synth.times(tmp_path / "out.mkv") == synth.times(clip)[: 10 * rate]


def test_chapters_are_cut_too(tmp_path):
    pts = tuple(index * synth.STEP for index in range(20))
    clip = synth.write(tmp_path / "in.mkv", pts=pts, chapters=True)

    cut(clip, tmp_path / "out.mkv", start_s=0.3)

    assert chapters(tmp_path / "out.mkv") == [(0, Fraction(1, 10), "two")]


def test_the_frame_after_a_start_is_the_one_that_a_whole_run_gives(tmp_path):
    pts = tuple(index * synth.STEP for index in range(40))
    clip = synth.write(tmp_path / "in.mp4", pts=pts, options={"g": "12", "bf": "3"})
    seen = []

    def keep(item):
        seen.append(item.planes[0].copy())
        return item

    synth.process(
        clip, tmp_path / "out.mp4", run=RunOptions(start_s=0.8, duration_s=0.2), change=keep
    )

    expected = [synth.samples(image) for image in synth.decoded_frames(clip)[20:25]]
    assert len(seen) == 5
    assert all((one == other).all() for one, other in zip(seen, expected, strict=True))


def test_a_start_behind_the_end_is_an_error_that_says_so(tmp_path):
    clip = synth.write(tmp_path / "in.mp4")
    with pytest.raises(SourceError, match=r"in\.mp4: no image .* it lasts 0\.400 s"):
        cut(clip, tmp_path / "out.mp4", start_s=7)
