import re
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
from av.bitstream import BitStreamFilterContext

from tests.media import synth
from vderain.errors import SinkError, SourceError
from vderain.frames import Frame
from vderain.media import open_source
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
    for call in (synth.info, read):
        with pytest.raises(SourceError, match=reason) as caught:
            call(str(path))
        assert str(caught.value).startswith(str(path))


def test_sound_with_a_cover_says_so(tmp_path):
    cover = av.CodecContext.create("mjpeg", "w")
    cover.width, cover.height, cover.pix_fmt, cover.time_base = 16, 16, "yuvj420p", synth.UNIT
    (image,) = cover.encode(av.VideoFrame(16, 16, "yuvj420p"))
    with av.open(str(tmp_path / "a.mp4"), "w") as output:
        still = output.add_mux_stream("mjpeg", width=16, height=16, time_base=synth.UNIT)
        still.disposition = av.stream.Disposition.attached_pic
        sound = synth._Sound(output, "eng", 0)
        image.stream, image.pts, image.dts = still, 0, 0
        output.mux(image)
        sound.step(output, 0)
        sound.end(output)
    with pytest.raises(SourceError, match="holds no video, only audio and a cover image;"):
        read(tmp_path / "a.mp4")


def test_a_folder_without_images_is_refused(tmp_path):
    with pytest.raises(SourceError, match="no image"):
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


def test_damaged_images_that_are_shown_do_not_count_as_skipped(long_clip):
    items, stats = read(synth.noisy(long_clip, range(20, 23)))
    assert len(items) == 60
    assert (stats.decode_failures, stats.damaged_frames, stats.skipped) == (3, 3, 0)


