"""What an output lacks and nothing has named is a loss, by name."""

from fractions import Fraction

import av
import numpy as np
import pytest
from av.stream import Disposition

from tests.cases.clips import Part
from tests.cases.clips import write as write_part
from tests.media.synth import Video, _video_stream, painted, write
from vderain.media.carry.languages import same_language
from vderain.media.mp4.boxes import places
from vderain.media.output import Output


@pytest.mark.parametrize(("target", "lost"), [("out.ts", True), ("out.mkv", False)])
def test_tags_and_chapters_that_a_container_drops_are_losses(user, target, lost):
    write(user.folder / "in.mp4", metadata={"title": "A walk"}, chapters=True)
    done, _ = user.run("in.mp4", target)
    said = " ".join(done.losses)
    assert (done.code, "title" in said, "chapters: 2 of 2" in said) == (
        (3 if lost else 0),
        lost,
        lost,
    )


def test_a_track_that_does_not_come_out_is_seen(user, monkeypatch):
    write(user.folder / "in.mp4", languages=("eng",))
    monkeypatch.setattr("vderain.media.muxing.CopiedTrack.write", lambda *_: None)
    done, _ = user.run("in.mp4", "out.mp4")
    assert done.code == 3 and any("#1 audio aac" in loss for loss in done.losses)


def test_frames_that_do_not_come_out_are_seen(user, monkeypatch):
    mux, seen = Output.mux, []

    def some(self, packets):
        seen.extend(packets)
        mux(self, [p for p in packets if seen.index(p) != 7])

    monkeypatch.setattr(Output, "mux", some)
    write(user.folder / "in.mp4")
    done, _ = user.run("in.mp4", "out.mp4")
    assert done.code == 3 and any("9 video frames instead of 10" in loss for loss in done.losses)


def test_a_timecode_that_does_not_come_out_is_seen_by_a_batch_too(user):
    path = user.folder / "in.mp4"
    write(path, metadata={"timecode": "01:02:03:04"})
    with av.open(str(path)) as container:
        assert container.streams.video[0].metadata["timecode"] == "01:02:03:04"
    done, folder = user.batch("in.mp4")
    assert "done" in done.said, done.said
    with av.open(str(folder / "in.mp4")) as container:
        kept = "timecode" in container.streams.video[0].metadata
    assert kept or "timecode 01:02:03:04" in done.said


def test_a_cropping_in_matroska_that_is_lost_is_named(user):
    path = user.folder / "in.mkv"
    write(path)
    content = path.read_bytes()
    at = content.index(b"\xb0\x81\x40\xba\x81\x30")  # width and height of the video, in its element
    assert content[at + 6 : at + 9] == b"\x54\xb2\x81"  # the unit of the size that is shown
    cropped = content[: at + 6] + b"\x54\xcc\x81\x08" + content[at + 10 :]
    path.write_bytes(cropped)
    done, _ = user.run("in.mkv", "out.mkv")
    assert done.code == 3 and any("crop" in loss for loss in done.losses)


def with_sound(path, **tags):
    with av.open(str(path), "w") as output:
        video = output.add_stream("libx264", rate=25)
        video.width, video.height, video.pix_fmt = 64, 48, "yuv420p"
        sound = output.add_stream("aac", rate=48_000)
        sound.metadata.update(tags)
        for index in range(10):
            image = av.VideoFrame(64, 48, "yuv420p")
            image.pts, image.time_base = index, Fraction(1, 25)
            output.mux(video.encode(image))
            silence = np.zeros((2, 1024), np.float32)
            quiet = av.AudioFrame.from_ndarray(silence, format="fltp", layout="stereo")
            quiet.sample_rate, quiet.pts = 48_000, index * 1024
            output.mux(sound.encode(quiet))
        output.mux([*video.encode(None), *sound.encode(None)])


@pytest.mark.parametrize(
    ("target", "lost"), [("out.mp4", False), ("out.mkv", False), ("out.ts", True)]
)
def test_a_title_of_a_track_that_a_container_drops_is_a_loss(user, target, lost):
    with_sound(user.folder / "in.mkv", title="Left microphone")
    done, _ = user.run("in.mkv", target)
    assert done.losses == (["title of a track: Left microphone: not in the output"] if lost else [])


