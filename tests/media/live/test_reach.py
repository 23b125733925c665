"""An RTSP receiver is asked before FFmpeg connects to it: what it is asked, and what its silence means."""

import socket
import threading

import pytest

from vderain.errors import SinkError
from vderain.media.live.reach import TcpReceiver, reach


@pytest.fixture
def receiver():
    """``receiver(answer)``: a server's port, and what it was sent; None as the answer keeps silent."""
    servers, done = [], threading.Event()

    def start(answer, host="127.0.0.1"):
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        server = socket.create_server((host, 0), family=family)
        servers.append(server)
        seen = []

        def serve():
            connection, _ = server.accept()
            with connection:
                seen.append(connection.recv(1000))
                if answer is None:
                    done.wait(10)
                else:
                    connection.sendall(answer)

        threading.Thread(target=serve, daemon=True).start()
        return server.getsockname()[1], seen

    yield start
    done.set()
    for server in servers:
        server.close()


def test_a_receiver_is_asked_for_its_options_without_the_login(receiver):
    port, seen = receiver(b"RTSP/1.0 200 OK\r\n\r\n")
    reach(f"rtsp://user:secret@127.0.0.1:{port}/dry", "gate", 5.0)
    assert seen == [f"OPTIONS rtsp://127.0.0.1:{port}/dry RTSP/1.0\r\nCSeq: 1\r\n\r\n".encode()]


def test_an_address_of_ipv6_keeps_its_brackets(receiver):
    if not socket.has_ipv6:
        pytest.skip("no IPv6")
    try:
        port, seen = receiver(b"RTSP/1.0 401 Unauthorized\r\n\r\n", host="::1")
    except OSError:
        pytest.skip("no IPv6 on the loopback")
    reach(f"rtsp://[::1]:{port}", "gate", 5.0)
    assert seen[0].startswith(f"OPTIONS rtsp://[::1]:{port}/ RTSP/1.0\r\n".encode())


@pytest.mark.parametrize(
    ("answer", "words"),
    [(None, "does not respond in time"), (b"", "closes the connection at once")],
)
def test_a_receiver_that_says_nothing_is_an_error(receiver, answer, words):
    port, _ = receiver(answer)
    with pytest.raises(SinkError, match=f"^gate: {words}$"):
        reach(f"rtsp://127.0.0.1:{port}/dry", "gate", 0.3)


def test_a_receiver_without_tls_is_an_error_where_tls_is_asked_for(receiver):
    port, _ = receiver(b"RTSP/1.0 400 Bad Request\r\n\r\n")
    with pytest.raises(SinkError, match=r"^gate: \S"):
        reach(f"rtsps://127.0.0.1:{port}/dry", "gate", 5.0)


def test_a_tcp_receiver_gets_the_data(receiver):
    port, seen = receiver(b"")
    connection = TcpReceiver(f"tcp://127.0.0.1:{port}", 5.0)
    assert connection.write(b"packet") == 6
    connection.close()
    for _ in range(500):
        if seen:
            break
        threading.Event().wait(0.01)
    assert seen == [b"packet"]
    with pytest.raises(OSError, match="has no port"):
        TcpReceiver("tcp://127.0.0.1", 5.0)
