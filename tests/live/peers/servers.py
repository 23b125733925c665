"""Real servers and clients on the loopback, and a proxy that misbehaves."""

import contextlib
import os
import random
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

SYSTEM_PYTHON = "/usr/bin/python3"
SERVER = Path(__file__).parent / "rtsp_server.py"
FRONT_DOOR = Path(__file__).parent / "front_door.py"
_PROBE = (
    "import gi; gi.require_version('GstRtspServer', '1.0');"
    " from gi.repository import Gst, GstRtspServer; Gst.init(None);"
    " assert all(map(Gst.ElementFactory.find, ['x264enc', 'x265enc', 'avenc_aac']))"
)


def need(name, there):
    """Skip where something is not installed; fail where VDERAIN_REQUIRE names it."""
    if there:
        return
    if name in os.environ.get("VDERAIN_REQUIRE", "").split(","):
        pytest.fail(f"{name} is required but not installed")
    pytest.skip(f"{name} is not installed")


def has_rtsp_server():
    if not Path(SYSTEM_PYTHON).exists():
        return False
    return subprocess.run([SYSTEM_PYTHON, "-c", _PROBE], capture_output=True).returncode == 0


def has_ffmpeg():
    return shutil.which("ffmpeg") is not None


def free_port():
    """An even port, free now for TCP and UDP, as is the next one, which reports on RTP take."""
    while True:
        with contextlib.ExitStack() as stack, contextlib.suppress(OSError):
            probe = stack.enter_context(socket.socket())
            probe.bind(("127.0.0.1", 0))
            port = probe.getsockname()[1] + 1  # Linux gives odd ones
            port -= port % 2
            for kind, number in (
                (socket.SOCK_STREAM, port),
                (socket.SOCK_DGRAM, port),
                (socket.SOCK_DGRAM, port + 1),
            ):
                stack.enter_context(socket.socket(socket.AF_INET, kind)).bind(("127.0.0.1", number))
            return port


class RtspServer:
    """GStreamer's RTSP server in a process of its own, on one port however often it is started."""

    def __init__(self, **options):
        self.port = free_port()
        self.options = options
        self.process = None

    @property
    def url(self):
        return f"rtsp://127.0.0.1:{self.port}/camera"

    @property
    def record_url(self):
        return f"rtsp://127.0.0.1:{self.port}/record"

    def start(self, **changes):
        self.options |= changes
        words = [f"--{name}={value}" for name, value in self.options.items()]
        self.process = subprocess.Popen(
            [SYSTEM_PYTHON, str(SERVER), str(self.port), *words], stdout=subprocess.PIPE, text=True
        )
        assert self.process.stdout.readline() == "ready\n"
        return self

    def kill(self):
        if self.process is not None:
            self.process.send_signal(signal.SIGCONT)
            self.process.kill()
            self.process.wait()
            self.process.stdout.close()
            self.process = None

    def freeze(self):
        self.process.send_signal(signal.SIGSTOP)

    def thaw(self):
        self.process.send_signal(signal.SIGCONT)


class Proxy:
    """Between a client and a server over TCP; can reset, or damage what the server sends.

    Damage touches RTP payload only: of RTSP's interleaved frames a share ``damage`` gets random bytes.
    """

    def __init__(self, port, *, damage=0.0):
        self._target = ("127.0.0.1", port)
        self._damage = damage
        self._dice = random.Random(1)
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = self._listener.getsockname()[1]
        self._pairs = []
        self.damaged = 0
        self._closed = False
        threading.Thread(target=self._accept, daemon=True).start()

    def reset(self, after_bytes=0):
        """Cut every connection with a RST, in the middle of whatever is being sent."""
        pairs, self._pairs = self._pairs, []
        for client, server in pairs:
            client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
            for end in (client, server):
                with contextlib.suppress(OSError):
                    end.shutdown(socket.SHUT_RD)
                end.close()

    def close(self):
        self._closed = True
        self._listener.close()
        self.reset()

    def _accept(self):
        while not self._closed:
            try:
                client, _ = self._listener.accept()
                server = socket.create_connection(self._target)
            except OSError:
                continue
            self._pairs.append((client, server))
            for args in ((client, server, False), (server, client, True)):
                threading.Thread(target=self._pump, args=args, daemon=True).start()

    def _pump(self, source, target, damages):
        with contextlib.suppress(OSError):
            while data := source.recv(65536):
                target.sendall(self._damaged(data) if damages and self._damage else data)
        for end in (source, target):
            with contextlib.suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)

    def _damaged(self, data):
        """Change bytes inside interleaved frames that begin in this piece; headers stay."""
        data = bytearray(data)
        at = 0
        while at + 4 <= len(data) and data[at] == 0x24:
            length = int.from_bytes(data[at + 2 : at + 4], "big")
            end = min(len(data), at + 4 + length)
            # The first channel is the image; 16 bytes in, past the RTP header.
            if data[at + 1] == 0 and length > 60 and self._dice.random() < self._damage:
                for _ in range(5):
                    data[self._dice.randrange(at + 20, end)] = self._dice.randrange(256)
                self.damaged += 1
            at += 4 + length
        return bytes(data)


class FrontDoor:
    """A process before a port that takes TLS off. PyAV stops Python while it connects."""

    def __init__(self, port, *words):
        command = [sys.executable, str(FRONT_DOOR), str(port), *map(str, words)]
        self._process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        self.port = int(self._process.stdout.readline())

    def kill(self):
        self._process.kill()
        self._process.wait()
        self._process.stdout.close()


class SilentServer:
    """Accepts connections and says nothing."""

    def __init__(self):
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = self._listener.getsockname()[1]
        self.connections = []
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self):
        while True:
            try:
                self.connections.append(self._listener.accept()[0])
            except OSError:
                return

    def close(self):
        self._listener.close()
        for connection in self.connections:
            connection.close()


def listen(url, path, seconds, *options):
    """An ffmpeg process that writes what it receives into a file; ends by itself."""
    return subprocess.Popen(
        [
            "ffmpeg",
            "-v",
            "error",
            "-y",
            *options,
            "-i",
            url,
            "-t",
            str(seconds),
            "-c",
            "copy",
            str(path),
        ],
        stderr=subprocess.PIPE,
        text=True,
    )


def wait_for_port(port, timeout_s=10.0):
    """Wait until something listens."""
    end_s = time.monotonic() + timeout_s
    while time.monotonic() < end_s:
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 0.2):
            return
        time.sleep(0.05)
    raise AssertionError(f"nothing listens on {port}")
