"""A cover image is one in the output, too, or lies next to it."""

from fractions import Fraction

import av
import pytest
from av.stream import Disposition

from tests.media.synth import Video, _video_stream, painted


def image():
    """A JPEG file."""
    context = av.CodecContext.create("mjpeg", "w")
    context.width, context.height, context.pix_fmt = 64, 64, "yuvj420p"
    context.time_base = Fraction(1, 25)
    frame = av.VideoFrame(64, 64, "yuvj420p")
    for plane in frame.planes:
        plane.update(bytes([100]) * plane.buffer_size)
    frame.pts = 0
    return b"".join(map(bytes, [*context.encode(frame), *context.encode(None)]))


def clip(path, cover):
    """A video with an attached cover."""
    video = Video(pts=tuple(range(12)), time_base=Fraction(1, 25))
    with av.open(str(path), "w") as output:
        stream = _video_stream(output, video)
        output.add_attachment("cover.jpg", "image/jpeg", cover)
        output.start_encoding()
        for index, pts in enumerate(video.pts):
            output.mux(stream.encode(painted(video, index, pts)))
        output.mux(stream.encode(None))


def covers(path):
    """The images that are covers, and how many other videos there are."""
    with av.open(str(path)) as container:
        streams = [s for s in container.streams.video if s.disposition & Disposition.attached_pic]
        found = [bytes(p) for p in container.demux(streams) if p.size] if streams else []
        return found, len(container.streams.video) - len(streams)


@pytest.mark.parametrize("through", [["out.mkv"], ["out.mp4"], ["out.mp4", "again.mkv"]])
def test_a_cover_is_one_in_every_container_that_has_them(user, through):
    cover = image()
    clip(user.folder / "in.mkv", cover)
    source = "in.mkv"
    for name in through:
        done, output = user.run(source, name)
        assert (done.code, done.losses) == (0, [])
        assert covers(output) == ([cover], 1)
        source = name


def test_a_cover_lies_next_to_a_transport_stream(user):
    cover = image()
    clip(user.folder / "in.mkv", cover)
    done, output = user.run("in.mkv", "out.ts")
    assert done.code == 3
    kept = user.folder / "out.ts.1.mjpeg.bin"
    assert len(done.losses) == 1 and kept.name in done.losses[0]
    assert kept.read_bytes() == cover
    assert covers(output) == ([], 1)


@pytest.mark.parametrize("is_first", [True, False])
def test_a_track_of_one_image_is_not_taken_for_the_video(user, is_first):
    source = user.folder / "in.mp4"
    with av.open(str(source), "w") as output:
        codecs = ["mjpeg", "libx264"] if is_first else ["libx264", "mjpeg"]
        streams = {codec: output.add_stream(codec, rate=25) for codec in codecs}
        for codec, stream in streams.items():
            stream.width, stream.height = (64, 48) if codec == "libx264" else (32, 24)
            stream.pix_fmt = "yuv420p" if codec == "libx264" else "yuvj420p"
            stream.codec_context.color_range = 1 if codec == "libx264" else 2
        for codec, stream in streams.items():
            for index in range(10 if codec == "libx264" else 1):
                frame = av.VideoFrame(stream.width, stream.height, stream.pix_fmt)
                for plane in frame.planes:
                    plane.update(bytes([90 + index]) * plane.buffer_size)
                frame.pts = index
                output.mux(stream.encode(frame))
            output.mux(stream.encode(None))
    assert user.info("in.mp4")["info"]["frames"] == 10
    done, _ = user.run("in.mp4", "out.mp4")
    assert done.code == 0
    assert any("mjpeg" in note and "a second video" in note for note in done.lines("note"))
