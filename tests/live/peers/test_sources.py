"""Live sources other than RTSP, each from a real server on the loopback."""

import errno
import http.server
import threading
import time
from fractions import Fraction

import av
import cv2
import numpy as np
import pytest

from tests.live.fakes import until
from tests.live.peers.servers import free_port
from tests.media.synth import Video, write
from vderain.errors import SourceError, UnusableError
from vderain.live.states import State
from vderain.media.frames import memory
from vderain.media.io.urls import escaped_login, shown
from vderain.media.live.camera import CameraSource
from vderain.media.live.connect import CameraOptions
from vderain.options import EncodeOptions


class _Quiet(http.server.BaseHTTPRequestHandler):
    def log_message(self, *_):
        pass


class MjpegHandler(_Quiet):
    """A web camera: JPEG after JPEG in a multipart answer, 20 a second."""

    def do_GET(self):
        self.send_response(200)
        self.send_header("Content-Type", "multipart/x-mixed-replace; boundary=frame")
        self.end_headers()
        for index in range(10_000):
            image = np.full((96, 128, 3), index % 200, np.uint8)
            jpeg = cv2.imencode(".jpg", image)[1].tobytes()
            head = f"--frame\r\nContent-Type: image/jpeg\r\nContent-Length: {len(jpeg)}\r\n\r\n"
            try:
                self.wfile.write(head.encode() + jpeg + b"\r\n")
            except OSError:
                return
            time.sleep(0.05)


@pytest.fixture
def serve():
    servers = []

    def start(handler):
        server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
        server.daemon_threads = True
        threading.Thread(target=server.serve_forever, daemon=True).start()
        servers.append(server)
        return server.server_address[1]

    yield start
    for server in servers:
        server.shutdown()
        server.server_close()


def emitted(station):
    return station.sessions[0].stats.snapshot().frames.get("emitted", 0)


def test_mjpeg_over_http_gets_the_times_of_its_arrival(serve, watch):
    port = serve(MjpegHandler)
    station = watch(f"http://127.0.0.1:{port}/video.mjpg")
    times = []
    take = station.sessions[0].scheduled.emit
    station.sessions[0].scheduled.emit = lambda item: (times.append(item.time_s), take(item))
    assert until(lambda: len(times) >= 30, 20), station.sessions[0].connection.reason
    assert float(times[-1] - times[0]) == pytest.approx((len(times) - 1) * 0.05, rel=0.6)


def test_hls_is_followed(serve, watch, tmp_path):
    write(tmp_path / "live.m3u8", Video(
        size=(128, 96), pts=tuple(range(0, 250 * 3600, 3600)), format="hls", options={"g": "25"},
        container={"hls_time": "1", "hls_list_size": "0"},
    ))  # fmt: skip

    class Files(http.server.SimpleHTTPRequestHandler):
        def __init__(self, *args):
            super().__init__(*args, directory=tmp_path)

        def log_message(self, *_):
            pass

    station = watch(f"http://127.0.0.1:{serve(Files)}/live.m3u8")
    assert until(lambda: emitted(station) >= 10, 20), station.sessions[0].connection.reason


@pytest.mark.slow
def test_mpegts_over_udp(watch):
    port = free_port()
    station = watch(f"udp://127.0.0.1:{port}")
    stop = threading.Event()

    def send():
        with av.open(f"udp://127.0.0.1:{port}?pkt_size=1316", "w", format="mpegts") as output:
            stream = output.add_stream("libx264", rate=25)
            stream.width, stream.height, stream.pix_fmt = 128, 96, "yuv420p"
            stream.codec_context.options = {"tune": "zerolatency", "g": "25"}
            for index in range(1000):
                if stop.wait(0.04):
                    return
                image = av.VideoFrame(128, 96, "yuv420p")
                image.pts, image.time_base = index, Fraction(1, 25)
                output.mux(stream.encode(image))

    sender = threading.Thread(target=send)
    sender.start()
    try:
        assert until(lambda: emitted(station) >= 10, 20), station.sessions[0].connection.reason
    finally:
        stop.set()
        sender.join()
    assert until(lambda: station.sessions[0].connection.state is State.BACKOFF, 15)


def test_a_file_plays_at_its_own_pace_and_ends(watch, tmp_path):
    path = write(tmp_path / "clip.mp4", Video(pts=tuple(range(0, 50 * 3600, 3600))))
    since = time.monotonic()
    station = watch(path)
    assert until(lambda: station.sessions[0].connection.state is State.ENDED, 20)
    assert time.monotonic() - since > 1.8
    assert station.sessions[0].stats.snapshot().frames["decoded"] == 50


