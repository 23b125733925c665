import json
from fractions import Fraction

import av
import numpy as np
import pytest

from tests.media import synth

TAGS = {"title": "A walk", "creation_time": "2020-01-02T03:04:05.000000Z"}


def rich(path, **changes):
    arguments = {"languages": ("eng", "fra"), "chapters": True, "metadata": TAGS} | changes
    return synth.write(path, **arguments)


def attachments(path):
    with av.open(str(path)) as container:
        return [
            (stream.metadata["filename"], stream.metadata["mimetype"], stream.data)
            for stream in container.streams.attachments
        ]


def container_tags(path):
    with av.open(str(path)) as container:
        return dict(container.metadata)


def chapters(path):
    with av.open(str(path)) as container:
        return [
            (
                chapter["start"] * chapter["time_base"],
                chapter["end"] * chapter["time_base"],
                chapter["metadata"]["title"],
            )
            for chapter in container.chapters()
        ]


@pytest.mark.parametrize("extension", ["mp4", "mov", "mkv"])
def test_sound_passes_bit_by_bit_with_its_description(tmp_path, extension):
    clip = rich(tmp_path / "in.mp4")

    _, report = synth.process(clip, tmp_path / f"out.{extension}")

    for index in (1, 2):
        assert synth.payloads(tmp_path / f"out.{extension}", index) == synth.payloads(clip, index)
    assert synth.streams(tmp_path / f"out.{extension}")[:3] == synth.streams(clip)[:3]
    assert report.tracks_copied == [
        "#1 audio aac (eng mono 48000 Hz)",
        "#2 audio aac (fra mono 48000 Hz)",
    ]
    assert report.losses == []


@pytest.mark.parametrize("source", ["mp4", "mkv"])
@pytest.mark.parametrize("target", ["mp4", "mkv"])
def test_tags_and_chapters_pass(tmp_path, source, target):
    clip = rich(tmp_path / f"in.{source}")

    synth.process(clip, tmp_path / f"out.{target}")

    written = container_tags(tmp_path / f"out.{target}")
    assert written["title"] == TAGS["title"]
    assert written["creation_time"] == TAGS["creation_time"]
    assert chapters(tmp_path / f"out.{target}") == chapters(clip)
    assert [chapter[2] for chapter in chapters(clip)] == ["one", "two"]


def test_unusual_tags_pass_from_mp4_to_mp4(tmp_path):
    clip = rich(
        tmp_path / "in.mp4",
        metadata=TAGS | {"com.android.version": "14"},
        container={"movflags": "use_metadata_tags"},
    )

    synth.process(clip, tmp_path / "out.mp4")

    written = container_tags(tmp_path / "out.mp4")
    assert {key: written[key] for key in (*TAGS, "com.android.version")} == {
        **TAGS,
        "com.android.version": "14",
    }
    assert written["major_brand"] == "isom"


def test_subtitles_and_attachments_pass_in_matroska(tmp_path):
    clip = rich(tmp_path / "in.mkv", subtitle="subrip", attachment=True)

    _, report = synth.process(clip, tmp_path / "out.mkv")

    assert synth.payloads(tmp_path / "out.mkv", 3) == synth.payloads(clip, 3)
    assert synth.packet_times(tmp_path / "out.mkv", 3) == synth.packet_times(clip, 3)
    assert attachments(tmp_path / "out.mkv") == attachments(clip) != []
    assert synth.streams(tmp_path / "out.mkv") == synth.streams(clip)
    assert report.losses == report.notes == []


def test_subrip_becomes_timed_text_in_mp4_and_comes_back(tmp_path):
    clip = rich(tmp_path / "in.mkv", subtitle="subrip")

    _, there = synth.process(clip, tmp_path / "there.mp4")
    _, back = synth.process(tmp_path / "there.mp4", tmp_path / "back.mkv")

    assert synth.payloads(tmp_path / "back.mkv", 3) == synth.payloads(clip, 3)
    assert synth.packet_times(tmp_path / "back.mkv", 3) == synth.packet_times(clip, 3)
    assert "written as mov_text" in there.notes[0]
    assert "written as subrip" in back.notes[0]


