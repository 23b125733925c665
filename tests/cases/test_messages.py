"""User data, captions and timecode inside the video stream come out with their frames."""

import io
from fractions import Fraction

import av
import pytest
from av.sidedata.sidedata import SideDataContainer
from PIL import Image

from tests.media.synth import Video, painted, write
from vderain.media.bitstream.nal import NalFormat
from vderain.media.bitstream.sei import sei_messages
from vderain.media.carry.messages import Message, with_messages

NAME = bytes(range(16))  # of a kind of user data


def inside(path, kind="SEI_UNREGISTERED"):
    """The messages of each frame in the order of their times, without those of encoders."""
    with av.open(str(path)) as container:
        images = sorted(container.decode(video=0), key=lambda image: image.pts)
        return [
            [
                bytes(data)
                for data in SideDataContainer(image)
                if data.type.name == kind and b"x26" not in bytes(data)
            ]
            for image in images
        ]


def with_user_data(path, codec="libx264", messages=None):
    """A clip of 25 frames with B-frames and a message for each."""
    video = Video(codec, pts=tuple(range(0, 25 * 3600, 3600)), options={"bf": "2"})
    short = {"libx264": "h264", "libx265": "hevc"}[codec]
    with av.open(str(path), "w") as output:
        stream = output.add_stream(codec, rate=25)
        stream.width, stream.height, stream.pix_fmt = *video.size, video.pix_fmt
        context = stream.codec_context
        context.time_base = video.time_base
        context.options = {"bf": "2", "x265-params": "log-level=none"}
        images = [painted(video, index, pts) for index, pts in enumerate(video.pts)]
        for packet in [p for image in [*images, None] for p in stream.encode(image)]:
            index = packet.pts // 3600
            wanted = messages or [Message(5, NAME + b"speed=%d\0\0\0\1" % index)]
            made = av.Packet(with_messages(bytes(packet), short, wanted))
            made.pts, made.dts, made.time_base = packet.pts, packet.dts, packet.time_base
            made.is_keyframe, made.stream = packet.is_keyframe, stream
            output.mux(made)
    return path


@pytest.mark.parametrize("codec", ["h264", "hevc"])
@pytest.mark.parametrize("target", ["out.mp4", "out.mkv", "out.ts"])
def test_user_data_comes_out_with_each_frame(user, codec, target):
    source = with_user_data(user.folder / "in.mp4", "libx264" if codec == "h264" else "libx265")
    done, output = user.run("in.mp4", target, "--codec", codec)
    assert (done.code, done.losses) == (0, [])
    wanted = inside(source)
    assert inside(output) == wanted and wanted[7] == [NAME + b"speed=7\0\0\0\1"]


def test_a_batch_keeps_user_data_in_its_segments(user):
    source = with_user_data(user.folder / "in.mp4")
    done, folder = user.batch("in.mp4", "--segment", "1")
    assert done.code == 0, done.said
    assert inside(folder / "in.mp4") == inside(source)


def test_what_an_encoder_said_of_its_settings_is_not_kept(user):
    write(user.folder / "in.mp4")
    _, output = user.run("in.mp4", "out.mp4", "--crf", "30")
    with av.open(str(output)) as container:
        first = next(container.decode(video=0))
        said = [bytes(data) for data in SideDataContainer(first) if b"x264" in bytes(data)]
    assert len(said) == 1 and b"crf=30.0" in said[0]


def test_user_data_of_a_camera_stays(user):
    done, output = user.run("user_data_sei.mp4", "out.mp4")
    assert inside(output) == inside(user.file("user_data_sei.mp4"))
    assert any(b"speed=12.5" in data for frame in inside(output) for data in frame)
    assert (done.code, done.losses) == (0, [])


def test_user_data_that_a_codec_cannot_hold_is_a_loss(user):
    with_user_data(user.folder / "in.mp4")
    done, _ = user.run("in.mp4", "out.mkv", "--codec", "ffv1")
    assert done.code == 3 and "25 frames" in done.losses[0] and "h264 and hevc" in done.losses[0]


def test_closed_captions_come_out_with_each_frame(user):
    captions = b"\xfc\x94\x20\xfd\x80\x80"
    message = Message(4, b"\xb5\x00\x31GA94\x03\x42\xff" + captions + b"\xff")
    source = with_user_data(user.folder / "in.mp4", messages=[message])
    assert inside(source, "A53_CC") == [[captions]] * 25
    done, output = user.run("in.mp4", "out.mp4")
    assert inside(output, "A53_CC") == [[captions]] * 25
    assert (done.code, done.losses) == (0, [])


def sei_of(path, kind):
    """The payloads of one kind of message, in the order of decoding."""
    with av.open(str(path)) as container:
        stream = container.streams.video[0]
        form = NalFormat.of(stream.codec.name, stream.codec_context.extradata)
        return [
            payload
            for packet in container.demux(stream)
            for unit in form.split(bytes(packet))
            for found, payload in sei_messages(form, unit)
            if found == kind
        ]


