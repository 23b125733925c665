import subprocess
import sys

# In a process of its own: what it guards against stops every thread of Python.
CLOSING = """
import sys
import av
from vderain.media.live.encode import UNIT, Packed
from vderain.media.live.muxed import _in_a_thread

encoder = av.open("nothing", "w", format="null")
video = encoder.add_stream("libx264", 25)
video.width, video.height, video.pix_fmt = 64, 48, "yuv420p"
made = [p for _ in range(12) for p in video.encode(av.VideoFrame(64, 48, "yuv420p"))]
coded = [bytes(p) + bytes(200_000) for p in [*made, *video.encode()]]
for _ in range(40):
    output = av.open(sys.argv[1], "w", format="fifo", container_options=_in_a_thread("flv", {}))
    stream = output.add_stream("libx264", 25)
    stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
    output.start_encoding()
    for index, data in enumerate(coded):
        packet = Packed(data, 3600 * index, 3600 * index, 3600, UNIT, index == 0).packet()
        packet.stream = stream
        output.mux_one(packet)
    del packet
    output.close()
"""


def test_closing_does_not_wait_for_a_muxer_that_waits_for_python(tmp_path):
    """FFmpeg's thread freed a packet of Python's memory while the close held Python's lock: for ever."""
    command = [sys.executable, "-c", CLOSING, str(tmp_path / "dry.flv")]
    subprocess.run(command, check=True, timeout=60)
