"""Live cameras: added latency, overload, and a soak with restarts, against a real RTSP server.

    python -m benchmarks.live start                # how soon frames flow: H.264 and H.265, sound, TCP and UDP
    python -m benchmarks.live return               # how soon they flow again after the server was away
    python -m benchmarks.live latency              # 640x360 at 25 fps for 60 s: what the way through adds
    python -m benchmarks.live overload             # a camera at about twice the rate of the network, then at a quarter
    python -m benchmarks.live soak --minutes 20    # the server is killed and started again every two minutes

The camera (GStreamer's encoder) runs on the same machine and takes its share of it.

Needs Debian's gir1.2-gst-rtsp-server-1.0, as tests/live does. Prints figures, asserts nothing.
"""

import argparse
import json
import os
import socket
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

from tests.live.peers.servers import RtspServer, free_port
from vderain.live.options import LiveOptions
from vderain.live.states import State
from vderain.live.station import CameraPlan, Station
from vderain.machine import cpu_fields, cpu_model, package_version
from vderain.options import EngineOptions


def megabytes():
    """Resident memory of this process."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 1e6


def descriptors():
    return len(os.listdir("/proc/self/fd"))


def station_for(url, *outputs, **live):
    plan = CameraPlan("camera", url, tuple(map(str, outputs)), LiveOptions(**live))
    station = Station([plan], engine=EngineOptions())
    station.start()
    return station


def wait_until_derained(station, timeout_s=120):
    """The first runs may build an engine."""
    end_s = time.monotonic() + timeout_s
    while time.monotonic() < end_s:
        if station.sessions[0].stats.snapshot().frames.get("derained", 0) > 25:
            return
        time.sleep(0.1)
    raise SystemExit("no frame was derained")


class Window:
    """Frames, drops and latencies between two moments."""

    def __init__(self, session):
        self.session = session
        self.before = session.stats.snapshot()
        self.since_s = time.monotonic()

    def line(self):
        now = self.session.stats.snapshot()
        seconds = time.monotonic() - self.since_s
        counts = {
            stage: count - self.before.frames.get(stage, 0) for stage, count in now.frames.items()
        }
        drops = {
            why: count - self.before.drops.get(why, 0)
            for why, count in now.drops.items()
            if count > self.before.drops.get(why, 0)
        }
        parts = [f"{self.session.scheduled.control.rung.name:12}"]
        parts += [f"{stage} {count / seconds:.1f}/s" for stage, count in counts.items()]
        for stage, counted in (("network", "derained"), ("emit", "emitted")):
            histogram = now.latency.get(stage)
            if histogram is not None and counts.get(counted):
                values = sorted(list(histogram.recent)[-counts[counted] :])
                p50, p95 = values[len(values) // 2], values[int(0.95 * (len(values) - 1))]
                parts.append(f"{stage} {1e3 * p50:.0f} / {1e3 * p95:.0f} ms (median / 95 %)")
        return ", ".join(parts) + f", dropped {drops}"

    def p95_ms(self, stage, counted):
        """Of the frames of this window; 0 where there is none."""
        now = self.session.stats.snapshot()
        count = now.frames.get(counted, 0) - self.before.frames.get(counted, 0)
        histogram = now.latency.get(stage)
        values = sorted(list(histogram.recent)[-count:]) if histogram and count else [0.0]
        return 1e3 * values[int(0.95 * (len(values) - 1))]

    def verdict(self, rate):
        """The latency against two frames and the network's time (95 % of each)."""
        emit = self.p95_ms("emit", "emitted")
        bound = 2e3 / rate + self.p95_ms("network", "derained")
        return f"latency {emit:.0f} ms of at most {bound:.0f} (95 %)" + " EXCEEDED" * (emit > bound)


CAMERAS = (
    ("h264", "pcmu", "tcp", "auto"),
    ("h264", "none", "all", "udp"),
    ("h265", "aac", "udp", "auto"),
    ("h265", "none", "all", "tcp"),
)