def test_missing_sources_are_reported():
    for url, words in (
        ("/dev/video77", "there is no such device"),
        ("rtsp://nosuchhost.invalid/s", "the name of its host is not known"),
        (f"http://127.0.0.1:{free_port()}/x", "cannot be read"),
    ):
        with pytest.raises(SourceError, match=words):
            CameraSource(url, CameraOptions(timeout_s=1.0), EncodeOptions())


def test_a_file_that_is_no_video_is_not_tried_again(watch, tmp_path):
    (tmp_path / "clip.mp4").write_text("none")
    connection = watch(tmp_path / "clip.mp4").sessions[0].connection
    assert until(lambda: connection.state is State.FAILED), connection.reason


def test_a_device_that_is_no_camera_is_reported(tmp_path, monkeypatch):
    monkeypatch.setattr("vderain.media.live.connect.is_device", lambda path: True)
    (tmp_path / "video0").write_bytes(b"none")
    with pytest.raises(SourceError, match="video0: is no camera"):
        CameraSource(str(tmp_path / "video0"), CameraOptions(), EncodeOptions())


def test_images_too_large_for_the_memory_are_refused_for_good(tmp_path, monkeypatch):
    path = write(tmp_path / "large.mp4", Video(size=(1024, 768), pts=(0, 3600)))
    monkeypatch.setattr(memory, "available_bytes", lambda: 1 << 26)
    monkeypatch.setattr(memory, "_ALWAYS_TRIED_BYTES", 0)
    with pytest.raises(UnusableError, match=r"1024x768 needs about 1 GiB.*max_memory=1"):
        CameraSource(path, CameraOptions(), EncodeOptions())
    camera = CameraSource(path, CameraOptions(max_memory=1), EncodeOptions())
    assert len(list(camera)) == 2
    camera.close()


def test_a_camera_may_be_allowed_less_memory(watch, tmp_path):
    path = write(tmp_path / "clip.mp4", Video(size=(1024, 768)))
    station = watch(path, max_memory=0.01)
    connection = station.sessions[0].connection
    assert until(lambda: connection.state is State.FAILED, 20)
    assert "max_memory=1" in connection.reason


@pytest.mark.parametrize("which", ["os.open", "av.open"])
def test_a_camera_in_use_is_reported(which, tmp_path, monkeypatch):
    (tmp_path / "video0").write_bytes(b"none")

    def busy(*_, **__):
        raise OSError(errno.EBUSY, "Device or resource busy")

    monkeypatch.setattr("vderain.media.live.connect.is_device", lambda path: True)
    monkeypatch.setattr(f"vderain.media.live.connect.{which}", busy)
    with pytest.raises(SourceError, match="video0: is in use by another program"):
        CameraSource(str(tmp_path / "video0"), CameraOptions(), EncodeOptions())


def test_interlaced_video_is_refused_or_deinterlaced(tmp_path):
    path = write(
        tmp_path / "fields.mp4",
        Video(options={"x264-params": "tff=1"}, size=(64, 48)),
    )
    with pytest.raises(UnusableError, match="interlaced='deinterlace'"):
        list(CameraSource(path, CameraOptions(), EncodeOptions()))
    camera = CameraSource(path, CameraOptions(), EncodeOptions(interlaced="deinterlace"))
    with av.open(path) as container:
        assert (
            len(list(camera)) == container.streams.video[0].frames
        )  # also what the filter held back
    camera.close()


@pytest.mark.parametrize(
    ("url", "escaped"),
    [
        ("rtsp://u:p@ss:w/ord%@h:554/a", "rtsp://u:p%40ss%3Aw%2Ford%25@h:554/a"),
        ("rtsp://u:p%40ss@h/a", "rtsp://u:p%40ss@h/a"),
        ("rtsp://h:554/stream@1", "rtsp://h:554/stream@1"),
        ("rtsp://h/a?user=x@y", "rtsp://h/a?user=x@y"),
        ("rtsp://u:é?#&@[::1]:554/a", "rtsp://u:%C3%A9%3F%23%26@[::1]:554/a"),
        ("rtsp://u:p@h", "rtsp://u:p@h"),
        ("rtsp://a token@h/a", "rtsp://a%20token@h/a"),
        ("http://h/a", "http://h/a"),
    ],
)
def test_logins_are_escaped(url, escaped):
    assert escaped_login(url) == escaped


@pytest.mark.parametrize("login", ["u:pa ss", "u:a b@c/d e", "tok en", "u:p", "ü:é ?"])
def test_no_part_of_a_login_is_shown(login):
    assert shown(f"rtsp://{login}@host:554/path") == "rtsp://***@host:554/path"
