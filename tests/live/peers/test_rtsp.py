"""Against GStreamer's RTSP server in a process of its own."""

import contextlib
import itertools
import os
import subprocess
import time
from pathlib import Path

import av
import pytest

from tests.live.fakes import until
from tests.live.peers.servers import Proxy, SilentServer, free_port, has_ffmpeg, listen, need
from vderain.live.states import State

NASTY = "p@ss:w/ord%"


def frames(station):
    return station.sessions[0].stats.snapshot().frames.get("emitted", 0)


def flows(station, count=10, timeout_s=10.0):
    """Whether as many more frames come out."""
    before = frames(station)
    return until(lambda: frames(station) >= before + count, timeout_s)


def read(path, *, dated_by_arrival=False):
    """(frames, kinds of tracks) of a file whose times never go back, and rise unless the receiver
    dated frames by their arrival, in milliseconds; every packet decodes."""
    with av.open(str(path)) as container:
        kinds = sorted(stream.type for stream in container.streams)
        times = [frame.pts for frame in container.decode(video=0)]
    backwards = [
        (a, b) for a, b in itertools.pairwise(times) if b < a or (b == a and not dated_by_arrival)
    ]
    assert not backwards, (path, backwards, times)
    return len(times), kinds


@pytest.mark.parametrize(
    ("codec", "audio", "protocols", "transport"),
    [
        ("h264", "pcmu", "tcp", "auto"),
        ("h264", "none", "all", "udp"),
        ("h265", "aac", "udp", "auto"),
        ("h265", "none", "all", "tcp"),
    ],
)
def test_frames_flow_within_five_seconds(rtsp_server, watch, codec, audio, protocols, transport):
    server = rtsp_server(codec=codec, audio=audio, protocols=protocols)
    since = time.monotonic()
    station = watch(server.url, rtsp_transport=transport)
    assert until(lambda: frames(station) >= 5, 15)
    assert time.monotonic() - since < 10  # 5 s, on a machine that does nothing else
    assert station.sessions[0].info.codec == ("hevc" if codec == "h265" else "h264")
    assert flows(station, 25)


def own_udp_sockets():
    """How many this process holds."""
    rows = Path("/proc/net/udp").read_text().splitlines()[1:]
    inodes = {f"socket:[{row.split()[9]}]" for row in rows}
    links = []
    for link in Path("/proc/self/fd").iterdir():
        with contextlib.suppress(OSError):
            links.append(os.readlink(link))
    return sum(link in inodes for link in links)


@pytest.mark.skipif(not Path("/proc/net/udp").exists(), reason="reads Linux's /proc")
@pytest.mark.parametrize(("protocols", "is_udp"), [("all", False), ("udp", True)])
def test_auto_takes_tcp_and_else_udp_on_the_same_connection(rtsp_server, watch, protocols, is_udp):
    server = rtsp_server(protocols=protocols)
    before = own_udp_sockets()
    station = watch(server.url)
    assert flows(station)
    assert (own_udp_sockets() > before) == is_udp
    # GStreamer's server answers 503 to a connection that follows at once on one that it refused.
    assert station.sessions[0].connection.failures == 0


@pytest.mark.parametrize("audio", ["pcmu", "aac"])
def test_one_stream_goes_to_all_kinds_of_outputs(rtsp_server, watch, tmp_path, audio):
    need("ffmpeg", has_ffmpeg())
    received = tmp_path / "received.mkv"
    server = rtsp_server(audio=audio, record=received)
    port, rtp = free_port(), free_port()
    udp_file, rtp_file = tmp_path / "udp.ts", tmp_path / "rtp.ts"
    listeners = [
        listen(f"udp://127.0.0.1:{port}?timeout=20000000", udp_file, 4),
        listen(f"rtp://127.0.0.1:{rtp}", rtp_file, 4),
    ]
    station = watch(
        server.url,
        *(server.record_url, f"udp://127.0.0.1:{port}", f"rtp://127.0.0.1:{rtp}"),
        *(tmp_path / "hls" / "live.m3u8", tmp_path / "recordings"),
        segment_minutes=0.05,
    )
    assert until(lambda: frames(station) >= 220, 40)
    for listener in listeners:
        assert listener.wait(30) == 0, listener.stderr.read()
        listener.stderr.close()
    station.stop()
    server.kill()
    kinds = ["audio", "video"]
    for path, least in ((received, 60), (udp_file, 10), (rtp_file, 10)):
        count, tracks = read(path, dated_by_arrival=path is received)
        assert count >= least and tracks == kinds, path
    assert read(tmp_path / "hls" / "live.m3u8")[1] == kinds
    segments = sorted((tmp_path / "recordings").iterdir())
    assert len(segments) >= 2 and {p.suffix for p in segments} == {".mp4"}
    assert sum(read(p)[0] for p in segments) >= 150
    assert all(read(p)[1] == kinds for p in segments)
    notes = [n for w in station.sessions[0].broadcast.workers for n in w.notes]
    assert any("transcoded from pcm_mulaw to aac" in n for n in notes) == (audio == "pcmu")
    assert not any(server.record_url in n for n in notes), "RTSP carries G.711 as it is"