def start(times):
    """The whole command, from its start: the first frame decoded, sent on, and derained."""
    with tempfile.TemporaryDirectory() as cache:
        for number, (codec, audio, protocols, transport) in enumerate(CAMERAS):
            server = RtspServer(codec=codec, audio=audio, protocols=protocols).start()
            try:
                for again in range(times + (number == 0)):
                    is_first = number == 0 and again == 0
                    kind = f"{codec}, sound {audio}, {protocols}, --rtsp-transport {transport}"
                    begun = began(server.url, transport, cache, 90 if is_first else 20)
                    times = ", ".join(f"{what} {at_s:.1f} s" for what, at_s in begun.items())
                    print(f"{kind}{', no engine built yet' * is_first}: {times}", flush=True)
            finally:
                server.kill()


def began(url, transport, cache, timeout_s):
    """Seconds from the start of a process until events that a viewer or its log shows."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as viewer:
        port = free_port()
        viewer.bind(("127.0.0.1", port))
        viewer.settimeout(timeout_s)
        since_s = time.monotonic()
        process = subprocess.Popen(
            [sys.executable, "-m", "vderain", "live", url, f"udp://127.0.0.1:{port}", "--log", "json",
             "--rtsp-transport", transport],
            stderr=subprocess.PIPE, text=True, env={**os.environ, "VDERAIN_CACHE": cache},
        )  # fmt: skip
        times = {}
        reader = threading.Thread(target=read_log, args=(process.stderr, since_s, times))
        reader.start()
        try:
            viewer.recv(2048)
            times["sent"] = time.monotonic() - since_s
            while "engine" not in times and time.monotonic() - since_s < timeout_s:
                time.sleep(0.02)
        finally:
            process.terminate()
            process.wait()
            reader.join()
            process.stderr.close()
        return times


def read_log(lines, since_s, times):
    for line in lines:
        entry = json.loads(line)
        now_s = time.monotonic() - since_s
        if entry.get("state") == "running" and "camera" in entry:
            times.setdefault("decoded", now_s)
        elif " runs on " in entry["message"]:
            times.setdefault("engine", now_s)


def come_back(times):
    """The server dies, stays away for a while and returns: the wait for the next attempt, and what it takes."""
    server = RtspServer(rate=25, audio="pcmu").start()
    station = station_for(server.url)
    try:
        wait_until_derained(station)
        took = sorted(returned(station.sessions[0], server, 4 + 2.3 * n) for n in range(times))
        print(f"frames again after {took[len(took) // 2]:.1f} s (median), at most {took[-1]:.1f} s")
    finally:
        station.stop()
        server.kill()


def returned(session, server, away_s):
    """Seconds from the server's return to the first frame that is sent on."""
    server.kill()
    time.sleep(away_s)
    failures, before = session.connection.failures, session.stats.snapshot().frames
    server.start()
    since_s = time.monotonic()

    def came(stage):
        return session.stats.snapshot().frames[stage] > before[stage]

    def seconds_until(condition):
        while not condition():
            if time.monotonic() - since_s > 60:
                raise SystemExit("the camera did not come back")
            time.sleep(0.005)
        return time.monotonic() - since_s

    tried_s = seconds_until(lambda: session.connection.state is not State.BACKOFF)
    decoded_s = seconds_until(lambda: came("decoded"))
    out_s = seconds_until(lambda: came("emitted"))
    print(
        f"away for {away_s:.0f} s, {failures} failures so far: tried {tried_s:.1f} s after its return,"
        f" decoded {decoded_s:.1f} s, out {out_s:.1f} s",
        flush=True,
    )
    return out_s


def latency(seconds, rate):
    server = RtspServer(rate=rate).start()
    with tempfile.TemporaryDirectory() as folder:
        station = station_for(server.url, folder)
        try:
            wait_until_derained(station)
            time.sleep(5)
            window = Window(station.sessions[0])
            time.sleep(seconds)
            print(f"640x360 at {rate} fps, recorded:", window.line())
            p95_ms, rung = (
                window.p95_ms("emit", "emitted"),
                station.sessions[0].scheduled.control.rung,
            )
            print(f"added latency, 95 %: {p95_ms:.0f} ms (at most 150), tier {rung.name}")
            if rung.name != "fast":
                print("the machine was too busy for the tier that the figure is asked of")
        finally:
            station.stop()
            server.kill()


