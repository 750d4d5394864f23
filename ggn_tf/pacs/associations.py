"""Associations with an application entity, which end when it is silent, and each of whose failures is one error."""

import socket
import ssl
import threading
import time
import warnings
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import Any

from pydicom.config import disable_value_validation
from pydicom.uid import UID
from pynetdicom import evt
from pynetdicom.association import Association
from pynetdicom.presentation import PresentationContext

from ggn_tf.errors import ArchiveError, PacsError
from ggn_tf.pacs.archive import Entity, refuse_bad_title
from ggn_tf.pacs.bounded_associations import BoundedEntity, BoundedServer
from ggn_tf.pacs.credentials import PacsCredentials

# Of one request: 3000 slices are 1.5 GB; an enhanced CT is one instance.
_MOST_BYTES, _INSTANCE_BYTES = 16 << 30, 2 << 30
_LONGEST_S = 24 * 3600.0
# Of a C-MOVE; archives use one, or one after the other.
_MOST_ASSOCIATIONS = 4
_CHECKS_PER_TIMEOUT = 8


class Network:
    """Associations of this client with one archive.

    Raises:
        PacsError: The title or a file for TLS cannot be used.
    """

    def __init__(self, archive: Entity, title: str, credentials: PacsCredentials, timeout: float) -> None:
        refuse_bad_title(title, "calling_aet")
        self.archive, self.title, self._timeout = archive, title, timeout
        self._tls = _tls_context(archive, credentials)

    @contextmanager
    def associated(
        self,
        what: str,
        contexts: Sequence[PresentationContext],
        watch: "Watch",
        handlers: Sequence[Any] = (),
        roles: Sequence[Any] = (),
    ) -> Iterator[Association]:
        """An association; released at the end of the block, aborted where the block fails.

        Raises:
            PacsError: It is not established, or a response in the block is not DICOM.
        """
        address = (self.archive.host, self.archive.port)
        tls = None if self._tls is None else (self._tls, self.archive.host)
        with self.explained(what):
            entity = self._entity()
            association = entity.associate(
                *address,
                contexts=list(contexts),
                ae_title=self.archive.title,
                ext_neg=list(roles),
                evt_handlers=[*entity.bounds, *handlers, *watch.handlers()],
                tls_args=tls,
            )
            try:
                if not association.is_established:
                    raise self.error(what, self._refusal(association, watch))
                yield association
            except BaseException:
                association.abort()
                raise
            association.release()

    @contextmanager
    def listening(
        self, what: str, port: int, contexts: Sequence[PresentationContext], handlers: Sequence[Any], watch: "Watch"
    ) -> Iterator[None]:
        """A storage server for this archive alone, at the address of this machine that reaches it.

        Raises:
            PacsError: The port cannot be opened.
        """
        entity = self._entity()
        entity.supported_contexts, entity.maximum_associations = list(contexts), _MOST_ASSOCIATIONS
        try:
            family, kind, _, _, there = socket.getaddrinfo(
                self.archive.host, self.archive.port, type=socket.SOCK_DGRAM
            )[0]
            with socket.socket(family, kind) as probe:
                probe.connect(there)
                here = probe.getsockname()[0]
            server = BoundedServer(entity, [self.archive.title], (here, port), [*handlers, *watch.handlers()])
        except OSError as error:
            raise self.error(what, f"port {port} of this machine cannot be opened ({error.strerror})") from None
        server.start()
        try:
            yield
        finally:
            server.close()

    def require(self, what: str, association: Association, kinds: Sequence[str]) -> None:
        """Raise PacsError for an association that does not accept every SOP class."""
        accepted = {context.abstract_syntax for context in association.accepted_contexts}
        if set(kinds) - accepted:
            raise self.error(what, _without_context(set(kinds) - accepted))

    @contextmanager
    def explained(self, what: str) -> Iterator[None]:
        """One error for whatever the libraries raise, without a word of the archive's."""
        try:
            # pydicom warns of values, and logs them.
            with warnings.catch_warnings(action="ignore"), disable_value_validation():
                yield
        except PacsError:
            raise
        except socket.gaierror:
            raise self.error(what, "no such host") from None
        except Exception as error:
            raise self.error(what, f"a response that is not DICOM ({type(error).__name__})") from None

    def error(self, what: str, found: str) -> ArchiveError:
        """The error of a failed request."""
        return ArchiveError(
            f"The archive failed: {what}.",
            case=self.archive,
            found=found,
            expected=f"an archive that knows this client as {self.title}, with C-FIND, C-GET or C-MOVE, and C-STORE",
            remedy="Check the address, the AE titles, the port for a C-MOVE and the certificates, and try again.",
            arguments=("pacs", "calling_aet", "move_port", "pacs_ca"),
        )

    def _entity(self) -> BoundedEntity:
        # The watch ends silent associations first, except those whose thread has ended.
        entity = BoundedEntity(self.title, _INSTANCE_BYTES, 2 * self._timeout)
        entity.connection_timeout, entity.acse_timeout = self._timeout, 2 * self._timeout
        # These would also end a transfer that takes longer.
        entity.dimse_timeout = entity.network_timeout = None
        return entity

    def _refusal(self, association: Association, watch: "Watch") -> str:
        rejection = association.acceptor.primitive
        if association.is_rejected and rejection is not None:
            return f"a rejected association: {rejection.reason_str}"
        if association.rejected_contexts:
            return _without_context({str(context.abstract_syntax) for context in association.rejected_contexts})
        if watch.opened:
            return watch.silence
        return "no connection" if self._tls is None else "no connection with TLS and a certificate that is trusted"


