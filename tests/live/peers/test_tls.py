"""Sources and outputs over TLS, whose certificates cameras sign themselves; and receivers that are silent."""

import http.server
import shutil
import ssl
import subprocess
import threading
import time

import pytest

from tests.live.fakes import until
from tests.live.peers.servers import SilentServer, free_port, has_ffmpeg, listen, need
from tests.live.peers.test_rtsp import flows, read
from tests.live.peers.test_sources import MjpegHandler
from tests.live.test_outlets import clip
from vderain.errors import OptionError, SinkError
from vderain.live.states import State
from vderain.media.live.reach import reach, unchecked_login


@pytest.fixture(scope="module")
def certificates(tmp_path_factory):
    """(certificate, key) of this machine's address, and of another name; each signed by itself."""
    need("openssl", shutil.which("openssl") is not None)
    folder = tmp_path_factory.mktemp("certificates")

    def make(name, subject):
        paths = folder / f"{name}.pem", folder / f"{name}.key"
        subprocess.run(
            ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "30",
             "-subj", f"/CN={name}", "-addext", f"subjectAltName={subject}",
             "-out", paths[0], "-keyout", paths[1]],
            check=True, capture_output=True,
        )  # fmt: skip
        return paths

    return make("camera", "IP:127.0.0.1"), make("other", "DNS:other.example")


@pytest.fixture
def https_camera(certificates):
    class Quiet(http.server.ThreadingHTTPServer):
        daemon_threads = True

        def handle_error(self, *_):
            pass  # clients that refuse the certificate

    server = Quiet(("127.0.0.1", 0), MjpegHandler)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(*certificates[0])
    server.socket = context.wrap_socket(server.socket, server_side=True)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"https://127.0.0.1:{server.server_address[1]}/video.mjpg"
    server.shutdown()
    server.server_close()


def refused(station):
    connection = station.sessions[0].connection
    return until(lambda: "ca_file does not vouch for" in connection.reason, 15)


def test_https_takes_any_certificate_or_only_those_named(https_camera, certificates, watch):
    (own, _), (other, _) = certificates
    assert flows(watch(https_camera), 10, 15)
    assert flows(watch(https_camera, ca_file=str(own)), 10, 15)
    assert refused(watch(https_camera, ca_file=str(other)))


def test_rtsps_takes_any_certificate_or_only_those_named(
    rtsp_server, front_door, certificates, watch
):
    (own, key), (other, other_key) = certificates
    port = rtsp_server().port
    url = f"rtsps://127.0.0.1:{front_door(port, '--tls', own, key)}/camera"
    wrong_name = f"rtsps://127.0.0.1:{front_door(port, '--tls', other, other_key)}/camera"
    assert flows(watch(url), 10, 15)
    assert flows(watch(url, ca_file=str(own)), 10, 15)
    assert refused(watch(url, ca_file=str(other)))
    assert refused(watch(wrong_name, ca_file=str(other)))


def test_rtsps_output(rtsp_server, front_door, certificates, watch, tmp_path):
    (own, key), (other, _) = certificates
    received = tmp_path / "received.mkv"
    server = rtsp_server(record=received)
    url = f"rtsps://127.0.0.1:{front_door(server.port, '--tls', own, key)}/record"
    wary = watch(server.url, url, ca_file=str(other))
    (worker,) = wary.sessions[0].broadcast.workers
    assert until(lambda: "certificate is not accepted" in worker.connection.reason, 15)
    wary.stop()
    station = watch(server.url, url, ca_file=str(own))
    (worker,) = station.sessions[0].broadcast.workers
    assert until(lambda: worker.packets > 60, 20), worker.connection.reason
    station.stop()
    server.kill()
    assert read(received, dated_by_arrival=True)[0] >= 25


def test_rtmps_output(front_door, certificates, watch, tmp_path):
    need("ffmpeg", has_ffmpeg())
    (own, key), (other, _) = certificates
    odd = tmp_path / "it's 10:00 = \\o" / "own.pem"
    odd.parent.mkdir()
    shutil.copy(own, odd)
    received, port = tmp_path / "received.mkv", free_port()
    url = f"rtmps://127.0.0.1:{front_door(port, '--tls', own, key)}/live/dry"
    source = clip(tmp_path, seconds=60)
    wary = watch(source, url, ca_file=str(other))
    (worker,) = wary.sessions[0].broadcast.workers
    assert until(lambda: worker.connection.failures, 15)
    wary.stop()
    listener = listen(f"rtmp://127.0.0.1:{port}/live/dry", received, 3, "-listen", "1")
    station = watch(source, url, ca_file=str(odd), backoff_max_s=1.0)
    (worker,) = station.sessions[0].broadcast.workers
    assert listener.wait(40) == 0, (listener.stderr.read(), worker.connection.reason)
    listener.stderr.close()
    assert read(received, dated_by_arrival=True)[0] >= 25


def test_a_file_without_certificates_is_refused_at_the_start(watch, tmp_path):
    (tmp_path / "ca.pem").write_text("nothing")
    for name, words in (("ca.pem", "holds no certificates"), ("none.pem", "cannot be read")):
        with pytest.raises(OptionError, match=words):
            watch("rtsps://127.0.0.1:9/x", ca_file=str(tmp_path / name))


@pytest.mark.slow
@pytest.mark.parametrize("scheme", ["rtsp", "rtmp", "rtsps", "rtmps"])
def test_an_output_that_accepts_and_says_nothing_stops_nothing_else(watch, tmp_path, scheme):
    server = SilentServer()
    longest = [0.0]
    done = threading.Event()

    def tick():
        last = time.monotonic()
        while not done.wait(0.02):
            now = time.monotonic()
            longest[0], last = max(longest[0], now - last), now

    ticker = threading.Thread(target=tick)
    ticker.start()
    try:
        station = watch(
            clip(tmp_path, seconds=60),
            f"{scheme}://127.0.0.1:{server.port}/live/dry",
            timeout_s=3.0,
        )
        (worker,) = station.sessions[0].broadcast.workers
        assert until(lambda: "does not respond in time" in worker.connection.reason, 15)
        assert flows(station, 20)
        assert not worker.connection.entered[State.RUNNING] and not worker.packets
    finally:
        done.set()
        ticker.join()
        server.close()
    assert longest[0] < 2.0, "every thread of the process stood still"


@pytest.mark.parametrize(
    ("url", "ca_file", "is_warned"),
    [
        ("rtsps://u:p@h/x", None, True),
        ("https://h/x?token=t", None, True),
        ("RTMPS://u:p@h/x", None, True),
        ("rtsps://u:p@h/x", "own.pem", False),
        ("rtsps://h/x", None, False),
        ("rtsp://u:p@h/x", None, False),
        ("recordings/", None, False),
    ],
)
def test_a_login_over_tls_without_certificates_to_trust_gets_a_warning(url, ca_file, is_warned):
    warning = unchecked_login(url, ca_file)
    assert (warning is not None) is is_warned
    assert warning is None or ("u:p" not in warning and "=t" not in warning)


def test_receivers_that_cannot_be_reached_are_reported():
    for url, words in (
        ("rtsp://no-such-host.invalid/x", "no-such-host"),
        ("udp://no-such-host.invalid:5000", "no-such-host"),
        ("rtsp://127.0.0.1:99999/x", "cannot be understood"),
        ("rtsp://127.0.0.1:9/x", "refused"),
    ):
        with pytest.raises(SinkError, match=words):
            reach(url, url, 2.0)
