"""Limits of connections: how long they may be idle or old, how much they may send, and how many there may be."""

import socket
import struct
import threading
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path
from urllib.parse import unquote

LARGEST_MESSAGE = "grpc.max_receive_message_length"
LARGEST_MESSAGE_BYTES = 8 * 2**20
"""Largest request: 64 patches, or a region of 128 x 128 x 128 voxels. Our clients send at most 4 MiB at a time unless a
single region is larger."""
_UNLIMITED_BYTES = 2**31 - 1

CHANNEL_OPTIONS: tuple[tuple[str, int | str], ...] = (
    (LARGEST_MESSAGE, LARGEST_MESSAGE_BYTES),
    ("grpc.max_send_message_length", _UNLIMITED_BYTES),
    # Otherwise a second server could take the same port, and the kernel would distribute requests over both.
    ("grpc.so_reuseport", 0),
    # A client that sends nothing, or not the beginning of HTTP/2 or TLS.
    ("grpc.server_handshake_timeout_ms", 10_000),
    # Clients reconnect by themselves when an idle or old connection is closed between two requests.
    ("grpc.max_connection_idle_ms", 300_000),
    ("grpc.max_connection_age_ms", 3_600_000),
    ("grpc.max_connection_age_grace_ms", 120_000),
    # A client whose machine or network is gone.
    ("grpc.keepalive_time_ms", 60_000),
    ("grpc.keepalive_timeout_ms", 20_000),
    ("grpc.http2.max_ping_strikes", 2),
    ("grpc.max_concurrent_streams", 64),
    # Requests that gRPC has not given to Python yet, also of connections that were reset since: some 40 KB each, and
    # Python takes up to 3000 per second. Further ones are CANCELLED, which clients do not retry: some already from 1000
    # on by default.
    ("grpc.server.max_pending_requests", 10_000),
    ("grpc.server.max_pending_requests_hard_limit", 10_000),
)
"""Options of gRPC's core; a user may replace each."""


def largest_message_bytes(options: Iterable[tuple[str, int | str]]) -> int:
    """The largest request that the options allow, bytes; -1 means any that gRPC can send."""
    size = int(dict(options).get(LARGEST_MESSAGE, LARGEST_MESSAGE_BYTES))
    return size if 0 <= size <= _UNLIMITED_BYTES else _UNLIMITED_BYTES


_MOST_DESCRIPTORS = 2**16
_MOST_CONNECTIONS = 2000


def most_connections() -> int:
    """Allow this process as many open files as it may have; the connections that may be open: half as many."""
    return min(_descriptor_limit() // 2, _MOST_CONNECTIONS)


def _descriptor_limit() -> int:
    try:
        import resource
    except ImportError:  # Windows
        return 1024
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = _MOST_DESCRIPTORS if hard == resource.RLIM_INFINITY else min(hard, _MOST_DESCRIPTORS)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        # macOS reports a limit that it does not allow.
        with suppress(ValueError, OSError):
            resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
            soft = wanted
    return soft if soft != resource.RLIM_INFINITY else _MOST_DESCRIPTORS


_PERIOD_S = 0.25
_DESCRIPTORS = Path("/proc/self/fd")
# struct tcp_info of Linux: eight bytes, then 32-bit numbers; tcpi_last_data_recv is the 12th.
_LAST_RECEIVED = struct.Struct("=52xI")


class ConnectionGuard:
    """Closes the connections that have been silent for the longest when half of the open files are connections.

    gRPC accepts no connections when there are no descriptors left: a client that opens many, and sends little or
    nothing on them, would exclude all others. Linux only: elsewhere the limits of time remain.

    Args:
        most: Connections that stay open.
    """

    def __init__(self, most: int) -> None:
        self._most = most
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._watch, name="connection-guard", daemon=True)

    def start(self, port: int) -> None:
        """Watch the connections to a port of this process."""
        self._port = port
        if _DESCRIPTORS.is_dir():
            self._thread.start()

    def stop(self) -> None:
        """Watch no longer."""
        self._stopping.set()

    def close(self, peer: str) -> None:
        """Close the connection of a client, as gRPC names it: `ipv4:ADDRESS:PORT`."""
        for number in _descriptors() if self._thread.is_alive() else ():
            if _silent_ms(number, self._port, unquote(peer)) is not None:
                _shut(number, self._port)

    def _watch(self) -> None:
        while not self._stopping.wait(_PERIOD_S):
            numbers = _descriptors()
            if len(numbers) > self._most:
                self._close_silent(numbers)

    def _close_silent(self, numbers: Iterable[int]) -> None:
        silent_ms = {number: _silent_ms(number, self._port) for number in numbers}
        clients = {number: silent for number, silent in silent_ms.items() if silent is not None}
        surplus = len(clients) - self._most // 2
        for number in sorted(clients, key=lambda number: -clients[number])[: max(surplus, 0)]:
            _shut(number, self._port)


def _descriptors() -> list[int]:
    try:
        return [int(path.name) for path in _DESCRIPTORS.iterdir()]
    except OSError:  # not one is left to list them with
        return list(range(_descriptor_limit()))


def _silent_ms(number: int, port: int, peer: str | None = None) -> int | None:
    """Time since a client last sent something; None for what is not a connection of a client, or not of this one."""
    try:
        connection = socket.socket(fileno=number)
    except OSError:
        return None
    try:
        if connection.type != socket.SOCK_STREAM or connection.getsockname()[1] != port:
            return None
        host, client_port = connection.getpeername()[:2]
        if peer not in {None, f"ipv4:{host.removeprefix('::ffff:')}:{client_port}", f"ipv6:[{host}]:{client_port}"}:
            return None
        info = connection.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, _LAST_RECEIVED.size)
        return int(_LAST_RECEIVED.unpack(info)[0])
    except (OSError, IndexError, TypeError, struct.error):
        return None
    finally:
        connection.detach()


def _shut(number: int, port: int) -> None:
    """End a connection; gRPC then closes its descriptor. It is checked again, as numbers are used again."""
    if _silent_ms(number, port) is None:
        return
    connection = socket.socket(fileno=number)
    with suppress(OSError):
        connection.shutdown(socket.SHUT_RDWR)
    connection.detach()