class Watch:
    """Ends connections that are silent for some time, take too long, or bring too much.

    pynetdicom would wait for ever for the rest of a part that began.

    Attributes:
        silence: Why no response came.
    """

    def __init__(self, timeout: float, longest_s: float = _LONGEST_S) -> None:
        self.opened, self.silence = False, "a connection that ended early"
        self._timeout, self._longest, self._bytes = timeout, longest_s, 0
        self._begun = self._last = time.monotonic()
        self._associations: list[Association] = []
        self._done = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)

    def __enter__(self) -> "Watch":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._done.set()
        self._thread.join()
        for association in self._associations:
            association.dul.socket.release()  # type: ignore[union-attr]

    def handlers(self) -> list[Any]:
        """For the events of a connection."""
        return [(evt.EVT_CONN_OPEN, self._open), (evt.EVT_DATA_RECV, self._receive), (evt.EVT_DATA_SENT, self._send)]

    def _open(self, event: Any) -> None:
        self.opened = True
        self._associations.append(event.assoc)
        self._send(event)

    def _receive(self, event: Any) -> None:
        self._send(event)
        self._bytes += len(event.data)
        if self._bytes > _MOST_BYTES:
            self._end(f"more than {_MOST_BYTES} bytes")

    def _send(self, event: Any) -> None:
        # Not of a peer that has not said that it is the archive.
        if event.assoc.is_requestor or event.assoc.is_established:
            self._last = time.monotonic()

    def _run(self) -> None:
        while not self._done.wait(self._timeout / _CHECKS_PER_TIMEOUT):
            now = time.monotonic()
            if self.opened and now - self._last > self._timeout:
                self._end(f"no answer within {self._timeout:g} s")
                return
            if now - self._begun > self._longest:
                self._end(f"no end within {self._longest:g} s")
                return

    def _end(self, why: str) -> None:
        self.silence = why
        for association in self._associations:
            with suppress(AttributeError, OSError):  # closed before
                association.dul.socket.socket.shutdown(socket.SHUT_RDWR)  # type: ignore[union-attr]
            if association.is_requestor:
                # As at the end of a connection; the thread that would do so may have ended.
                association.dimse.msg_queue.put((None, None))


def _without_context(kinds: Iterable[str]) -> str:
    return f"no presentation context for {', '.join(sorted(UID(kind).name for kind in kinds))}"


def _tls_context(archive: Entity, credentials: PacsCredentials) -> ssl.SSLContext | None:
    files = (credentials.authorities, credentials.certificate, credentials.key)
    if not archive.encrypted:
        if any(files):
            raise _unusable_tls("files for TLS, and an address without TLS")
        return None
    try:
        context = ssl.create_default_context(cafile=credentials.authorities)
        if credentials.certificate is not None:
            # An empty password: OpenSSL would ask for one.
            context.load_cert_chain(credentials.certificate, credentials.key, password="")
    except (OSError, ValueError) as error:
        raise _unusable_tls(type(error).__name__) from None
    return context


def _unusable_tls(found: str) -> PacsError:
    return PacsError(
        "The files for TLS cannot be used.",
        found=found,
        expected="PEM files, a key without a password, and an archive at dicom-tls://AET@HOST:PORT",
        remedy="Correct the files or the address.",
        arguments=("pacs_ca", "pacs_cert", "pacs_key"),
    )
