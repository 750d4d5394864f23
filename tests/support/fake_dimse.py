"""A DICOM archive (C-FIND, C-GET, C-MOVE, C-STORE) on loopback with faults of real ones, and peers that are none."""

import contextlib
import socket
import ssl
import threading
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from io import BytesIO
from pathlib import Path

import pydicom
from pydicom.dataset import Dataset
from pynetdicom import AE, build_context, evt
from pynetdicom.sop_class import (
    Comprehensive3DSRStorage,
    ComprehensiveSRStorage,
    CTImageStorage,
    SegmentationStorage,
    StudyRootQueryRetrieveInformationModelFind,
    StudyRootQueryRetrieveInformationModelGet,
    StudyRootQueryRetrieveInformationModelMove,
)

TITLE = "ARCHIVE"
FIND, GET, MOVE = (
    StudyRootQueryRetrieveInformationModelFind,
    StudyRootQueryRetrieveInformationModelGet,
    StudyRootQueryRetrieveInformationModelMove,
)
CT, SEG, SR, SR_3D = CTImageStorage, SegmentationStorage, ComprehensiveSRStorage, Comprehensive3DSRStorage


@dataclass
class DimseArchive:
    """An archive.

    Attributes:
        instances: Files by SOPInstanceUID.
        status: The status of an operation (find, get, move, or the SOP class of a C-STORE) instead of success.
        hidden: How many instances are announced and not sent.
        silent: An operation without an answer.
        aborted: An operation during which the association is aborted.
        endless: Whether a C-FIND has matches without an end.
        raw: Bytes that are sent before the answer to a C-FIND.
        foreign: An instance that is sent instead of the first.
        destination: Port at which the caller receives a C-MOVE.
        stored: SOP classes in the order of their C-STORE.
    """

    instances: dict[str, bytes] = field(default_factory=dict)
    status: dict[str, int] = field(default_factory=dict)
    hidden: int = 0
    silent: str = ""
    aborted: str = ""
    endless: bool = False
    raw: bytes = b""
    foreign: Dataset | None = None
    destination: int = 0
    stored: list[str] = field(default_factory=list)
    _released: threading.Event = field(default_factory=threading.Event)

    def add(self, folder: Path) -> None:
        for path in folder.iterdir():
            self.instances[str(pydicom.dcmread(path).SOPInstanceUID)] = path.read_bytes()

    @contextlib.contextmanager
    def serve(
        self,
        kinds: Iterable[str] = (FIND, GET, MOVE, CT, SEG, SR, SR_3D),
        caller: str = "",
        tls: ssl.SSLContext | None = None,
    ) -> Iterator[str]:
        """Serve; yields the address. `caller` is the only AE title that it knows."""
        entity = AE(TITLE)
        entity.require_called_aet, entity.require_calling_aet = True, [caller] if caller else []
        contexts = [build_context(kind) for kind in kinds if kind != CT]
        contexts += (
            [build_context(CT, ["1.2.840.10008.1.2", "1.2.840.10008.1.2.1", "1.2.840.10008.1.2.4.80"])]
            if CT in kinds
            else []
        )
        for context in contexts:
            context.scu_role = context.scp_role = True
        entity.requested_contexts = [build_context(kind) for kind in (CT, SEG, SR, SR_3D)]
        handlers = [
            (evt.EVT_C_FIND, self._find),
            (evt.EVT_C_GET, self._get),
            (evt.EVT_C_MOVE, self._move),
            (evt.EVT_C_STORE, self._store),
        ]
        server = entity.start_server(
            ("127.0.0.1", 0), block=False, contexts=contexts, evt_handlers=handlers, ssl_context=tls
        )
        try:
            yield f"dicom{'-tls' if tls else ''}://{TITLE}@127.0.0.1:{server.socket.getsockname()[1]}"
        finally:
            self._released.set()
            server.shutdown()

    def headers(self) -> list[Dataset]:
        return [pydicom.dcmread(BytesIO(content)) for content in self.instances.values()]

    def resume(self) -> None:
        """End the silence."""
        self._released.set()

    def _fails(self, event: evt.Event, operation: str) -> bool:
        if self.silent == operation:
            self._released.wait(20)
        if self.aborted == operation:
            event.assoc.abort()
        return operation in self.status

    def _find(self, event: evt.Event) -> Iterator[tuple[int, Dataset | None]]:
        asked = event.identifier
        if self.raw:
            event.assoc.dul.socket.socket.sendall(self.raw)
            self._released.wait(1)
        if self._fails(event, "find"):
            yield self.status["find"], None
            return
        if not asked.StudyInstanceUID:
            yield 0xA900, None
            return
        key = "SOPInstanceUID" if asked.QueryRetrieveLevel == "IMAGE" else "SeriesInstanceUID"
        found: dict[str, Dataset] = {str(header[key].value): header for header in self._matching(asked)}
        for header in found.values():
            answer = Dataset()
            for name in ("StudyInstanceUID", "SeriesInstanceUID", "SOPInstanceUID", "Modality"):
                if name in asked:
                    answer[name] = header[name]
            answer.PatientName = header.PatientName
            yield 0xFF00, answer
            while self.endless and not self._released.wait(0.02):
                yield 0xFF00, answer

    def _matching(self, asked: Dataset) -> list[Dataset]:
        names = ("StudyInstanceUID", "SeriesInstanceUID")
        return [
            header
            for header in self.headers()
            if all(not asked.get(name) or asked[name].value == header[name].value for name in names)
        ]

    def _get(self, event: evt.Event) -> Iterator[object]:
        sent = self._matching(event.identifier)[self.hidden :]
        yield len(sent)
        yield from self._deliver(event, "get", sent)

    def _move(self, event: evt.Event) -> Iterator[object]:
        yield "127.0.0.1", self.destination
        sent = self._matching(event.identifier)[self.hidden :]
        yield len(sent)
        yield from self._deliver(event, "move", sent)

    def _deliver(self, event: evt.Event, operation: str, sent: list[Dataset]) -> Iterator[tuple[int, Dataset | None]]:
        for number, dataset in enumerate(sent):
            if number and self._fails(event, operation):
                yield self.status[operation], None
                return
            yield 0xFF00, dataset if number or self.foreign is None else self.foreign

    def _store(self, event: evt.Event) -> int:
        kind = str(event.request.AffectedSOPClassUID)
        self.stored.append(kind)
        status = self.status.get(kind, 0) if not self._fails(event, "store") else self.status["store"]
        if status < 0xA000 or status >= 0xB000:
            self.instances[str(event.request.AffectedSOPInstanceUID)] = event.encoded_dataset()
        return status


@contextlib.contextmanager
def raw_peer(reply: bytes, *, closes: bool = False) -> Iterator[str]:
    """A peer that reads a little, sends a reply, and closes the connection or is silent."""
    done = threading.Event()

    def answer() -> None:
        with contextlib.suppress(OSError):
            while not done.is_set():
                connection, _ = server.accept()
                with connection:
                    connection.recv(1000)
                    connection.sendall(reply)
                    done.wait(0 if closes else 20)

    with socket.create_server(("127.0.0.1", 0)) as server:
        thread = threading.Thread(target=answer, daemon=True)
        thread.start()
        try:
            yield f"dicom://{TITLE}@127.0.0.1:{server.getsockname()[1]}"
        finally:
            done.set()
            server.shutdown(socket.SHUT_RDWR)
            thread.join()