@pytest.mark.parametrize("transport", ["tcp", "udp"])
def test_a_server_that_dies_and_returns(rtsp_server, watch, transport):
    server = rtsp_server()
    station = watch(server.url, rtsp_transport=transport)
    session = station.sessions[0]
    assert flows(station)
    server.kill()
    assert until(lambda: session.connection.state is State.BACKOFF, 10)
    time.sleep(6)  # so that the delays have grown
    server.start()
    since = time.monotonic()
    assert flows(station, 5, 15)
    assert time.monotonic() - since < 12  # 10 s, on a machine that does nothing else
    assert session.connection.state is State.RUNNING
    assert session.connection.reconnects == 1 and session.connection.failures >= 2


def test_a_server_that_freezes(rtsp_server, watch):
    server = rtsp_server()
    station = watch(server.url)
    session = station.sessions[0]
    assert flows(station)
    server.freeze()
    since = time.monotonic()
    seen = set()

    def left():
        seen.add(session.connection.state)
        return State.BACKOFF in seen

    assert until(left, 15), seen
    time.sleep(max(0.0, since + 20 - time.monotonic()))
    server.thaw()
    assert flows(station, 10, 20)
    assert session.connection.reconnects >= 1


def test_a_connection_that_is_reset_in_the_middle(rtsp_server, watch):
    server = rtsp_server()
    proxy = Proxy(server.port)
    try:
        station = watch(f"rtsp://127.0.0.1:{proxy.port}/camera", rtsp_transport="tcp")
        assert flows(station, 20)
        proxy.reset()
        assert until(lambda: station.sessions[0].connection.reconnects == 1, 15)
        assert flows(station, 20)
    finally:
        proxy.close()


@pytest.mark.slow
def test_a_server_that_accepts_and_says_nothing(watch):
    server = SilentServer()
    try:
        since = time.monotonic()
        station = watch(f"rtsp://127.0.0.1:{server.port}/camera", timeout_s=1.0, tries=2)
        session = station.sessions[0]
        assert until(lambda: session.connection.state is State.FAILED, 15)
        assert time.monotonic() - since < 12
        assert "2 tries" in session.connection.reason
        assert len(server.connections) >= 2
    finally:
        server.close()


def test_a_wrong_password_fails_and_is_never_shown(rtsp_server, watch, caplog):
    server = rtsp_server(user="admin", password="right")
    url = f"rtsp://admin:{NASTY}geheim@127.0.0.1:{server.port}/camera"
    caplog.set_level("DEBUG")
    station = watch(url, login_tries=2)
    connection = station.sessions[0].connection
    assert until(lambda: connection.state is State.FAILED, 15)
    assert "refuses the user name or password" in connection.reason
    assert "2 tries" in connection.reason
    assert "geheim" not in caplog.text + connection.reason


@pytest.mark.parametrize("password", [NASTY, "schlüssel é?#&", "p%40ss"])
def test_passwords_of_all_kinds_open_the_door(rtsp_server, watch, password, caplog):
    server = rtsp_server(user="admin", password="p@ss" if password == "p%40ss" else password)
    station = watch(f"rtsp://admin:{password}@127.0.0.1:{server.port}/camera")
    assert flows(station, 5), station.sessions[0].connection.reason
    assert password not in caplog.text


def test_damaged_packets_are_survived_and_counted(rtsp_server, watch):
    server = rtsp_server(pattern="snow", size="320x180")
    proxy = Proxy(server.port, damage=0.1)
    try:
        station = watch(f"rtsp://127.0.0.1:{proxy.port}/camera", rtsp_transport="tcp")
        assert flows(station, 150, 30)
        assert proxy.damaged >= 3
        assert station.sessions[0].connection.failures == 0
        assert station.sessions[0].stats.snapshot().decode_errors >= 1
    finally:
        proxy.close()


