from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest

from tests.media import synth
from vderain.errors import SinkError, SourceError
from vderain.frames import Frame
from vderain.media import open_source, probe
from vderain.options import EncodeOptions, RunOptions


def read(path, **encode):
    source = open_source(str(path), run=RunOptions(), encode=EncodeOptions(**encode))
    try:
        return list(source), source.stats
    finally:
        source.close()


def write_bytes(path, content):
    path.write_bytes(content)
    return path


def only_sound(folder):
    path = folder / "sound.mp4"
    with av.open(str(path), "w") as output:
        sound = synth._Sound(output, "eng", 0)
        sound.step(output, 0)
        sound.end(output)
    return path


def without_index(folder):
    """A recording that was cut off: MP4 writes its index last."""
    whole = synth.write(folder / "whole.mp4")
    content = Path(whole).read_bytes()
    return write_bytes(folder / "cut.mp4", content[: content.index(b"moov") - 4])


BAD = {
    "missing": (lambda folder: folder / "no.mp4", "there is no such file"),
    "empty": (lambda folder: write_bytes(folder / "empty.mp4", b""), "is empty"),
    "text": (lambda folder: write_bytes(folder / "notes.txt", b"hello\n" * 99), "text file"),
    "text named mp4": (lambda folder: write_bytes(folder / "a.mp4", b"hello\n" * 99), "no video"),
    "noise": (
        lambda folder: write_bytes(folder / "a.mkv", np.random.default_rng(0).bytes(20_000)),
        "no video that can be read",
    ),
    "only sound": (only_sound, "holds no video, only audio"),
    "without index": (without_index, "cut off before its end"),
}


@pytest.mark.parametrize("kind", BAD)
def test_what_is_no_video_is_refused_with_its_name_and_advice(tmp_path, kind):
    make, reason = BAD[kind]
    path = make(tmp_path)
    for call in (probe, read):
        with pytest.raises(SourceError, match=reason) as caught:
            call(str(path))
        assert str(caught.value).startswith(str(path))


def test_a_folder_without_pictures_is_refused(tmp_path):
    with pytest.raises(SourceError, match="no picture"):
        read(tmp_path)


@pytest.fixture
def long_clip(tmp_path):
    pts = tuple(range(0, 60 * synth.STEP, synth.STEP))
    return synth.write(tmp_path / "in.mkv", pts=pts, options={"g": "6", "bf": "0", "crf": "5"})


def damaged(path, start, end):
    content = bytearray(Path(path).read_bytes())
    first, last = int(start * len(content)), int(end * len(content))
    content[first:last] = np.random.default_rng(1).bytes(last - first)
    Path(path).write_bytes(content)
    return path


def test_noise_in_the_middle_is_counted_and_passed_over(tmp_path, long_clip):
    items, stats = read(damaged(long_clip, 0.3, 0.5))

    assert 25 <= len(items) < 60
    assert stats.decode_failures > 0
    assert items[-1].pts == pytest.approx(59 * 40, abs=1)
    later = [item.discontinuity for item in items[1:]]
    assert any(later) and not items[0].discontinuity


def test_damage_still_makes_an_output(tmp_path, long_clip):
    stats, report = synth.process(damaged(long_clip, 0.3, 0.5), tmp_path / "out.mp4")

    assert report.frames == stats.frames == len(synth.pictures(tmp_path / "out.mp4"))
    assert stats.decode_failures > 0


