"""Ports of loopback, and a web server of the tests in a thread."""

import socket
from collections.abc import Iterator
from contextlib import contextmanager
from socketserver import BaseServer
from threading import Thread


def free_port() -> int:
    """The number of a port at which nothing listens."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@contextmanager
def running(server: BaseServer) -> Iterator[int]:
    """Serve until the block ends, and give the port."""
    Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()
    try:
        yield server.server_address[1]
    finally:
        server.shutdown()
        server.server_close()
