"""Clients that are slow, many, or send more than they should, and a server that stops."""

import contextlib
import http.client
import socket
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from werkzeug.wrappers import Request, Response

from ggn_tf.monailabel import http_server
from ggn_tf.monailabel.http_server import HttpServer

_ANSWER = bytes(48 << 20)


@Request.application
def application(request: Request) -> Response:
    if request.path == "/refuse":
        return Response("refused", 413)
    if request.path == "/large":
        return Response(_ANSWER[start : start + (1 << 20)] for start in range(0, len(_ANSWER), 1 << 20))
    return Response(str(len(request.data)))


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(http_server, "_PATIENCE_S", 0.4)


@pytest.fixture
def server() -> Iterator[HttpServer]:
    running = HttpServer("127.0.0.1", 0, application, lambda: None)
    running.start()
    yield running
    running.close(0.0)


def ask(server: HttpServer, method: str = "GET", path: str = "/", body: Any = None) -> tuple[int, bytes]:
    connection = http.client.HTTPConnection("127.0.0.1", server.server_port, timeout=20)
    connection.request(method, path, body)
    response = connection.getresponse()
    return response.status, response.read()


def ended_after(server: HttpServer, first: bytes, further: Callable[[socket.socket], object]) -> float:
    """Seconds until the server closes a connection on which something is done again and again."""
    with socket.create_connection(("127.0.0.1", server.server_port), timeout=20) as connection:
        connection.sendall(first)
        start = time.monotonic()
        try:
            while time.monotonic() - start < 10:
                further(connection)
        except OSError:
            pass
        return time.monotonic() - start


_HEAD = b"PUT / HTTP/1.1\r\nHost: localhost\r\nContent-Length: 100000000\r\n\r\n"


def wait_for_end(connection: socket.socket) -> None:
    if not connection.recv(1 << 16):
        raise ConnectionResetError


def send_little(connection: socket.socket) -> None:
    connection.sendall(b"a")
    connection.settimeout(0.05)
    with contextlib.suppress(TimeoutError):
        wait_for_end(connection)


@pytest.mark.usefixtures("impatient")
@pytest.mark.parametrize("first", [b"", b"GET /", _HEAD, _HEAD + bytes(4 << 20)])
@pytest.mark.parametrize("further", [wait_for_end, send_little])
def test_a_client_that_is_silent_or_slow_is_disconnected(
    first: bytes, further: Callable[[socket.socket], object], server: HttpServer
) -> None:
    # Not the ten seconds after which the test gives up, also on a busy machine.
    assert ended_after(server, first, further) < 9
    assert ask(server) == (200, b"0")


@pytest.mark.usefixtures("impatient")
def test_a_client_that_does_not_take_its_answer_is_disconnected(server: HttpServer) -> None:
    with socket.create_connection(("127.0.0.1", server.server_port), timeout=20) as connection:
        connection.sendall(b"GET /large HTTP/1.1\r\nHost: localhost\r\n\r\n")
        time.sleep(1.5)
        received = 0
        try:
            while part := connection.recv(1 << 20):
                received += len(part)
        except OSError:
            pass
    assert received < len(_ANSWER)
    assert len(ask(server, path="/large")[1]) == len(_ANSWER)


def test_a_request_that_is_refused_unread_gets_its_answer(server: HttpServer) -> None:
    assert ask(server, "PUT", "/refuse", bytes(64 << 20)) == (413, b"refused")


@pytest.mark.usefixtures("impatient")
def test_one_connection_too_many_is_closed_and_room_returns(server: HttpServer) -> None:
    address = ("127.0.0.1", server.server_port)
    held = [socket.create_connection(address, timeout=20) for _ in range(40)]
    time.sleep(0.2)
    ended = [connection for connection in held[32:] if connection.recv(1) == b""]
    assert len(ended) == 8
    for connection in held:
        assert connection.recv(1) == b""
        connection.close()
    assert ask(server) == (200, b"0")


@pytest.mark.parametrize("request_line", [b"\r\n", b"GET\r\n", b"GET / HTTP/9\r\n", b"\x16\x03\x01\r\n", b"a" * 70_000])
def test_what_is_not_http_ends_its_connection_alone(
    request_line: bytes, server: HttpServer, capfd: pytest.CaptureFixture[str]
) -> None:
    with socket.create_connection(("127.0.0.1", server.server_port), timeout=20) as connection:
        connection.sendall(request_line)
        answer = b""
        try:
            while part := connection.recv(1 << 16):
                answer += part
        except ConnectionResetError:
            pass
    assert answer.startswith((b"HTTP/1.0 400", b"HTTP/1.0 505", b"<!DOCTYPE")) or not answer
    assert ask(server) == (200, b"0")
    assert capfd.readouterr() == ("", "")


def test_a_stopped_server_completes_what_it_has_begun() -> None:
    begun, go_on = threading.Event(), threading.Event()

    @Request.application
    def slow(request: Request) -> Response:
        begun.set()
        go_on.wait(20)
        return Response("complete")

    running = HttpServer("::1" if socket.has_ipv6 and _has_ipv6_loopback() else "127.0.0.1", 0, slow, lambda: None)
    running.start()
    host = running.server_address[0]
    answers: list[bytes] = []

    def request() -> None:
        connection = http.client.HTTPConnection(str(host), running.server_port, timeout=20)
        connection.request("GET", "/")
        answers.append(connection.getresponse().read())

    client = threading.Thread(target=request)
    client.start()
    assert begun.wait(20)
    stopping = threading.Thread(target=running.close, args=(20.0,))
    stopping.start()
    time.sleep(0.6)
    with pytest.raises(OSError):
        socket.create_connection((str(host), running.server_port), timeout=1)
    go_on.set()
    client.join(20)
    stopping.join(20)
    assert answers == [b"complete"]


def _has_ipv6_loopback() -> bool:
    try:
        with socket.socket(socket.AF_INET6) as probe:
            probe.bind(("::1", 0))
    except OSError:
        return False
    return True
