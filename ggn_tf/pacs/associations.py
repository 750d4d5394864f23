"""Associations with an application entity, which end when it is silent, and each of whose failures is one error."""

import logging
import socket
import ssl
import threading
import time
import warnings
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Any

from pydicom.config import disable_value_validation
from pydicom.uid import UID

from ggn_tf.errors import PacsError
from ggn_tf.pacs.archive import missing_extra
from ggn_tf.pacs.credentials import PacsCredentials
from ggn_tf.pacs.entity import LONGEST_TITLE, Entity, is_title

if TYPE_CHECKING:
    from pynetdicom import AE
    from pynetdicom.association import Association
    from pynetdicom.presentation import PresentationContext

# Of one association: 3000 slices are 1.5 GB.
_MOST_BYTES = 16 << 30
_CHECKS_PER_TIMEOUT = 8


class Network:
    """Associations of this client with one archive.

    Args:
        archive: The archive.
        title: This client's AE title.
        credentials: The files for TLS.
        timeout: Seconds for a connection, and for each wait for data.

    Raises:
        PacsError: The title or a file for TLS cannot be used, or the extra `pacs` is not installed.
    """

    def __init__(self, archive: Entity, title: str, credentials: PacsCredentials, timeout: float) -> None:
        try:
            from pynetdicom import AE
        except ImportError as error:
            raise missing_extra(error) from error
        if not is_title(title):
            raise PacsError(
                "The AE title cannot be used.",
                expected=f"1 to {LONGEST_TITLE} ASCII characters without a backslash",
                remedy="Correct it.",
                arguments=("calling_aet",),
            )
        # It logs what archives write.
        logging.getLogger("pynetdicom").setLevel(logging.CRITICAL + 1)
        self.archive, self.title, self._timeout, self._entity_of = archive, title, timeout, AE
        self._tls = _tls_context(archive, credentials)

    @contextmanager
    def associated(
        self,
        what: str,
        contexts: "Sequence[PresentationContext]",
        watch: "Watch",
        handlers: Sequence[Any] = (),
        roles: Sequence[Any] = (),
    ) -> "Iterator[Association]":
        """An association; released at the end of the block, aborted where the block fails.

        Args:
            what: What it is for, for errors.
            contexts: The presentation contexts to propose.
            watch: Ends it when the archive is silent.
            handlers: Of pynetdicom's events.
            roles: SCP/SCU role selections.

        Raises:
            PacsError: It is not established, or a response in the block is not DICOM.
        """
        address = (self.archive.host, self.archive.port)
        tls = None if self._tls is None else (self._tls, self.archive.host)
        with self.explained(what):
            association = self._entity().associate(
                *address,
                contexts=list(contexts),
                ae_title=self.archive.title,
                ext_neg=list(roles),
                evt_handlers=[*handlers, *watch.handlers()],
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
        self, what: str, port: int, contexts: "Sequence[PresentationContext]", handlers: Sequence[Any], watch: "Watch"
    ) -> Iterator[None]:
        """A storage server for this archive alone, at the address of this machine that reaches it.

        Raises:
            PacsError: The port cannot be opened.
        """
        entity = self._entity()
        entity.require_called_aet, entity.require_calling_aet = True, [self.archive.title]
        try:
            family, kind, _, _, there = socket.getaddrinfo(
                self.archive.host, self.archive.port, type=socket.SOCK_DGRAM
            )[0]
            with socket.socket(family, kind) as probe:
                probe.connect(there)
                here = probe.getsockname()[0]
            server = entity.start_server(
                (here, port), block=False, contexts=list(contexts), evt_handlers=[*handlers, *watch.handlers()]
            )
        except OSError as error:
            raise self.error(what, f"port {port} of this machine cannot be opened ({error.strerror})") from None
        try:
            yield
        finally:
            if server is not None:
                server.shutdown()

    def require(self, what: str, association: "Association", kinds: Sequence[str]) -> None:
        """Reject an association that does not accept every SOP class.

        Raises:
            PacsError: It does not.
        """
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

    def error(self, what: str, found: str) -> PacsError:
        """The error of a failed request."""
        return PacsError(
            f"The archive failed: {what}.",
            case=self.archive,
            found=found,
            expected=f"an archive that knows this client as {self.title}, with C-FIND, C-GET or C-MOVE, and C-STORE",
            remedy="Check the address, the AE titles, the port for a C-MOVE and the certificates, and try again.",
            arguments=("pacs", "calling_aet", "move_port", "pacs_ca"),
        )

    def _entity(self) -> "AE":
        entity = self._entity_of(self.title)
        entity.connection_timeout = self._timeout
        # The watch ends silent associations first, except those whose thread has ended.
        entity.acse_timeout = 2 * self._timeout
        # These would also end a transfer that takes longer.
        entity.dimse_timeout = entity.network_timeout = None
        return entity

    def _refusal(self, association: "Association", watch: "Watch") -> str:
        rejection = association.acceptor.primitive
        if association.is_rejected and rejection is not None:
            return f"a rejected association: {rejection.reason_str}"
        if association.rejected_contexts:
            return _without_context({str(context.abstract_syntax) for context in association.rejected_contexts})
        return watch.silence if watch.opened else self._obstacle()

    def _obstacle(self) -> str:
        """Why there is no connection, which pynetdicom does not report."""
        try:
            with socket.create_connection((self.archive.host, self.archive.port), self._timeout) as plain:
                if self._tls is not None:
                    self._tls.wrap_socket(plain, server_hostname=self.archive.host).close()
        except ssl.SSLCertVerificationError:
            return "a certificate that is not trusted, or is another host's"
        except ssl.SSLError:
            return "no TLS"
        except TimeoutError:
            return f"no answer within {self._timeout:g} s"
        except OSError:
            pass
        return "no connection"