def test_a_file_that_ends_early_gives_what_it_has(tmp_path, long_clip):
    content = Path(long_clip).read_bytes()
    cut = write_bytes(tmp_path / "cut.mkv", content[: len(content) // 2])

    items, _ = read(cut)

    assert 20 < len(items) < 40


def test_a_stream_without_one_good_picture_is_refused(tmp_path, long_clip):
    with av.open(long_clip) as container:
        offset = next(container.demux(video=0)).pos
        size = len(Path(long_clip).read_bytes())
    with pytest.raises(SourceError, match=r"in\.mkv: .*"):
        read(damaged(long_clip, (offset + 4) / size, 1))


def test_endless_failures_end_the_run(tmp_path, monkeypatch):
    clip = synth.write(tmp_path / "in.mkv", codec="mjpeg", pix_fmt="yuvj420p")
    monkeypatch.setattr("vderain.media.decoding.MAX_CONSECUTIVE_FAILURES", 3)
    with av.open(clip) as container:
        positions = [
            (packet.pos, packet.size) for packet in container.demux(video=0) if packet.size
        ]
    content = bytearray(Path(clip).read_bytes())
    for position, size in positions[6:]:
        content[position + 8 : position + size] = bytes(size - 8)
    write_bytes(tmp_path / "in.mkv", content)

    with pytest.raises(SourceError, match="nothing can be decoded after 6 frames"):
        read(clip)


def test_repeated_times_are_repaired_and_reported(tmp_path):
    pts = (0, 40, 40, 80)
    clip = synth.write(tmp_path / "in.mkv", codec="ffv1", pts=pts, time_base=Fraction(1, 1000))

    stats, _ = synth.process(clip, tmp_path / "out.mp4")

    assert synth.times(tmp_path / "out.mp4") == [Fraction(n, 1000) for n in (0, 40, 41, 80)]
    assert "1 times did not increase" in stats.notes[0]


def two_sizes(path):
    """A transport stream whose picture grows in the middle."""
    parts = []
    for size in ((64, 48), (96, 48)):
        part = path.with_name(f"{size[0]}.ts")
        start = 126_000 + len(parts) * 10 * synth.STEP
        pts = tuple(start + index * synth.STEP for index in range(10))
        parts.append(Path(synth.write(part, size=size, pts=pts)).read_bytes())
    path.write_bytes(b"".join(parts))
    return str(path)


def test_a_change_of_size_ends_the_run_and_leaves_nothing(tmp_path):
    clip = two_sizes(tmp_path / "in.ts")

    with pytest.raises(SinkError, match=r"from 64x48 .* to 96x48 .* at 1\.8.* s.*--start 1\.8"):
        synth.process(clip, tmp_path / "out.mp4")
    assert not list(tmp_path.glob("*out*"))


class TestInterlaced:
    def clip(self, folder):
        """H.264 in fields, upper field first."""
        return synth.write(
            folder / "in.mkv",
            options={"x264-params": "tff=1"},
            pts=tuple(range(0, 12 * synth.STEP, synth.STEP)),
        )

    def test_is_refused_with_advice_before_any_output(self, tmp_path):
        with pytest.raises(SourceError, match=r"in\.mkv: is interlaced.*--interlaced deinterlace"):
            synth.process(self.clip(tmp_path), tmp_path / "out.mp4")
        assert not (tmp_path / "out.mp4").exists()

    def test_is_deinterlaced_one_for_one_when_asked(self, tmp_path):
        clip = self.clip(tmp_path)

        stats, _ = synth.process(clip, tmp_path / "out.mp4", interlaced="deinterlace")

        assert synth.times(tmp_path / "out.mp4") == synth.times(clip)
        assert not any(picture.interlaced_frame for picture in synth.pictures(tmp_path / "out.mp4"))
        assert "12 interlaced frames were deinterlaced" in stats.notes

    def test_full_pictures_pass_the_deinterlacer_untouched(self, tmp_path):
        clip = synth.write(tmp_path / "in.mkv")
        plain, _ = read(clip)
        filtered, stats = read(clip, interlaced="deinterlace")
        assert stats.notes == []
        for one, other in zip(plain, filtered, strict=True):
            assert one.pts == other.pts and one.duration == other.duration
            assert all(map(np.array_equal, one.planes, other.planes))


def test_probe_describes_without_refusing(tmp_path):
    clip = synth.write(tmp_path / "in.mp4", languages=("deu",), rotation=-90)
    info = probe(clip)
    assert (info.width, info.height, info.codec, info.pix_fmt) == (64, 48, "h264", "yuv420p")
    assert (info.frames, info.frame_rate, info.rotation) == (10, Fraction(25), 270)
    assert info.duration_s == pytest.approx(0.4)
    assert [track.kind for track in info.tracks] == ["video", "audio"]
    assert info.tracks[1].detail == "deu mono 48000 Hz"


def test_frames_are_views_and_cannot_be_written_to(tmp_path):
    items, _ = read(synth.write(tmp_path / "in.mp4"))
    frames = [item for item in items if isinstance(item, Frame)]
    expected = synth.pictures(tmp_path / "in.mp4")
    for frame, picture in zip(frames, expected, strict=True):
        for index, plane in enumerate(frame.planes):
            assert not plane.flags.writeable and not plane.flags.owndata
            assert np.array_equal(plane, synth.samples(picture, index))
