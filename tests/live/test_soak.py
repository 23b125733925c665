"""A minute of restarts and reconnections: nothing may grow."""

import gc
import os
import threading
import time
from pathlib import Path

import pytest

from tests.live.fakes import SlowEngine, until

pytestmark = pytest.mark.slow

SECONDS = 60
ROUND_S = 6


def resident_mb():
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 1e6


def usage():
    gc.collect()
    threads = sorted(t.name for t in threading.enumerate() if t.name.startswith("vderain"))
    return resident_mb(), len(os.listdir("/proc/self/fd")), threads


@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="reads Linux's /proc")
def test_a_minute_of_restarts_leaves_nothing_behind(rtsp_server, watch, tmp_path):
    server = rtsp_server(audio="pcmu")
    station = watch(
        server.url, tmp_path / "recordings", tmp_path / "live.m3u8",
        segment_minutes=0.05, backoff_max_s=1.0,
    )  # fmt: skip
    session = station.sessions[0]
    usages = []
    end_s = time.monotonic() + SECONDS
    while time.monotonic() < end_s:
        frames = session.stats.snapshot().frames.get("emitted", 0)
        assert until(
            lambda n=frames: session.stats.snapshot().frames.get("emitted", 0) > n + 40, 20
        )
        usages.append(usage())
        server.kill()
        assert until(lambda: str(session.connection.state) == "backoff", 10)
        server.start()
        reconnects = session.connection.reconnects
        assert until(lambda n=reconnects: session.connection.reconnects > n, 15)
    assert session.connection.reconnects >= 5
    (first_mb, first_files, first_threads), (last_mb, last_files, last_threads) = (
        usages[1],
        usages[-1],
    )
    assert last_files <= first_files + 2, usages
    assert last_threads == first_threads, usages
    assert last_mb - first_mb < 40, usages


def test_overload_drops_frames_and_keeps_latency_and_memory(rtsp_server, watch):
    server = rtsp_server(rate=50, size="320x180")
    engine = SlowEngine(0.04, slots=1)  # half of what the camera sends
    station = watch(server.url, passthrough="never", engine=engine)
    session = station.sessions[0]
    assert until(lambda: session.stats.snapshot().frames.get("emitted", 0) > 50, 20)
    before = resident_mb()
    engine.times.clear()
    assert until(lambda: len(engine.times) > 150, 30)
    counts = session.stats.snapshot()
    network = counts.latency["network"].percentile(0.95)
    assert counts.drops["late"] > 50
    # Two frames and the network's time, and what a busy machine adds.
    assert counts.latency["emit"].percentile(0.95) < 2 / 50 + network + 0.15
    assert resident_mb() - before < 40
    control = session.scheduled.control
    assert control.rung == control.rungs[-1], "the camera has stepped down"