class Watch:
    """Ends connections on which no message part arrives or leaves for some time, or too much arrives.

    pynetdicom would wait for ever for the rest of a part that began.

    Attributes:
        opened: Whether a connection was opened.
        expired: Whether one was ended because of silence.
        excess: Whether one was ended because of its amount.
    """

    def __init__(self, timeout: float) -> None:
        self.opened = self.expired = self.excess = False
        self._timeout, self._last, self._bytes = timeout, time.monotonic(), 0
        self._associations: list[Association] = []
        self._done = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)

    def __enter__(self) -> "Watch":
        self._excepthook, threading.excepthook = threading.excepthook, self._ignore
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._done.set()
        self._thread.join()
        threading.excepthook = self._excepthook

    def _ignore(self, failure: threading.ExceptHookArgs) -> None:
        """Print no traceback of a thread that a malformed message ended."""
        if not type(failure.thread).__module__.startswith("pynetdicom"):
            self._excepthook(failure)

    @property
    def silence(self) -> str:
        """Why no response came."""
        if self.excess:
            return f"more than {_MOST_BYTES} bytes"
        return f"no answer within {self._timeout:g} s" if self.expired else "a connection that the archive ended"

    def handlers(self) -> list[Any]:
        """For the events of a connection."""
        from pynetdicom import evt

        return [(evt.EVT_CONN_OPEN, self._open), (evt.EVT_DATA_RECV, self._receive), (evt.EVT_DATA_SENT, self._send)]

    def _open(self, event: Any) -> None:
        self.opened, self._last = True, time.monotonic()
        self._associations.append(event.assoc)

    def _receive(self, event: Any) -> None:
        self._last = time.monotonic()
        self._bytes += len(event.data)
        if self._bytes > _MOST_BYTES:
            self.excess = True
            self._end()

    def _send(self, event: Any) -> None:
        self._last = time.monotonic()

    def _run(self) -> None:
        while not self._done.wait(self._timeout / _CHECKS_PER_TIMEOUT):
            if self.opened and time.monotonic() - self._last > self._timeout:
                self.expired = True
                self._end()
                return

    def _end(self) -> None:
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