def test_a_gps_track_passes_from_mp4_to_mp4(tmp_path):
    clip = rich(tmp_path / "in.mp4", data=True)

    _, report = synth.process(clip, tmp_path / "out.mp4")

    assert synth.payloads(tmp_path / "out.mp4", 3) == synth.payloads(clip, 3)
    assert synth.payloads(clip, 3) == [b"GPS%d" % index for index in range(10)]
    assert synth.packet_times(tmp_path / "out.mp4", 3) == synth.packet_times(clip, 3)
    assert report.losses == []


def test_a_gps_track_is_kept_next_to_matroska(tmp_path):
    clip = rich(tmp_path / "in.mp4", data=True)

    _, report = synth.process(clip, tmp_path / "out.mkv")

    kept = tmp_path / "out.mkv.3.bin_data.bin"
    header, *lines = map(json.loads, (tmp_path / f"{kept.name}.jsonl").read_text().splitlines())
    assert kept.read_bytes() == b"".join(b"GPS%d" % index for index in range(10))
    assert header["codec"] == "bin_data" and header["time_base"] == "1/1000"
    assert [(line["pts"], line["size"]) for line in lines] == [
        (index * 40, 4) for index in range(10)
    ]
    assert len(report.losses) == 1 and kept.name in report.losses[0]


def test_fonts_and_styled_subtitles_are_kept_next_to_mp4(tmp_path):
    clip = rich(tmp_path / "in.mkv", subtitle="ass", attachment=True)

    _, report = synth.process(clip, tmp_path / "out.mp4")

    assert (tmp_path / "out.mp4.4.attachment.bin").read_bytes() == b"glyphs" * 5
    assert b"Text7" in (tmp_path / "out.mp4.3.ass.bin").read_bytes()
    assert len(report.losses) == 2
    assert not list(tmp_path.glob(".*"))


def test_a_track_without_packets_is_not_reported_as_kept_next_to_the_output(tmp_path):
    clip = synth.Video()
    with av.open(str(tmp_path / "in.mkv"), "w") as output:
        stream = synth._video_stream(output, clip)
        output.add_mux_stream("ass").time_base = Fraction(1, 1000)
        for index, pts in enumerate(clip.pts):
            output.mux(stream.encode(synth.painted(clip, index, pts)))
        output.mux(stream.encode(None))

    _, report = synth.process(tmp_path / "in.mkv", tmp_path / "out.mp4")

    assert [track[0] for track in synth.streams(tmp_path / "in.mkv")] == ["video", "subtitle"]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["in.mkv", "out.mp4"]
    assert report.losses == []


def test_nothing_is_left_next_to_an_output_that_was_given_up(tmp_path):
    clip = rich(tmp_path / "in.mkv", attachment=True)

    def fail(item):
        raise RuntimeError

    with pytest.raises(RuntimeError):
        synth.process(clip, tmp_path / "out.mp4", change=fail)
    assert [path.name for path in tmp_path.iterdir()] == ["in.mkv"]


def test_a_second_video_is_copied_and_named(tmp_path):
    clip = two_videos(tmp_path / "in.mp4")

    _, report = synth.process(clip, tmp_path / "out.mp4")

    assert synth.payloads(tmp_path / "out.mp4", 1) == synth.payloads(clip, 1)
    assert synth.payloads(tmp_path / "out.mp4", 0) != synth.payloads(clip, 0)
    assert any("second video is copied" in note for note in report.notes)