def test_damaged_images_that_are_shown_are_not_taken_off_those_that_a_cut_lost(tmp_path):
    pts = tuple(range(0, 100 * synth.STEP, synth.STEP))
    options = {"g": "6", "bf": "0", "crf": "5"}
    faststart = {"movflags": "faststart"}
    clip = synth.write(tmp_path / "in.mp4", pts=pts, options=options, container=faststart)
    content = Path(synth.noisy(clip, range(20, 25))).read_bytes()
    cut = write_bytes(tmp_path / "cut.mp4", content[: len(content) // 2])
    _, stats = read(cut)
    assert stats.damaged_frames >= 5
    assert f" {100 - stats.frames} frames are missing" in stats.losses[0]


def test_damage_still_makes_an_output(tmp_path, long_clip):
    stats, report = synth.process(damaged(long_clip, 0.3, 0.5), tmp_path / "out.mp4")

    assert report.frames == stats.frames == len(synth.decoded_frames(tmp_path / "out.mp4"))
    assert stats.decode_failures > 0


def test_a_file_that_ends_early_gives_what_it_has(tmp_path, long_clip):
    content = Path(long_clip).read_bytes()
    cut = write_bytes(tmp_path / "cut.mkv", content[: len(content) // 2])

    items, _ = read(cut)

    assert 20 < len(items) < 40


@pytest.mark.parametrize("start_s", [0.0, 0.4])
@pytest.mark.parametrize("target", ["mp4", "mkv"])
def test_a_file_that_was_cut_off_says_what_is_missing(tmp_path, target, start_s):
    pts = tuple(range(0, 100 * synth.STEP, synth.STEP))
    clip = synth.write(
        tmp_path / f"in.{target}",
        pts=pts,
        languages=("eng",),
        container={"movflags": "faststart"} if target == "mp4" else {},
    )
    content = Path(clip).read_bytes()
    cut = write_bytes(tmp_path / f"cut.{target}", content[: len(content) // 2])
    run = RunOptions(start_s=start_s)

    stats, _ = synth.process(cut, tmp_path / "out.mkv", run=run)
    whole, _ = synth.process(clip, tmp_path / "whole.mkv", run=run)
    part, _ = synth.process(clip, tmp_path / "part.mkv", run=RunOptions(duration_s=1.0))

    assert whole.losses == part.losses == []
    (loss,) = stats.losses
    assert "the input ends at " in loss and " s of 4.0 s, " in loss
    if target == "mp4" and not start_s:
        assert f" {100 - stats.frames} frames are missing" in loss


def test_a_video_that_ends_before_its_sound_through_damage_says_so(tmp_path):
    pts = tuple(range(0, 100 * synth.STEP, synth.STEP))
    clip = synth.write(tmp_path / "in.mkv", pts=pts, languages=("eng",))
    with av.open(clip) as container:
        places = [packet.pos for packet in container.demux(video=0) if packet.size]
    content = bytearray(Path(clip).read_bytes())
    for place in places[40:]:
        content[place + 4 : place + 8] = b"\xff" * 4  # the length of the first unit of an image
    cut = write_bytes(tmp_path / "cut.mkv", bytes(content))

    _, stats = read(cut)

    assert any("the input ends at 1." in loss for loss in stats.losses), stats


def test_sound_that_lasts_longer_than_the_image_is_no_loss(tmp_path):
    clip = synth.Video(pts=tuple(range(0, 25 * synth.STEP, synth.STEP)))
    for target in ("mp4", "mkv"):
        with av.open(str(tmp_path / f"in.{target}"), "w") as output:
            stream = synth._video_stream(output, clip)
            sound = synth._Sound(output, "eng", 0)
            for index in range(75):
                if index < 25:
                    output.mux(stream.encode(synth.painted(clip, index, clip.pts[index])))
                sound.step(output, index)
            output.mux(stream.encode(None))
            sound.end(output)
        _, stats = read(tmp_path / f"in.{target}")
        assert stats.losses == []


def test_a_stream_without_one_good_image_is_refused(tmp_path, long_clip):
    with av.open(long_clip) as container:
        offset = next(container.demux(video=0)).pos
        size = len(Path(long_clip).read_bytes())
    with pytest.raises(SourceError, match=r"in\.mkv: .*"):
        read(damaged(long_clip, (offset + 4) / size, 1))


def test_endless_failures_end_the_run(tmp_path, monkeypatch):
    clip = synth.write(tmp_path / "in.mkv", codec="mjpeg", pix_fmt="yuvj420p")
    monkeypatch.setattr("vderain.media.frames.decoding.MAX_CONSECUTIVE_FAILURES", 3)
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
    """A transport stream whose image grows in the middle."""
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

    with pytest.raises(SinkError, match=r"from 64x48 .* to 96x48 .*") as caught:
        synth.process(clip, tmp_path / "out.mp4")
    assert not list(tmp_path.glob("*out*"))
    length, start = map(float, re.search(r"duration_s=(\S+) and start_s=(\S+)", str(caught.value))
                        .groups())  # fmt: skip
    assert start < 1 and length == start
    first = RunOptions(duration_s=length)
    synth.process(clip, tmp_path / "first.mp4", run=first)
    synth.process(clip, tmp_path / "second.mp4", run=RunOptions(start_s=start))
    assert synth.decoded_frames(tmp_path / "first.mp4")[-1].width == 64
    assert synth.decoded_frames(tmp_path / "second.mp4")[0].width == 96


def test_the_advice_on_a_change_of_size_counts_from_the_start_that_was_asked_for(tmp_path):
    clip = two_sizes(tmp_path / "in.ts")
    whole, part = [], []
    for found, run in ((whole, RunOptions()), (part, RunOptions(start_s=0.2))):
        with pytest.raises(SinkError) as caught:
            synth.process(clip, tmp_path / "out.mp4", run=run)
        words = re.search(r"duration_s=(\S+) and start_s=(\S+)", str(caught.value)).groups()
        found.extend(map(float, words))
    assert part[0] == pytest.approx(whole[0] - 0.2, abs=0.002)
    assert part[1] == pytest.approx(whole[1], abs=0.002)


def test_a_crop_on_the_left_gives_the_width_that_the_stream_says(tmp_path):
    whole, cropped = synth.write(tmp_path / "whole.ts"), tmp_path / "cropped.ts"
    with av.open(whole) as container, av.open(str(cropped), "w") as output:
        stream = container.streams.video[0]
        crop = BitStreamFilterContext("h264_metadata=crop_left=6:crop_right=2", stream)
        copy = output.add_stream_from_template(stream, opaque=True)
        for packet in (p for p in container.demux(stream) if p.size):
            for changed in crop.filter(packet):
                changed.stream = copy
                output.mux(changed)

    synth.process(cropped, tmp_path / "out.mkv", codec="ffv1")

    for before, after in zip(
        synth.decoded_frames(whole), synth.decoded_frames(tmp_path / "out.mkv"), strict=True
    ):
        assert np.array_equal(synth.samples(before)[:, 6:-2], synth.samples(after))
        assert np.array_equal(synth.samples(before, 1)[:, 3:-1], synth.samples(after, 1))


def test_info_is_what_the_container_and_the_first_frame_say(tmp_path):
    clip = synth.write(tmp_path / "in.mp4", languages=("deu",), rotation=-90)
    info = synth.info(clip)
    assert (info.width, info.height, info.codec, info.pix_fmt) == (64, 48, "h264", "yuv420p")
    assert (info.frames, info.frame_rate, info.rotation) == (10, Fraction(25), 270)
    assert info.duration_s == pytest.approx(0.4)
    assert [track.kind for track in info.tracks] == ["video", "audio"]
    assert info.tracks[1].detail == "deu mono 48000 Hz"


def test_frames_are_views_and_cannot_be_written_to(tmp_path):
    items, _ = read(synth.write(tmp_path / "in.mp4"))
    frames = [item for item in items if isinstance(item, Frame)]
    expected = synth.decoded_frames(tmp_path / "in.mp4")
    for frame, image in zip(frames, expected, strict=True):
        for index, plane in enumerate(frame.planes):
            assert not plane.flags.writeable and not plane.flags.owndata
            assert np.array_equal(plane, synth.samples(image, index))
