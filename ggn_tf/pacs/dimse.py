"""A DICOM archive behind DICOM's network protocol: C-FIND, C-GET or C-MOVE, and C-STORE.

What an archive writes into its responses is never repeated in errors: it may name patients. The network code is
pynetdicom's, of the extra `pacs`.
"""

from collections import deque
from collections.abc import Iterable, Sequence
from collections.abc import Set as AbstractSet
from pathlib import Path
from typing import Any

import pydicom
from pydicom.dataset import Dataset
from pynetdicom import build_context, build_role, evt
from pynetdicom.presentation import PresentationContext

from ggn_tf.errors import ArchiveError
from ggn_tf.pacs.archive import (
    CALLING_AET,
    MOST_INSTANCES,
    SEND_AGAIN,
    STORED,
    Entity,
    PacsSeries,
    choose_series,
    refuse_incomplete,
)
from ggn_tf.pacs.associations import Network, Watch
from ggn_tf.pacs.credentials import PacsCredentials
from ggn_tf.pacs.points import CTS, MARKERS, PLAIN, SYNTAXES

# Query/Retrieve, study root.
_FIND, _MOVE, _GET = (f"1.2.840.10008.5.1.4.1.2.2.{number}" for number in (1, 2, 3))
_KINDS = (*CTS, *MARKERS)
# Of the longest wait for a match; a search has 20,000 at most.
_SEARCH_TIMEOUTS = 10
_SUCCESS, _NO_RESOURCES, _NO_MATCH = 0x0000, 0xA700, 0xA900
_PENDING, _WARNINGS = (0xFF00, 0xFF01), range(0xB000, 0xC000)
_STORAGE = "storage of the objects"
_RETRIEVAL = "retrieval of the series"