@pytest.mark.parametrize("target", ["mkv", "mp4"])
@pytest.mark.parametrize("frames", [5, 60])
def test_a_second_video_with_reordered_frames_keeps_its_times(tmp_path, target, frames):
    pts = tuple(range(2070, 2070 + frames * synth.STEP, synth.STEP))
    options = {"bf": "3", "b-pyramid": "normal", "g": "25", "b-adapt": "0"}
    clip = two_videos(tmp_path / "in.mkv", synth.Video(pts=pts, options=options))
    with av.open(clip) as container:
        assert any(packet.dts is None for packet in container.demux(video=1) if packet.size)

    _, report = synth.process(clip, tmp_path / f"out.{target}")

    before = synth.packet_times(clip, 1)
    assert before != sorted(before)
    assert synth.packet_times(tmp_path / f"out.{target}", 1) == before
    assert synth.payloads(tmp_path / f"out.{target}", 1) == synth.payloads(clip, 1)
    assert report.losses == [] and len(report.notes) == 1


def two_videos(path, video=None):
    video = video or synth.Video()
    with av.open(str(path), "w") as output:
        streams = [synth._video_stream(output, video) for _ in range(2)]
        for index, pts in enumerate(video.pts):
            for stream in streams:
                output.mux(stream.encode(synth.painted(video, index, pts)))
        for stream in streams:
            output.mux(stream.encode(None))
    return str(path)


def test_a_cover_is_no_video_and_passes(tmp_path):
    clip = with_cover(tmp_path / "in.mp4")

    _, report = synth.process(clip, tmp_path / "out.mp4")

    assert synth.payloads(tmp_path / "out.mp4", 1) == synth.payloads(clip, 1)
    assert synth.streams(tmp_path / "out.mp4") == synth.streams(clip)
    assert len(synth.payloads(clip, 1)) == 1
    assert report.frames == 10 and report.notes == report.losses == []


def with_cover(path):
    """A clip with a cover image, which MP4 keeps apart from its tracks."""
    video = synth.Video()
    cover = av.CodecContext.create("mjpeg", "w")
    cover.width, cover.height, cover.pix_fmt, cover.time_base = 16, 16, "yuvj420p", synth.UNIT
    (image,) = cover.encode(av.VideoFrame(16, 16, "yuvj420p"))
    with av.open(str(path), "w") as output:
        still = output.add_mux_stream("mjpeg", width=16, height=16, time_base=synth.UNIT)
        still.disposition = av.stream.Disposition.attached_pic
        stream = synth._video_stream(output, video)
        image.stream, image.pts, image.dts = still, 0, 0
        output.mux(image)
        for index, pts in enumerate(video.pts):
            output.mux(stream.encode(synth.painted(video, index, pts)))
        output.mux(stream.encode(None))
    return str(path)


def test_times_of_a_track_that_go_backwards_are_repaired(tmp_path):
    clip = synth.write(tmp_path / "in.mkv", languages=("eng",))

    def back(item):
        if not hasattr(item, "planes") and (item.payload.pts or 0) > 200:
            item.payload.pts = item.payload.dts = 7
        return item

    _, report = synth.process(clip, tmp_path / "out.mp4", change=back)

    assert synth.payloads(tmp_path / "out.mp4", 1) == synth.payloads(clip, 1)
    assert any("went backwards" in note for note in report.notes)


def test_the_image_is_encoded_and_not_copied(tmp_path):
    clip = rich(tmp_path / "in.mp4")

    synth.process(clip, tmp_path / "out.mp4", crf=1)

    before, after = synth.decoded_frames(clip), synth.decoded_frames(tmp_path / "out.mp4")
    assert len(before) == len(after) == 10
    for old, new in zip(before, after, strict=True):
        error = synth.samples(old).astype(int) - synth.samples(new)
        assert np.abs(error).mean() < 1


@pytest.mark.parametrize(("extension", "kept"), [("mkv", True), ("mov", True), ("ts", False)])
def test_a_timecode_that_the_output_does_not_hold_is_a_loss(tmp_path, extension, kept):
    source = synth.write(tmp_path / "in.mp4", metadata={"timecode": "01:02:03:04"})
    _, report = synth.process(source, tmp_path / f"out.{extension}")
    losses = [] if kept else ["timecode 01:02:03:04: lost, mpegts has none"]
    assert report.losses == losses
