from fractions import Fraction

import av
import pytest

from tests.media import synth

NTSC = Fraction(30_000, 1001)
UNIT = Fraction(1, 30_000)


def rate_inside(path):
    """Frames per second as the video stream itself tells, without its container."""
    with av.open(str(path)) as container:
        stream = container.streams.video[0]
        decoder = av.CodecContext.create(stream.codec_context.name, "r")
        decoder.extradata = stream.codec_context.extradata
        for packet in container.demux(stream):
            if decoder.decode(av.Packet(bytes(packet))):
                break
        return decoder.framerate


@pytest.mark.parametrize("extension", ["mp4", "mkv", "ts"])
@pytest.mark.parametrize("codec", ["h264", "hevc"])
def test_the_stream_itself_has_the_frame_rate(tmp_path, extension, codec):
    pts = tuple(range(0, 12_012, 1001))
    source = synth.write(tmp_path / "in.mp4", pts=pts, time_base=UNIT, rate=NTSC)
    output = tmp_path / f"out.{extension}"
    synth.process(source, output, codec=codec)
    assert rate_inside(output) == NTSC
    assert len(synth.decoded_frames(output)) == 12