def overload(seconds, size):
    """A camera at twice the rate of the network, then at a quarter: the tier goes down, and up again."""
    server = RtspServer(rate=4, size=size).start()
    station = station_for(server.url)
    session = station.sessions[0]
    try:
        wait_until_derained(station)
        session.scheduled.control.restart(time.monotonic())
        full = 1 / session.scheduled.cost_s
        print(f"{size}: the network alone does {full:.1f} frames per second", flush=True)
        rates = (min(240, max(2, round(2 * full))), max(2, round(full / 4)))
        memory, tiers = megabytes(), [session.scheduled.control.rung.name]
        for rate in rates:
            server.kill()
            server.start(rate=rate)
            time.sleep(5)
            windows = max(1, round(seconds / 10))
            for number in range(windows if rate == rates[0] else 4 * windows):
                if number >= windows and session.scheduled.control.level == 0:
                    break  # all the way up again
                window = Window(session)
                time.sleep(min(10, seconds))
                print(f"{size} at {rate} fps: {window.line()}; {window.verdict(rate)};"
                      f" {megabytes():.0f} MB", flush=True)  # fmt: skip
                if session.scheduled.control.rung.name != tiers[-1]:
                    tiers.append(session.scheduled.control.rung.name)
        print(f"tiers: {' -> '.join(tiers)}; memory {memory:.0f} -> {megabytes():.0f} MB")
    finally:
        station.stop()
        server.kill()


def soak(minutes, restart_s):
    server = RtspServer(rate=25, audio="pcmu").start()
    with tempfile.TemporaryDirectory() as folder:
        station = station_for(
            server.url, Path(folder, "r"), Path(folder, "live.m3u8"), segment_minutes=1.0
        )
        session = station.sessions[0]
        rows = []

        def count():
            rows.append((threading.active_count(), descriptors(), megabytes()))
            return "{} threads, {} descriptors, {:.0f} MB".format(*rows[-1])

        try:
            wait_until_derained(station)
            print(f"start: {count()}", flush=True)
            end_s = time.monotonic() + 60 * minutes
            while time.monotonic() < end_s:
                window = Window(session)
                time.sleep(max(1.0, restart_s - 5))
                print(
                    f"{max(0.0, end_s - time.monotonic()) / 60:5.1f} min left: {count()},"
                    f" {session.connection.reconnects} reconnections; {window.line()}",
                    flush=True,
                )
                server.kill()
                time.sleep(5)
                server.start()
            window = Window(session)
            time.sleep(15)
            print(f"end: {count()}; {window.line()}")
            settled = rows[
                min(2, len(rows) - 1)
            ]  # after two connections, all that is made once is there
            print(
                "growth since the second connection: {} threads, {} descriptors, {:.0f} MB".format(
                    *(last - first for first, last in zip(settled, rows[-1], strict=True))
                )
            )
        finally:
            station.stop()
            server.kill()


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("what", choices=("start", "return", "latency", "overload", "soak"))
    parser.add_argument(
        "--seconds", type=float, help="of latency (60); of each rate of overload (90)"
    )
    parser.add_argument("--minutes", type=float, default=20)
    parser.add_argument(
        "--times", type=int, help="of start, for each camera (3), and of return (8)"
    )
    parser.add_argument("--restart", type=float, default=120, help="seconds between restarts")
    parser.add_argument("--rate", type=int, default=25, help="frames per second, of latency")
    parser.add_argument("--size", default="1280x720", help="of the overloading camera")
    options = parser.parse_args()
    load = os.getloadavg()[0]
    print(
        f"{cpu_model(cpu_fields())}, {os.cpu_count()} cores, load {load:.1f} before the start;"
        f" openvino {package_version('openvino')}, av {package_version('av')}"
    )
    if options.what == "start":
        start(options.times or 3)
    elif options.what == "return":
        come_back(options.times or 8)
    elif options.what == "latency":
        latency(options.seconds or 60, options.rate)
    elif options.what == "overload":
        overload(options.seconds or 90, options.size)
    else:
        soak(options.minutes, options.restart)


main()