@pytest.mark.parametrize("language", ["swe", "hrv", "nld", "zho", "fra"])
def test_a_language_that_quicktime_numbers_is_kept_in_it(user, language):
    with_sound(user.folder / "in.mkv", language=language)
    done, output = user.run("in.mkv", "out.mov")
    assert (done.code, done.losses) == (0, [])
    with av.open(str(output)) as container:
        assert same_language(container.streams.audio[0].metadata["language"]) == language


@pytest.mark.parametrize("target", ["out.mp4", "out.mkv", "out.ts", "out.mov"])
@pytest.mark.parametrize("language", ["de", "deu", "ger"])
def test_a_language_is_kept_however_its_code_is_spelled(user, target, language):
    with_sound(user.folder / "in.nut", language=language)
    done, output = user.run("in.nut", target)
    assert (done.code, done.losses) == (0, [])
    with av.open(str(output)) as container:
        assert same_language(container.streams.audio[0].metadata["language"]) == "deu"


@pytest.mark.parametrize("command", ["run", "batch"])
def test_frames_of_a_recording_that_still_grows_are_a_loss(user, command):
    """Its last fragment is cut off in the middle of a frame that others of its group wait for."""
    source = user.folder / "in.mp4"
    write_part(source, Part(38), movflags="frag_keyframe+empty_moov+default_base_moof")
    content = source.read_bytes()
    with av.open(str(source)) as container:
        packets = [packet for packet in container.demux(video=0) if packet.size]
    last = packets[-1]
    source.write_bytes(content[: last.pos + last.size // 2])
    done, output = user.run("in.mp4", "out.mp4") if command == "run" else user.batch("in.mp4")
    output = output / "in.mp4" if command == "batch" else output
    assert done.code == 3 and "damaged frames or packets were skipped" in done.said
    assert user.info("in.mp4")["boxes"] == ""
    assert not any(place.kind == b"" for place in places(output.open("rb")))


def with_two_sounds(path):
    """A file whose first sound is a comment, and whose second one is played."""
    plain = path.with_name("plain.mkv")
    write(plain, languages=("eng", "fra"))
    with av.open(str(plain)) as source, av.open(str(path), "w") as output:
        copies = [output.add_stream_from_template(stream) for stream in source.streams]
        copies[1].disposition = Disposition.comment
        copies[2].disposition = Disposition.default | Disposition.hearing_impaired
        output.start_encoding()
        for packet in source.demux():
            if packet.size:
                packet.stream = copies[packet.stream.index]
                output.mux(packet)


@pytest.mark.parametrize(
    ("target", "lost"),
    [
        ("out.mkv", set()),
        ("out.mp4", set()),
        ("out.mov", {"role comment of 1 audio track", "role hearing impaired of 1 audio track"}),
        ("out.ts", {"role comment of 1 audio track", "audio that players choose: track 2 of that kind"}),
    ],
)  # fmt: skip
def test_what_a_track_is_for_stays_or_is_a_loss(user, target, lost):
    with_two_sounds(user.folder / "in.mkv")
    done, _ = user.run("in.mkv", target)
    assert {loss.removesuffix(": not in the output") for loss in done.losses} == lost


def test_info_names_no_stereo_view_that_matroska_keeps(user):
    source = user.folder / "in.mkv"
    with av.open(str(source), "w") as output:
        video = Video()
        stream = _video_stream(output, video)
        stream.metadata["stereo_mode"] = "left_right"
        output.start_encoding()
        for index, pts in enumerate(video.pts):
            output.mux(stream.encode(painted(video, index, pts)))
        output.mux(stream.encode(None))
    done, dry = user.run("in.mkv", "out.mkv")
    assert (done.code, done.losses) == (0, [])
    with av.open(str(dry)) as container:
        assert container.streams.video[0].metadata["stereo_mode"] == "left_right"
    assert user.info("in.mkv")["losses"] == []
