"""Ports of loopback, and a web server of the tests in a thread."""

import socket
from collections.abc import Iterator
from contextlib import contextmanager
from socketserver import BaseServer
from threading import Thread

_HELD: list[socket.socket] = []


def free_port() -> int:
    """A port at which nothing listens, and which no other socket is given until this process ends.

    It stays bound with SO_REUSEADDR and never listens, so that only a server with this option that names it gets it.
    """
    held = socket.socket()
    _HELD.append(held)
    held.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    held.bind(("127.0.0.1", 0))
    return int(held.getsockname()[1])


@contextmanager
def running(server: BaseServer) -> Iterator[int]:
    """Serve until the block ends, and give the port."""
    Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()
    try:
        yield server.server_address[1]
    finally:
        server.shutdown()
        server.server_close()
