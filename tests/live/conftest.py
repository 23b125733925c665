import pytest

from tests.live.fakes import SlowEngine
from tests.live.peers import servers
from vderain.live.options import LiveOptions
from vderain.live.station import CameraPlan, Station

# Servers, receivers and browsers of others, in real time: on a busy machine GStreamer's own encoder starts too
# late, and its server answers 503. Such a test may be tried again; what is wrong in ours fails every time.
_PEERS = {"rtsp_server", "watch", "open_page"}
_OF_OTHERS = {
    "rtsp_server",
    "front_door",
    "open_page",
    "browser",
}  # programs that take seconds to start


def pytest_collection_modifyitems(items):
    for item in items:
        if "tests/live/" in str(item.path) and _PEERS & set(item.fixturenames):
            item.add_marker(pytest.mark.flaky(reruns=4, reruns_delay=3))
        if "tests/live/" in str(item.path) and _OF_OTHERS & set(item.fixturenames):
            item.add_marker(pytest.mark.slow)


@pytest.fixture(scope="session")
def _rtsp_server_there():
    servers.need("rtsp-server", servers.has_rtsp_server())


@pytest.fixture
def rtsp_server(_rtsp_server_there):
    """Start GStreamer servers with ``rtsp_server(codec="h265")``; killed at the end."""
    made = []

    def start(**options):
        made.append(servers.RtspServer(**options).start())
        return made[-1]

    yield start
    for server in made:
        server.kill()


@pytest.fixture
def front_door():
    """Put a process before a port, ``front_door(port, "--tls", ...)``: gives its own port."""
    made = []

    def start(port, *words):
        made.append(servers.FrontDoor(port, *words))
        return made[-1].port

    yield start
    for door in made:
        door.kill()


@pytest.fixture
def watch():
    """Start a station of one camera with an engine in memory: ``watch(url, *outputs, **live)``."""
    made = []

    def start(url, *outputs, engine=None, **options):
        live = LiveOptions(**{"timeout_s": 2.0, **options})
        station = Station(
            [CameraPlan("gate", str(url), tuple(map(str, outputs)), live)],
            open_engine_for=lambda rung: engine or SlowEngine(),
        )
        made.append(station)
        station.start()
        return station

    yield start
    for station in made:
        station.stop()
