"""The network side of a node: C-ECHO and C-STORE for known callers. Nothing of a data set is logged."""

import logging
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from pynetdicom import evt
from pynetdicom.dsutils import encode_file_meta

from ggn_tf.cases.dicom.elements import IMPLICIT, PIXELS, PREAMBLE, walk
from ggn_tf.cases.dicom.segmentation import MAKER
from ggn_tf.dicom_node.study import Instance
from ggn_tf.dicom_node.study_queue import QueueFullError
from ggn_tf.errors import PacsError
from ggn_tf.pacs.bounded_associations import BoundedEntity, BoundedServer
from ggn_tf.pacs.points import BIG_ENDIAN, CTS, MARKERS, PLAIN, SYNTAXES
from ggn_tf.serving.contract.tls import is_loopback, join_address
from ggn_tf.shown_text import kind_of

log = logging.getLogger(__name__)

_ECHO = "1.2.840.10008.1.1"
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


@dataclass(frozen=True)
class ReceiverOptions:
    """Who may send what.

    Attributes:
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
        receive: Stores an instance before it returns.

    Raises:
        PacsError: It cannot listen.
    """

    def __init__(self, options: ReceiverOptions, receive: Callable[[Instance], None]) -> None:
        entity = BoundedEntity(options.title, options.instance_bytes, options.pdu_s)
        entity.maximum_associations, entity.network_timeout = options.associations, options.idle_s
        entity.acse_timeout = entity.dimse_timeout = options.pdu_s
        for sop_class in (*CTS, *MARKERS):
            entity.add_supported_context(sop_class, [*SYNTAXES])
        entity.add_supported_context(_ECHO, [*PLAIN])
        self._receive, host = receive, options.host.strip("[]")
        try:
            handlers = [(evt.EVT_REJECTED, _log_rejected), (evt.EVT_C_STORE, self._store)]
            self._server = BoundedServer(entity, options.callers, (host, options.port), handlers)
        except OSError as error:
            raise cannot_listen(join_address(host, options.port), error, "port") from error
        self.address = join_address(host, self._server.address[1])

    def start(self) -> None:
        """Receive in threads."""
        if not is_loopback(self._server.address[0]):
            log.warning("%s can be reached from other machines, without passwords or encryption", self.address)
        self._server.start()

    def close(self) -> None:
        """Accept no more connections and abort the associations; what was confirmed is stored."""
        self._server.close()

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
    order = ">" if syntax == BIG_ENDIAN else "<"
    for element in walk(content, 0, len(content), _TAGS, syntax != IMPLICIT, order, thorough=True):
        if element.tag != PIXELS:
            value = content[element.start : element.start + element.length]
            header[element.tag] = value.decode("ascii", "replace").strip(" \0")
    sop_class, uid = header.get(_SOP_CLASS_TAG, ""), header.get(_UID_TAG, "")
    marks = sop_class in MARKERS
    series = None if marks else header.get(_SERIES_TAG, "")
    request: Any = event.request
    received = (request.AffectedSOPClassUID, request.AffectedSOPInstanceUID)
    if sop_class not in (*CTS, *MARKERS) or (sop_class, uid) != received:
        return _NO_MATCH
    if not all(_A_UID.fullmatch(text) for text in (uid, header.get(_STUDY_TAG, ""), uid if series is None else series)):
        return _NOT_UNDERSTOOD
    if marks and header.get(_MAKER_TAG) == MAKER:
        # Our own answer, which the archive has sent like everything else in the study.
        return _SUCCESS
    start = b"\0" * (PREAMBLE - 4) + b"DICM" + encode_file_meta(event.file_meta)
    return Instance(header[_STUDY_TAG], uid, series, (start, content))


def _log_rejected(event: evt.Event) -> None:
    log.warning("an association was refused from %s", event.assoc.remote["address"])
