import pytest

from vderain.live.web.server import PageServer


@pytest.fixture
def page(watch, tmp_path):
    """A page over a camera that plays a file: ``page(token=None)`` gives its address and the station."""
    servers = []

    def start(token=None, source="samples/rainy_road.mp4", host="127.0.0.1", **options):
        station = watch(source, **options)
        server = PageServer(station, host, 0, token)
        servers.append(server)
        server.start()
        return f"http://127.0.0.1:{server.port}", station

    yield start
    for server in servers:
        server.stop()