def test_a_camera_that_changes_its_size(rtsp_server, watch, tmp_path):
    server = rtsp_server(audio="aac")
    station = watch(server.url, tmp_path / "recordings", tmp_path / "live.m3u8")
    assert flows(station, 30)
    server.kill()
    server.start(size="1280x720")
    assert until(lambda: station.sessions[0].format.width == 1280, 20)
    assert flows(station, 30)
    station.stop()
    sizes = []
    for path in sorted((tmp_path / "recordings").iterdir()):
        with av.open(str(path)) as container:
            sizes.append(container.streams.video[0].width)
    assert sizes == [640, 1280]
    assert "#EXT-X-DISCONTINUITY" in (tmp_path / "live.m3u8").read_text()


def test_a_camera_that_changes_its_codec(rtsp_server, watch, tmp_path):
    server = rtsp_server(audio="pcmu")
    station = watch(server.url, tmp_path / "recordings")
    session = station.sessions[0]
    assert flows(station, 30)
    server.kill()
    server.start(codec="h265", audio="aac")
    assert until(lambda: session.info.codec == "hevc", 20)
    assert flows(station, 30)
    assert session.connection.reconnects == 1
    station.stop()
    segments = sorted((tmp_path / "recordings").iterdir())
    assert len(segments) == 2, "sound of another kind begins another file"
    assert [read(path)[1] for path in segments] == [["audio", "video"]] * 2


def test_an_output_that_goes_and_comes_back(rtsp_server, watch, tmp_path):
    camera = rtsp_server()
    receiver = rtsp_server(record=tmp_path / "first.mkv")
    station = watch(camera.url, receiver.record_url, tmp_path / "recordings")
    publisher, recorder = station.sessions[0].broadcast.workers
    assert until(lambda: publisher.packets > 30, 20)
    receiver.kill()
    assert until(lambda: publisher.connection.state is State.BACKOFF, 15)
    before = recorder.packets
    receiver.start(record=tmp_path / "second.mkv")
    assert until(lambda: publisher.connection.reconnects == 1, 20)
    packets = publisher.packets
    assert until(lambda: publisher.packets > packets + 50, 20)
    assert recorder.packets > before and recorder.connection.failures == 0
    station.stop()
    receiver.kill()
    assert read(tmp_path / "second.mkv", dated_by_arrival=True)[0] >= 25


def test_an_output_that_takes_nothing_any_more_does_not_hold_the_others(
    rtsp_server, watch, tmp_path
):
    camera = rtsp_server()
    receiver = rtsp_server(record=tmp_path / "first.mkv")
    station = watch(camera.url, receiver.record_url, timeout_s=1.0)
    publisher = station.sessions[0].broadcast.workers[0]
    assert until(lambda: publisher.packets > 30, 20)
    receiver.freeze()
    latency = station.sessions[0].stats
    assert flows(station, 200, 20)
    assert latency.snapshot().latency["emit"].percentile(0.95) < 1.0
    receiver.thaw()
    packets = publisher.packets
    assert until(lambda: publisher.packets > packets + 50, 30)


def test_a_recording_survives_kill_9(rtsp_server, tmp_path):
    import sys

    server = rtsp_server(audio="pcmu")
    folder = tmp_path / "recordings"
    command = [sys.executable, "-m", "tests.live.peers.record", server.url, str(folder)]
    process = subprocess.Popen(command)
    assert until(lambda: list(folder.glob("*.part")) and _size(folder) > 60_000, 40)
    process.kill()
    process.wait()
    assert [p.name.endswith(".mp4.part") for p in folder.iterdir()] == [True]
    again = subprocess.Popen(command)
    try:
        assert until(lambda: list(folder.glob("*.mp4")), 30)
        recovered = next(folder.glob("*.mp4"))
        count, kinds = read(recovered)
        assert count >= 25 and kinds == ["audio", "video"]
    finally:
        again.terminate()
        assert again.wait(20) == 0
    assert not list(folder.glob("*.part")) and len(list(folder.glob("*.mp4"))) == 2


def _size(folder):
    return sum(path.stat().st_size for path in folder.iterdir())
