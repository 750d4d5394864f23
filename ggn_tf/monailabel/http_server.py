"""An HTTP server for one machine: a thread for each connection, bounded in number, time and speed."""

import io
import logging
import socket
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from socketserver import TCPServer, ThreadingMixIn
from typing import IO, TYPE_CHECKING, Any, cast
from wsgiref.handlers import SimpleHandler
from wsgiref.simple_server import WSGIRequestHandler, WSGIServer

from ggn_tf.serving.contract.tls import is_ipv6

if TYPE_CHECKING:
    from _typeshed.wsgi import WSGIApplication

log = logging.getLogger(__name__)

_MOST_CONNECTIONS = 32
_PATIENCE_S = 10.0
"""How long a client may send nothing, take for its request's head or a part of the answer, and to close at the end."""
_SLOWEST_BYTES_S = 64 << 10
"""What a client must send per second, on average over that time."""
_DRAINED_BYTES = _LONGEST_LINE = 1 << 16


class _Reader(io.RawIOBase):
    """What a client sends, as long as it is fast enough; then a TimeoutError."""

    def __init__(self, connection: socket.socket) -> None:
        self._connection, self._ends = connection, time.monotonic() + _PATIENCE_S

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        left = self._ends - time.monotonic()
        if left <= 0:
            raise TimeoutError
        self._connection.settimeout(left)
        count = self._connection.recv_into(buffer)
        self._ends = min(self._ends + count / _SLOWEST_BYTES_S, time.monotonic() + _PATIENCE_S)
        return count


class _Writer(io.BufferedIOBase):
    """The answer, each part of which must be taken in time."""

    def __init__(self, connection: socket.socket) -> None:
        self._connection = connection

    def writable(self) -> bool:
        return True

    def write(self, data: Any) -> int:
        self._connection.settimeout(_PATIENCE_S)
        self._connection.sendall(data)
        return len(data)


class _Response(SimpleHandler):
    server_software = "ggn-tf"

    def log_exception(self, exc_info: Any) -> None:
        log.debug("an answer was not taken", exc_info=exc_info)


class _Request(WSGIRequestHandler):
    server_version = "ggn-tf"
    server: "HttpServer"

    def setup(self) -> None:
        self.connection = self.request
        self.rfile = io.BufferedReader(_Reader(self.connection))
        self.wfile = _Writer(self.connection)

    def handle(self) -> None:
        with suppress(OSError):
            self.raw_requestline = self.rfile.readline(_LONGEST_LINE)
            if not self.raw_requestline.endswith(b"\n") or not self.parse_request():
                return
            _Response(self.rfile, cast(IO[bytes], self.wfile), io.StringIO(), self.get_environ()).run(
                self.server.respond
            )
        with suppress(OSError):
            self._let_client_read()

    def _let_client_read(self) -> None:
        """Discard what is still sent: closed before that, a connection would lose the answer to a request in it."""
        self.connection.shutdown(socket.SHUT_WR)
        ends = time.monotonic() + _PATIENCE_S
        while time.monotonic() < ends and self.rfile.read1(_DRAINED_BYTES):
            pass

    def address_string(self) -> str:
        return str(self.client_address[0])

    def log_message(self, format: str, *args: Any) -> None:
        """Paths contain the names of sessions, which are secrets."""


class HttpServer(ThreadingMixIn, WSGIServer):
    """Serves a WSGI application until it is closed; raises OSError where it cannot listen.

    Args:
        port: The port; 0 for a free one.
        tidy: Called about twice a second.
    """

    daemon_threads = True
    request_queue_size = _MOST_CONNECTIONS

    def __init__(self, host: str, port: int, respond: "WSGIApplication", tidy: Callable[[], None]) -> None:
        self.address_family = socket.AF_INET6 if is_ipv6(host.strip("[]")) else socket.AF_INET
        self.respond, self._tidy = respond, tidy
        self._open: set[Any] = set()
        super().__init__((host.strip("[]"), port), _Request)
        self._thread = threading.Thread(target=self.serve_forever, name="monailabel", daemon=True)

    def server_bind(self) -> None:
        """Bind without asking for the host's name, which may take long."""
        TCPServer.server_bind(self)
        self.server_name, self.server_port = str(self.server_address[0]), int(self.server_address[1])
        self.setup_environ()

    def start(self) -> None:
        """Serve in a thread."""
        self._thread.start()

    def close(self, grace_s: float) -> None:
        """Accept no more connections, let requests end for some seconds, then end them."""
        self.shutdown()
        self.server_close()
        ends = time.monotonic() + grace_s
        while self._open and time.monotonic() < ends:
            time.sleep(0.05)
        for connection in list(self._open):
            with suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)

    def service_actions(self) -> None:
        """Called between two connections, and while there are none."""
        self._tidy()

    def verify_request(self, request: Any, client_address: Any) -> bool:
        """Close a connection that is one too many."""
        return len(self._open) < _MOST_CONNECTIONS

    def process_request(self, request: Any, client_address: Any) -> None:
        """Handle a connection in a thread."""
        self._open.add(request)
        super().process_request(request, client_address)

    def shutdown_request(self, request: Any) -> None:
        """Close a connection."""
        self._open.discard(request)
        super().shutdown_request(request)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Write no traceback; the application's errors are its own."""
        log.debug("a connection failed", exc_info=True)