class Dimse:
    """A connection to an archive; each request is an association of its own.

    Args:
        url: dicom://AET@HOST:PORT, or dicom-tls:// for TLS.
        credentials: The files for TLS.
        timeout: Seconds for a connection, and for each wait for data.
        calling_aet: The AE title under which the archive knows this client.
        move_port: Port of this machine to which the archive sends on C-MOVE; None for C-GET, over the connection that
            requests it.

    Raises:
        PacsError: The address, the title or a file cannot be used.
    """

    def __init__(
        self,
        url: str,
        credentials: PacsCredentials,
        timeout: float,
        calling_aet: str = CALLING_AET,
        move_port: int | None = None,
    ) -> None:
        self._archive = Entity.parse(url)
        self._network = Network(self._archive, calling_aet, credentials, timeout)
        self._timeout, self._move_port = timeout, move_port
        if move_port is not None and self._archive.encrypted:
            raise self._network.error(_RETRIEVAL, "C-MOVE, which is not supported with TLS")

    def find(self, study: str | None, series: str | None) -> PacsSeries:
        """Find a series by its UID, or the one CT series of a study.

        Raises:
            PacsError: There is none, or more than one; the study is None; or the request fails.
        """
        if study is None:
            # A search below a study needs its UID (PS3.4, C.4.1.2.1).
            raise ArchiveError(
                "The series cannot be found without its study.",
                case=self._archive,
                expected="a StudyInstanceUID, which this protocol requires",
                remedy="Give the UID of the study.",
                arguments=("study",),
            )
        keys = {"StudyInstanceUID": study, "SeriesInstanceUID": series or "", "Modality": ""}
        rows = self._search("search for the series", "SERIES", keys)
        found = [(study, uid, modality) for one, uid, modality in rows if one in ("", study)]
        return choose_series(found, series, str(self._archive))

    def fetch(self, wanted: PacsSeries, folder: Path) -> None:
        """Write every instance of a series into an empty folder.

        Raises:
            PacsError: The request fails, or the archive sends other instances than it announced.
        """
        keys = {"StudyInstanceUID": wanted.study, "SeriesInstanceUID": wanted.series}
        rows = self._search("list of the instances", "IMAGE", {**keys, "SOPInstanceUID": ""})
        announced = {uid for *_, uid in rows}
        inbox = _Inbox(folder, announced)
        self._retrieve(_identifier("SERIES", keys), inbox)
        with self._network.explained(_RETRIEVAL):
            received = {_instance_of(path, wanted.series) for path in folder.iterdir()}
        refuse_incomplete(announced, received, str(self._archive))

    def send(self, study: str, objects: Sequence[Path]) -> int:
        """Store objects over one association, if the archive accepts the kinds of all of them.

        Returns:
            The number of objects.

        Raises:
            PacsError: The request fails, or the archive does not store an object, or changes it.
        """
        datasets = [pydicom.dcmread(path) for path in objects]
        kinds = sorted({str(item.SOPClassUID) for item in datasets})
        contexts = [_context(kind) for kind in kinds]
        stored, codes = 0, set[str]()
        with Watch(self._timeout) as watch, self._network.associated(_STORAGE, contexts, watch) as association:
            self._network.require(_STORAGE, association, kinds)
            for dataset in datasets:
                status = association.send_c_store(dataset).get("Status")
                if status is None:
                    found = f"{watch.silence}; {stored} of {len(datasets)} objects confirmed"
                    raise self._network.error(_STORAGE, found)
                stored += status == _SUCCESS
                codes |= {f"{status:04X}"} if status != _SUCCESS else set()
                if status != _SUCCESS and status not in _WARNINGS:
                    break
        if codes:
            raise ArchiveError(
                "The archive did not store every object without a change.",
                case=self._archive,
                found=f"{stored} of {len(datasets)} confirmed, status {', '.join(sorted(codes))}",
                expected=STORED,
                remedy=f"Look up the status in DICOM PS3.4, B.2.3, or in the archive's log. {SEND_AGAIN}",
            )
        return stored

    def close(self) -> None:
        """Nothing is open between requests."""

    def _search(self, what: str, level: str, keys: dict[str, str]) -> list[tuple[str, ...]]:
        """The values of the keys in every match."""
        rows: list[tuple[str, ...]] = []
        with (
            Watch(self._timeout, _SEARCH_TIMEOUTS * self._timeout) as watch,
            self._network.associated(what, [_context(_FIND)], watch) as association,
        ):
            self._network.require(what, association, [_FIND])
            for status, match in association.send_c_find(_identifier(level, keys), _FIND):
                if status.get("Status") is None:
                    raise self._network.error(what, watch.silence)
                if status.Status in _PENDING:
                    if match is None or len(rows) >= MOST_INSTANCES:
                        raise self._network.error(what, f"a match without content, or more than {MOST_INSTANCES}")
                    rows.append(tuple(str(match.get(key) or "") for key in keys))
                elif status.Status != _SUCCESS:
                    raise self._network.error(what, f"status {status.Status:04X}")
        return rows

    def _retrieve(self, identifier: Dataset, inbox: "_Inbox") -> None:
        handlers = [(evt.EVT_C_STORE, inbox.store)]
        with Watch(self._timeout) as watch:
            if self._move_port is None:
                contexts = [_context(kind) for kind in _KINDS]
                # One for each: of a context with several, the archive chooses one for all instances.
                contexts += [_context(kind, syntax) for kind in _KINDS for syntax in SYNTAXES if syntax not in PLAIN]
                roles = [build_role(kind, scp_role=True) for kind in _KINDS]
                requested = [_context(_GET), *contexts]
                with self._network.associated(_RETRIEVAL, requested, watch, handlers, roles) as association:
                    self._network.require(_RETRIEVAL, association, [_GET])
                    self._finish(association.send_c_get(identifier, _GET), inbox, watch)
                return
            contexts = [_context(kind, *SYNTAXES) for kind in _KINDS]
            with (
                self._network.listening(_RETRIEVAL, self._move_port, contexts, handlers, watch),
                self._network.associated(_RETRIEVAL, [_context(_MOVE)], watch) as association,
            ):
                self._network.require(_RETRIEVAL, association, [_MOVE])
                self._finish(association.send_c_move(identifier, self._network.title, _MOVE), inbox, watch)

    def _finish(self, responses: Iterable[tuple[Dataset, Any]], inbox: "_Inbox", watch: Watch) -> None:
        """Wait for the last response."""
        ((final, _),) = deque(responses, maxlen=1)
        if inbox.problem is not None:
            raise self._network.error(_RETRIEVAL, inbox.problem)
        code, failed = final.get("Status"), final.get("NumberOfFailedSuboperations")
        if code is None:
            raise self._network.error(_RETRIEVAL, watch.silence)
        if code != _SUCCESS or failed:
            raise self._network.error(_RETRIEVAL, f"status {code:04X}, {failed or 0} instances failed")


class _Inbox:
    """A folder that receives instances, each of them once.

    Attributes:
        problem: Why an instance was not received; None without a problem.
    """

    def __init__(self, folder: Path, announced: AbstractSet[str]) -> None:
        self.problem: str | None = None
        self._folder, self._numbers = folder, {uid: number for number, uid in enumerate(sorted(announced))}

    def store(self, event: Any) -> int:
        """Handle a C-STORE request; returns its status."""
        number = self._numbers.get(str(event.request.AffectedSOPInstanceUID))
        if number is None:
            return _NO_MATCH
        try:
            (self._folder / f"{number:05d}.dcm").write_bytes(event.encoded_dataset())
        except OSError as error:
            self.problem = f"an instance that cannot be written ({error.strerror})"
            return _NO_RESOURCES
        return _SUCCESS


def _instance_of(path: Path, series: str) -> str:
    header = pydicom.dcmread(path, stop_before_pixels=True, specific_tags=["SOPInstanceUID", "SeriesInstanceUID"])
    if header.SeriesInstanceUID != series:
        raise ValueError("instances that were not requested")
    return str(header.SOPInstanceUID)


def _identifier(level: str, keys: dict[str, str]) -> Dataset:
    identifier = Dataset()
    identifier.QueryRetrieveLevel = level
    for name, value in keys.items():
        setattr(identifier, name, value)
    return identifier


def _context(kind: str, *syntaxes: str) -> PresentationContext:
    return build_context(kind, list(syntaxes or PLAIN))