@pytest.mark.parametrize("codec", ["h264", "hevc"])
@pytest.mark.parametrize("source", ["in.mp4", "in.ts"])
def test_user_data_of_makers_that_ffmpeg_does_not_know_comes_out_with_each_frame(
    user, codec, source
):
    library = "libx264" if codec == "h264" else "libx265"
    with_user_data(user.folder / source, library, [Message(4, b"\x26\x12\x34 speed \0\0\1")])
    done, output = user.run(source, "out.mp4", "--codec", codec)
    assert (done.code, done.losses) == (0, [])
    assert sei_of(output, 4) == [b"\x26\x12\x34 speed \0\0\1"] * 25


@pytest.mark.parametrize(
    ("codec", "kind", "name"),
    [
        ("libx264", 23, "tone mapping (SEI 23)"),
        ("libx265", 149, "content colour volume (SEI 149)"),
        ("libx265", 150, "360-degree view (equirectangular) (SEI 150)"),
        ("libx264", 211, "SEI message of kind 211"),
    ],
)
def test_messages_that_are_not_written_again_are_named_before_the_run_and_after_it(
    user, codec, kind, name
):
    with_user_data(user.folder / "in.mp4", codec, [Message(kind, bytes(40))])
    losses = user.info("in.mp4")["losses"]
    done, _ = user.run("in.mp4", "out.mp4")
    assert done.code == 3 and done.losses == losses
    assert losses == [f"inside the video stream: {name} is not kept"]


def test_messages_of_the_coding_are_no_loss(user):
    messages = [Message(1, bytes(2)), Message(6, b"\xc4")]
    with_user_data(user.folder / "in.mp4", messages=messages)
    done, _ = user.run("in.mp4", "out.mp4")
    assert (done.code, done.losses) == (0, [])


def test_a_second_view_of_h264_is_a_loss(user):
    path = user.folder / "in.h264"
    write(path, format="h264")
    content = path.read_bytes()
    at = content.index(b"\0\0\1\x65") - 1
    path.write_bytes(content[:at] + b"\0\0\0\1\x74\x40\0\x80\x80" + content[at:])
    done, _ = user.run("in.h264", "out.mp4")
    assert any("another layer (view, depth, alpha or quality)" in loss for loss in done.losses)


def test_user_data_of_mpeg2_is_a_loss(user):
    path = user.folder / "in.mpg"
    mpeg2(path, format="mpeg2video")
    plain, _ = user.run(path.name, "out.mp4")
    assert (plain.code, plain.losses) == (0, [])
    content = path.read_bytes()
    at = content.index(b"\0\0\1\x01")  # the first slice
    path.write_bytes(content[:at] + b"\0\0\1\xb2GPS0 48.1" + content[at:])
    done, _ = user.run(path.name, "out.mp4")
    assert any("user data of MPEG-2" in loss for loss in done.losses)


def test_side_data_that_pyav_has_no_name_for_is_a_loss_and_hides_nothing_before_it(user):
    exif = Image.Exif()
    exif[0x010F] = "Cam"
    jpeg = io.BytesIO()
    Image.new("RGB", (64, 48)).save(jpeg, "JPEG", exif=exif)
    with av.open(str(user.folder / "in.avi"), "w") as output:
        stream = output.add_stream("mjpeg", rate=25)
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuvj420p"
        for index in range(10):
            packet = av.Packet(jpeg.getvalue())
            packet.pts = packet.dts = index
            packet.time_base, packet.stream, packet.is_keyframe = Fraction(1, 25), stream, True
            output.mux(packet)
    done, _ = user.run("in.avi", "out.mp4")
    assert done.code == 3 and done.losses[0].startswith("EXIF of each frame")


def with_timecode(path):
    """MPEG-2 video whose GOPs count from 10:20:30:04."""
    return mpeg2(path, options={"gop_timecode": "10:20:30:04"})


def mpeg2(path, **changes):
    times = {"pts": tuple(range(10)), "time_base": Fraction(1, 25)}
    return write(path, codec="mpeg2video", **times, **changes)


@pytest.mark.parametrize("target", ["out.mp4", "out.mkv"])
def test_a_timecode_inside_the_video_becomes_that_of_the_container(user, target):
    with_timecode(user.folder / "in.ts")
    done, output = user.run("in.ts", target)
    with av.open(str(output)) as container:
        stream = container.streams.video[0]
        assert stream.metadata.get("timecode", stream.metadata.get("TIMECODE")) == "10:20:30:04"
    assert (done.code, done.losses) == (0, [])
    assert any("10:20:30:04" in note for note in done.lines("note"))


def test_a_timecode_inside_the_video_that_a_container_cannot_hold_is_a_loss(user):
    with_timecode(user.folder / "in.ts")
    done, _ = user.run("in.ts", "out.ts")
    assert done.code == 3 and "10:20:30:04" in done.losses[0]


def test_a_stream_that_only_counts_from_zero_has_no_timecode(user):
    mpeg2(user.folder / "in.ts")
    done, _ = user.run("in.ts", "out.ts")
    assert (done.code, done.losses) == (0, [])
