"""The network side of a node: C-ECHO and C-STORE for known callers, bounded in number, size and time.

pynetdicom speaks the protocol. What it leaves to a peer is bounded here: the lengths that a PDU and a message announce,
how long they take, how many connections are open, and exceptions in its threads. Nothing of a data set is logged.
"""

import logging
import re
import socket
import sys
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from socketserver import BaseServer
from typing import Any

from pynetdicom import AE, evt
from pynetdicom.association import Association
from pynetdicom.dsutils import encode_file_meta
from pynetdicom.pdu import P_DATA_TF
from pynetdicom.transport import AssociationServer

from ggn_tf.cases.dicom.elements import IMPLICIT, PIXELS, PREAMBLE, walk
from ggn_tf.cases.dicom.folder import ENHANCED
from ggn_tf.cases.dicom.segmentation import MAKER, SEGMENTATIONS
from ggn_tf.dicom_node.study import Instance
from ggn_tf.dicom_node.study_queue import QueueFullError
from ggn_tf.errors import PacsError
from ggn_tf.pacs.points import REPORTS
from ggn_tf.serving.contract.addresses import is_loopback, join_address
from ggn_tf.shown_text import kind_of

log = logging.getLogger(__name__)

_CT = ("1.2.840.10008.5.1.4.1.1.2", *ENHANCED)
_MARKERS = (*SEGMENTATIONS, *REPORTS)
_ECHO = "1.2.840.10008.1.1"
_BIG_ENDIAN = "1.2.840.10008.1.2.2"
# Without deflated data sets. Lossless and lossy JPEG, JPEG-LS, JPEG 2000 and RLE as they are.
_SYNTAXES = [
    "1.2.840.10008.1.2.1",
    IMPLICIT,
    _BIG_ENDIAN,
    *(f"1.2.840.10008.1.2.4.{number}" for number in (50, 51, 57, 70, 80, 81, 90, 91)),
    "1.2.840.10008.1.2.5",
]
_SOP_CLASS_TAG, _UID_TAG, _MAKER_TAG, _STUDY_TAG, _SERIES_TAG = (
    0x00080016,
    0x00080018,
    0x00080070,
    0x0020000D,
    0x0020000E,
)
_TAGS = frozenset((_SOP_CLASS_TAG, _UID_TAG, _MAKER_TAG, _STUDY_TAG, _SERIES_TAG))
_A_UID = re.compile(r"[0-9.]{1,64}", re.ASCII)
_SUCCESS, _OUT_OF_RESOURCES, _NO_MATCH, _NOT_UNDERSTOOD = 0x0000, 0xA700, 0xA900, 0xC000
# A request for an association with 128 contexts of 26 transfer syntaxes has 75 KB.
_PDU_BYTES = 128 << 10
_COMMAND_BYTES = 16 << 10
_RECEIVED_BYTES = 64 << 10
_POLL_S = 0.01


@dataclass(frozen=True)
class ReceiverOptions:
    """Who may send what.

    Attributes:
        title: AE title of this node.
        callers: Known calling AE titles.
        port: Port to listen on; 0 picks a free one.
        host: Address to listen on; loopback by default, because nothing is encrypted.
        associations: How many there may be at a time.
        instance_bytes: Largest data set; that of each association is in memory until it is stored.
        pdu_s: Seconds for one PDU, in both directions.
        idle_s: Seconds without one, after which an association ends.
    """

    title: str
    callers: Sequence[str]
    port: int
    host: str = "127.0.0.1"
    associations: int = 8
    instance_bytes: int = 512 << 20
    pdu_s: float = 10.0
    idle_s: float = 60.0


