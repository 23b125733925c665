"""Connections that say nothing, or read nothing, do not keep visitors out of the page."""

import contextlib
import socket
import threading

import httpx
import pytest
import uvicorn
from starlette.applications import Starlette
from starlette.responses import Response
from starlette.routing import Route

from vderain.live.web.connections import MOST, TimedConnection

HALF_A_HEAD = b"GET / HTTP/1.1\r\nHost: localhost\r\nX-More: "
LARGE = bytes(64 << 20)  # more than the system takes for a visitor who reads nothing


@pytest.fixture
def port():
    """The port of a server with such connections, which answers / with a word and /large with 64 MiB."""
    routes = [
        Route("/", lambda request: Response(b"hello")),
        Route("/large", lambda request: Response(LARGE)),
    ]
    listening = socket.create_server(("127.0.0.1", 0))
    config = uvicorn.Config(
        Starlette(routes=routes), http=TimedConnection, limit_concurrency=MOST, ws="none"
    )
    config.log_config = None
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listening]}, daemon=True)
    thread.start()
    yield listening.getsockname()[1]
    server.should_exit = True
    thread.join(timeout=10)
    listening.close()


@pytest.fixture
def impatient(monkeypatch):
    monkeypatch.setattr("vderain.live.web.connections._HEAD_S", 0.2)
    monkeypatch.setattr("vderain.live.web.connections._LOOK_S", 0.1)


def test_connections_without_a_request_do_not_shut_visitors_out(port):
    with contextlib.ExitStack() as stack:
        for _ in range(MOST + 5):
            silent = stack.enter_context(socket.create_connection(("127.0.0.1", port)))
            silent.sendall(HALF_A_HEAD)
        with httpx.Client() as visitor:
            for _ in range(3):
                assert visitor.get(f"http://127.0.0.1:{port}/").text == "hello"


def is_let_go(visitor):
    """Whether the server ends a connection on which a byte comes now and then."""
    visitor.settimeout(0.05)
    for _ in range(100):
        try:
            visitor.sendall(b"x")
            return visitor.recv(65536) == b""
        except TimeoutError:
            continue
        except ConnectionError:
            return True
    return False


def test_a_request_head_that_drips_is_not_waited_for(port, impatient):
    with socket.create_connection(("127.0.0.1", port), 5) as visitor:
        visitor.sendall(HALF_A_HEAD)
        assert is_let_go(visitor)


def test_a_second_request_that_drips_is_not_waited_for(port, impatient):
    with socket.create_connection(("127.0.0.1", port), 5) as visitor:
        visitor.sendall(b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n")
        answer = b""
        while not answer.endswith(b"hello"):
            answer += visitor.recv(65536)
        visitor.sendall(HALF_A_HEAD)
        assert is_let_go(visitor)


@pytest.fixture
def let_go(monkeypatch):
    """Is set when the server has ended a connection."""
    ended = threading.Event()
    lose = TimedConnection.connection_lost

    def connection_lost(self, exc):
        lose(self, exc)
        ended.set()

    monkeypatch.setattr(TimedConnection, "connection_lost", connection_lost)
    return ended


def test_a_visitor_who_does_not_take_the_answer_is_let_go(port, impatient, let_go):
    with socket.create_connection(("127.0.0.1", port), 5) as visitor:
        visitor.sendall(b"GET /large HTTP/1.1\r\nHost: localhost\r\n\r\n")
        assert let_go.wait(30)
        taken = 0
        with contextlib.suppress(ConnectionResetError):
            while piece := visitor.recv(1 << 20):
                taken += len(piece)
        assert taken < len(LARGE)


def test_a_large_answer_that_is_taken_comes_whole(port, impatient):
    assert len(httpx.get(f"http://127.0.0.1:{port}/large").content) == len(LARGE)
