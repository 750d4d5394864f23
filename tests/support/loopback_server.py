"""Ports of loopback, and a web server of the tests in a thread."""

import atexit
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from socketserver import BaseServer
from threading import Thread

_RESERVATIONS: list[socket.socket] = []


@atexit.register
def _close_all() -> None:
    while _RESERVATIONS:
        _RESERVATIONS.pop().close()


def free_port() -> int:
    """A port at which nothing listens, and which no other socket is given until this process ends.

    It stays bound with SO_REUSEADDR and never listens, so that only a server with this option that names it gets it.
    """
    reservation = socket.socket()
    _RESERVATIONS.append(reservation)
    reservation.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    reservation.bind(("127.0.0.1", 0))
    return int(reservation.getsockname()[1])


@contextmanager
def running(server: BaseServer) -> Iterator[int]:
    """Serve until the block ends, and give the port."""
    Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()
    try:
        yield server.server_address[1]
    finally:
        server.shutdown()
        server.server_close()