class Receiver:
    """Receives instances until it is closed.

    Args:
        options: The options.
        receive: Stores an instance before it returns.

    Attributes:
        address: HOST:PORT.

    Raises:
        PacsError: It cannot listen.
    """

    def __init__(self, options: ReceiverOptions, receive: Callable[[Instance], None]) -> None:
        # Their messages contain values of data sets.
        for name in ("pynetdicom", "pydicom"):
            logging.getLogger(name).setLevel(logging.CRITICAL + 1)
        entity = AE(options.title)
        entity.require_called_aet, entity.require_calling_aet = True, list(options.callers)
        entity.maximum_associations, entity.maximum_pdu_size = options.associations, _PDU_BYTES
        entity.acse_timeout = entity.dimse_timeout = options.pdu_s
        entity.network_timeout = options.idle_s
        for sop_class in (*_CT, *_MARKERS):
            entity.add_supported_context(sop_class, _SYNTAXES)
        entity.add_supported_context(_ECHO, _SYNTAXES[:2])
        self._receive, host = receive, options.host.strip("[]")
        try:
            self._server = entity.make_server(
                (host, options.port),
                evt_handlers=[
                    (evt.EVT_CONN_OPEN, _bound, [options]),
                    (evt.EVT_PDU_RECV, _count),
                    (evt.EVT_REJECTED, _log_rejected),
                    (evt.EVT_C_STORE, self._store),
                ],
                server_class=_Server,
            )
        except OSError as error:
            raise cannot_listen(join_address(host, options.port), error, "port") from error
        self.address = join_address(host, self._server.server_address[1])
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.1,), name="receiver", daemon=True)

    def start(self) -> None:
        """Receive in threads."""
        if not is_loopback(self._server.server_address[0]):
            log.warning("%s can be reached from other machines, without passwords or encryption", self.address)
        self._thread.start()

    def close(self) -> None:
        """Accept no more connections and abort the associations; what was confirmed is stored."""
        if self._thread.is_alive():
            BaseServer.shutdown(self._server)
        self._server.server_close()
        for association in self._server.active_associations:
            association.abort()

    def _store(self, event: evt.Event) -> int:
        try:
            instance = _read(event)
            if isinstance(instance, Instance):
                self._receive(instance)
                return _SUCCESS
            return instance
        except (QueueFullError, OSError, MemoryError) as error:
            log.warning("an instance was refused: %s", type(error).__name__)
            return _OUT_OF_RESOURCES
        except Exception as error:  # whatever a data set causes, its sender gets a status
            log.warning("an instance cannot be used: %s", kind_of(error))
            return _NOT_UNDERSTOOD


def cannot_listen(address: str, error: OSError, argument: str) -> PacsError:
    """The error of a port that cannot be used; `argument` sets it."""
    return PacsError(
        "The DICOM node cannot listen.",
        case=address,
        found=error.strerror or error,
        expected="a free port of this machine",
        remedy="Choose another port (0 picks a free one), or stop the program that uses it.",
        arguments=(argument,),
    )


def _read(event: evt.Event) -> Instance | int:
    """An instance, or the status of one that is not stored."""
    content, syntax = event.encoded_dataset(include_meta=False), str(event.context.transfer_syntax)
    header: dict[int, str] = {}
    order = ">" if syntax == _BIG_ENDIAN else "<"
    for element in walk(content, 0, len(content), _TAGS, syntax != IMPLICIT, order, thorough=True):
        if element.tag != PIXELS:
            value = content[element.start : element.start + element.length]
            header[element.tag] = value.decode("ascii", "replace").strip(" \0")
    sop_class, uid = header.get(_SOP_CLASS_TAG, ""), header.get(_UID_TAG, "")
    marks = sop_class in _MARKERS
    series = None if marks else header.get(_SERIES_TAG, "")
    request: Any = event.request
    received = (request.AffectedSOPClassUID, request.AffectedSOPInstanceUID)
    if sop_class not in (*_CT, *_MARKERS) or (sop_class, uid) != received:
        return _NO_MATCH
    if not all(_A_UID.fullmatch(text) for text in (uid, header.get(_STUDY_TAG, ""), uid if series is None else series)):
        return _NOT_UNDERSTOOD
    if marks and header.get(_MAKER_TAG) == MAKER:
        # Our own answer, which the archive has sent like everything else in the study.
        return _SUCCESS
    start = b"\0" * (PREAMBLE - 4) + b"DICM" + encode_file_meta(event.file_meta)
    return Instance(header[_STUDY_TAG], uid, series, (start, content))


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

    def __init__(self, inner: Any, options: ReceiverOptions) -> None:
        self._inner, self._options = inner, options
        self.message_bytes = self.command_bytes = 0
        self._connection: socket.socket = inner.socket
        self._connection.settimeout(options.pdu_s)

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
        if nr_bytes > _PDU_BYTES or self.message_bytes > self._options.instance_bytes + _PDU_BYTES:
            raise OSError("too much data")
        received, ends = bytearray(), time.monotonic() + self._options.pdu_s
        while len(received) < nr_bytes:
            self._connection.settimeout(max(ends - time.monotonic(), 1e-3))
            part = self._connection.recv(min(nr_bytes - len(received), _RECEIVED_BYTES))
            if not part:
                break
            received += part
        self._connection.settimeout(self._options.pdu_s)
        return received


def _bound(event: evt.Event, options: ReceiverOptions) -> None:
    """Bound a new connection, before its threads start."""
    association: Any = event.assoc
    association.dul.socket = _Connection(association.dul.socket, options)
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


def _log_rejected(event: evt.Event) -> None:
    log.warning("an association was refused from %s", event.assoc.remote["address"])
