import socket
import threading
from pathlib import Path

import pytest

from tests.media import synth
from vderain.errors import SourceError
from vderain.media.io.urls import input_options, is_url, redact

SECRET = "s3cret"


@pytest.mark.parametrize(
    "url",
    [
        "rtsp://user:s3cret@camera/stream",
        "rtsp://user:s3cret@camera:554/stream?x=1",
        "rtsp://user:p@s3cret@camera/stream",
        "rtsp://user:p/s3cret?#@camera/stream",
        "RTSP://s3cret@camera/",
        "https://host/video.mp4?token=s3cret&t=1",
        "https://host/video.mp4?t=1&X-Amz-Signature=s3cret",
        "https://host/video.mp4?api_key=s3cret",
        "https://host/video.mp4?usr=me&pwd=s3cret&t=1",
        "https://host/video.cgi?loginuse=s3cret&loginpas=s3cret",
        "rtsp://camera/user=admin_password=s3cret_channel=1_stream=0.sdp",
        "rtsp://camera/user=s3cret&password=s3cret&channel=1.sdp?real_stream",
        "rtsp://camera/user=admin_password=a_s3cret_b_channel=1.sdp",
        "rtsp://camera/live/token=s3cret/1",
    ],
)
def test_secrets_are_taken_out(url):
    for text in (url, f"[Errno 5] Input/output error: '{url}'", f"a {url} b {url}"):
        assert SECRET not in redact(text)
    assert "host" in redact(url) or "camera" in redact(url).lower() or "***" in redact(url)


@pytest.mark.parametrize(
    "text",
    [
        "rtsp://camera/stream",
        "rtsp://camera/ch=1_stream=0.sdp",
        "user=me_key=1.mp4",
        "a/b@c.mp4",
        "no url",
        "mail me@home.org",
    ],
)
def test_other_texts_stay(text):
    assert redact(text) == text


def test_what_is_no_secret_in_the_path_stays():
    url = "rtsp://camera/user=admin_password=a_b_channel=1_stream=0.sdp?x=1"
    assert redact(url) == "rtsp://camera/user=***_password=***_channel=1_stream=0.sdp?x=1"


def test_urls_are_distinguished_from_files():
    assert is_url("rtsp://camera") and is_url("https://host/a.mp4")
    assert not any(map(is_url, ("a.mp4", "/tmp/a:b.mp4", "C:\\a.mp4", "-")))


def test_cameras_are_asked_over_tcp_with_a_timeout():
    assert input_options("rtsp://camera") == {"rtsp_transport": "tcp", "timeout": "10000000"}
    assert "rw_timeout" in input_options("http://host/a.mp4")


def test_a_refused_connection_names_the_host_and_no_password():
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    with pytest.raises(SourceError) as caught:
        synth.info(f"rtsp://user:{SECRET}@127.0.0.1:{port}/stream")
    assert SECRET not in str(caught.value)
    assert f"127.0.0.1:{port}" in str(caught.value)
    assert caught.value.__cause__ is None


def test_a_silent_server_does_not_hang_for_ever(monkeypatch):
    monkeypatch.setattr("vderain.media.io.urls._TIMEOUT_US", "300000")
    with socket.create_server(("127.0.0.1", 0)) as server:
        url = f"http://user:{SECRET}@127.0.0.1:{server.getsockname()[1]}/a.mp4"
        with pytest.raises(SourceError) as caught:
            synth.info(url)
    assert SECRET not in str(caught.value)


def test_a_file_from_a_server_is_read_like_any_other(tmp_path):
    clip = synth.write(tmp_path / "in.mkv")
    content = Path(clip).read_bytes()
    with socket.create_server(("127.0.0.1", 0)) as server:
        thread = threading.Thread(target=serve, args=(server, content), daemon=True)
        thread.start()
        url = f"http://user:{SECRET}@127.0.0.1:{server.getsockname()[1]}/a.mkv"
        info = synth.info(url)
    assert (info.width, info.height) == (64, 48)
    assert SECRET not in info.path


def serve(server, content):
    while True:
        try:
            connection, _ = server.accept()
        except OSError:
            return
        with connection:
            connection.recv(65_536)
            head = f"HTTP/1.0 200 OK\r\nContent-Length: {len(content)}\r\n\r\n".encode()
            connection.sendall(head + content)


def test_a_colon_in_a_file_name_is_no_protocol(tmp_path):
    clip = synth.write(tmp_path / "12:30.mp4", format="mp4")
    synth.process(clip, tmp_path / "out 12:30 %d.mp4")
    assert len(synth.decoded_frames(f"file:{tmp_path}/out 12:30 %d.mp4")) == 10
