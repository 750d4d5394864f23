"""Associations whose peer is bounded in number, size and time.

pynetdicom speaks the protocol. What it leaves to a peer is bounded here: the lengths that a PDU and a message announce,
how long a PDU takes, how many connections are open, and exceptions in its threads. Nothing of a data set is logged.
"""

import logging
import socket
import sys
import threading
import time
from collections.abc import Callable, Sequence
from socketserver import BaseServer
from typing import Any

from pynetdicom import AE, evt
from pynetdicom.association import Association
from pynetdicom.pdu import P_DATA_TF
from pynetdicom.transport import AssociationServer, AssociationSocket

from ggn_tf.shown_text import kind_of

log = logging.getLogger(__name__)

# A request for an association with 128 contexts of 26 transfer syntaxes has 75 KB.
_PDU_BYTES = 128 << 10
_COMMAND_BYTES = 16 << 10
_RECEIVED_BYTES = 64 << 10
_POLL_S = 0.01


class BoundedEntity(AE):
    """An application entity; the connections that it requests or accepts are bounded.

    Args:
        pdu_s: Seconds for one PDU, in both directions.
    """

    def __init__(self, title: str, message_bytes: int, pdu_s: float) -> None:
        super().__init__(title)
        self.maximum_pdu_size = _PDU_BYTES
        self.bounds: list[Any] = [(evt.EVT_CONN_OPEN, _bound, [message_bytes, pdu_s]), (evt.EVT_PDU_RECV, _count)]
        # Their messages contain values of data sets.
        for name in ("pynetdicom", "pydicom"):
            logging.getLogger(name).setLevel(logging.CRITICAL + 1)

    def _create_socket(self, assoc: Association, *args: Any) -> AssociationSocket:
        # The only call between the creation of a requested association and the start of its threads.
        _guard(assoc)
        return super()._create_socket(assoc, *args)


class BoundedServer:
    """Serves known callers in threads until it is closed.

    Raises:
        OSError: It cannot listen.
    """

    def __init__(
        self, entity: BoundedEntity, callers: Sequence[str], address: tuple[str, int], handlers: Sequence[Any]
    ) -> None:
        entity.require_called_aet, entity.require_calling_aet = True, list(callers)
        self._server: Any = entity.make_server(address, evt_handlers=[*entity.bounds, *handlers], server_class=_Server)
        self.address: tuple[str, int] = self._server.server_address[:2]
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.1,), name="receiver", daemon=True)

    def start(self) -> None:
        """Receive in threads."""
        self._thread.start()

    def close(self) -> None:
        """Accept no more connections and abort the associations."""
        if self._thread.is_alive():
            BaseServer.shutdown(self._server)
        self._server.server_close()
        for association in self._server.active_associations:
            association.abort()


class _Server(AssociationServer):
    """Accepts a bounded number of connections, those that are not associations yet included."""

    request_queue_size = 32

    def verify_request(self, request: Any, client_address: Any) -> bool:
        # Some more than associations, so that one too many is told why.
        return len(self.active_associations) < 2 * self.ae.maximum_associations

    def handle_error(self, request: Any, client_address: Any) -> None:
        log.info("a connection ended: %s", kind_of(sys.exception() or Exception()))


class _Connection:
    """An association's socket that reads no more than what it may send, and waits for it only for some time."""

    def __init__(self, inner: Any, most_bytes: int, pdu_s: float) -> None:
        self._inner, self._most_bytes, self._pdu_s = inner, most_bytes, pdu_s
        self.message_bytes = self.command_bytes = 0
        self._connection: socket.socket = inner.socket
        self._connection.settimeout(pdu_s)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._inner, name)

    def release(self) -> None:
        """Close the socket, which pynetdicom leaves open if the peer was the first."""
        self._connection.close()

    @property
    def ready(self) -> bool:
        """Whether there is something to read; not while a message waits to be processed."""
        return self._inner.assoc.dimse.msg_queue.empty() and bool(self._inner.ready)

    def recv(self, nr_bytes: int) -> bytearray:
        """Read a number of bytes; fewer at the end of the connection; OSError if they are too many or too slow."""
        self.message_bytes += nr_bytes
        if nr_bytes > _PDU_BYTES or self.message_bytes > self._most_bytes + _PDU_BYTES:
            raise OSError("too much data")
        received, ends = bytearray(), time.monotonic() + self._pdu_s
        while len(received) < nr_bytes:
            self._connection.settimeout(max(ends - time.monotonic(), 1e-3))
            part = self._connection.recv(min(nr_bytes - len(received), _RECEIVED_BYTES))
            if not part:
                break
            received += part
        self._connection.settimeout(self._pdu_s)
        return received


def _bound(event: evt.Event, message_bytes: int, pdu_s: float) -> None:
    """Bound a new connection; that of an acceptor before its threads start."""
    association: Any = event.assoc
    association.dul.socket = _Connection(association.dul.socket, message_bytes, pdu_s)
    if association.is_acceptor:
        _guard(association)


def _guard(association: Any) -> None:
    association.run = _guarded(association, association.run)
    association.dul.run = _guarded(association, association.dul.run)


def _guarded(association: Association, run: Callable[[], None]) -> Callable[[], None]:
    """A thread's function that ends by an exception without a traceback, which may quote a data set."""
    dul: Any = association.dul

    def guarded() -> None:
        try:
            run()
        except Exception as error:  # whatever malformed PDUs and commands cause in pynetdicom
            log.info("an association ended: %s", kind_of(error))
            dul.kill_dul()
        if threading.current_thread() is association:
            while dul.is_alive():
                time.sleep(_POLL_S)
            dul.socket.release()

    return guarded


def _count(event: evt.Event) -> None:
    """Abort an association whose command is longer than any, which pynetdicom would parse; begin to count again."""
    connection: Any = event.assoc.dul.socket
    for item in event.pdu.presentation_data_value_items if isinstance(event.pdu, P_DATA_TF) else ():
        value = item.presentation_data_value or b"\0"
        is_command, is_last = value[0] & 1, value[0] & 2  # PS3.8, E.2
        connection.command_bytes += len(value) if is_command else 0
        if connection.command_bytes > _COMMAND_BYTES:
            event.assoc.abort()
        if is_last and is_command:
            connection.command_bytes = 0
        elif is_last:
            connection.message_bytes = 0
