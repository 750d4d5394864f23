"""A DICOM archive behind DICOMweb: series are found (QIDO-RS), fetched (WADO-RS), and objects stored (STOW-RS).

What a server writes into its responses is never repeated in errors: it may name patients. The network code is
dicomweb-client's, of the extra `pacs`.
"""

import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from http import HTTPStatus
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pydicom
from pydicom.dataset import Dataset

from ggn_tf.errors import ArchiveError, PacsError
from ggn_tf.pacs.archive import (
    MOST_INSTANCES,
    SEND_AGAIN,
    STORED,
    PacsSeries,
    choose_series,
    refuse_incomplete,
)
from ggn_tf.pacs.credentials import PacsCredentials, refuse_unsafe_url

if TYPE_CHECKING:
    import requests

_UID_TAG = {"study": "0020000D", "series": "0020000E", "instance": "00080018", "modality": "00080060"}


class DicomWeb:
    """A connection to an archive.

    Args:
        url: https://HOST/PATH, under which the archive has /studies.
        credentials: Who connects, and whom it trusts.
        timeout: Seconds for a connection, and for each wait for data.

    Raises:
        PacsError: The address is not safe.
    """

    def __init__(self, url: str, credentials: PacsCredentials, timeout: float) -> None:
        refuse_unsafe_url(url)
        import requests
        from dicomweb_client.web import DICOMwebClient

        # It logs what servers write.
        logging.getLogger("dicomweb_client").setLevel(logging.CRITICAL)
        session = requests.Session()
        # No proxies, and no passwords of .netrc.
        session.trust_env = False
        session.max_redirects = 0
        session.verify = True if credentials.authorities is None else str(credentials.authorities)
        if credentials.certificate is not None:
            certificate, key = str(credentials.certificate), credentials.key
            session.cert = certificate if key is None else (certificate, str(key))
        if credentials.token is not None:
            session.headers["Authorization"] = f"Bearer {credentials.token}"
        if credentials.user is not None:
            # requests encodes texts as Latin-1.
            name, password = credentials.user
            session.auth = name.encode(), password.encode()
        self._url, self._session, self._timeout = url, session, timeout
        self._client = DICOMwebClient(url.rstrip("/"), session, timeout=timeout, callback=_plain_type)
        # A repeated request would only multiply the wait; the caller may repeat the command.
        self._client.set_http_retry_params(retry=False)

    def find(self, study: str | None, series: str | None) -> PacsSeries:
        """Find a series by its UID, or the one CT series of a study.

        Raises:
            PacsError: There is none, or more than one; or the request fails.
        """
        filters = {} if series is None else {"SeriesInstanceUID": series}
        with self._explained("search for the series"):
            rows = _all_rows(partial(self._client.search_for_series, study, search_filters=filters))
            found = [(_text(row, "study") or study or "", _text(row, "series"), _text(row, "modality")) for row in rows]
        return choose_series(found, series, self._url)

    def fetch(self, wanted: PacsSeries, folder: Path) -> None:
        """Write every instance of a series into an empty folder.

        Raises:
            PacsError: The request fails, or the archive sends other instances than it announced.
        """
        with self._explained("list of the instances"):
            rows = _all_rows(partial(self._client.search_for_instances, wanted.study, wanted.series))
            announced = {_text(row, "instance") for row in rows}
        received: set[str] = set()
        with self._explained("retrieval of the series"):
            instances = self._client.iter_series(wanted.study, wanted.series, media_types=(("application/dicom", "*"),))
            for number, instance in enumerate(instances):
                uid = str(instance.SOPInstanceUID)
                if number >= MOST_INSTANCES or instance.SeriesInstanceUID != wanted.series:
                    raise ValueError("instances that were not requested")
                received.add(uid)
                instance.save_as(folder / f"{number:05d}.dcm")
        refuse_incomplete(announced, received, self._url)

    def send(self, study: str, objects: Sequence[Path]) -> int:
        """Store objects in one request; the archive keeps one copy of what is stored again.

        Returns:
            The number of objects.

        Raises:
            PacsError: The request fails, or the archive does not confirm every object.
        """
        datasets = [pydicom.dcmread(path) for path in objects]
        sent = {str(dataset.SOPInstanceUID) for dataset in datasets}
        with self._explained("storage of the objects"):
            answer = self._client.store_instances(datasets, study)
            failed = {_reference(item): item.get("FailureReason") for item in answer.get("FailedSOPSequence", [])}
            stored = {_reference(item) for item in answer.get("ReferencedSOPSequence", [])} - failed.keys()
        if sent - stored:
            codes = sorted({f"{reason:04X}" for reason in failed.values() if isinstance(reason, int)})
            raise ArchiveError(
                "The archive did not store every object.",
                case=self._url,
                found=f"{len(sent & stored)} of {len(sent)} confirmed, failure {', '.join(codes) or 'without a code'}",
                expected=STORED,
                remedy=f"Look up the code in DICOM PS3.18, Annex I.2.2, or in the archive's log. {SEND_AGAIN}",
            )
        return len(sent)

    def close(self) -> None:
        """Close the connection."""
        self._session.close()

    @contextmanager
    def _explained(self, what: str) -> Iterator[None]:
        """One error for each kind of failure, without a word of the server's."""
        import requests
        import urllib3

        try:
            yield
        except requests.exceptions.HTTPError as error:
            raise self._error(what, _status(error.response.status_code)) from None
        except requests.exceptions.SSLError as error:
            plain = "WRONG_VERSION_NUMBER" in str(error) or "RECORD_LAYER_FAILURE" in str(error)
            found = "an answer without TLS" if plain else "a certificate that is not trusted, or is another host's"
            raise self._error(what, found) from None
        except requests.exceptions.Timeout:
            raise self._error(what, f"no answer within {self._timeout:g} s") from None
        except requests.exceptions.TooManyRedirects:
            raise self._error(what, "a redirection to another address") from None
        except requests.exceptions.ConnectionError as error:
            # A wait that ends within a body has no kind of its own.
            slow = any(isinstance(cause, urllib3.exceptions.ReadTimeoutError) for cause in error.args)
            raise self._error(what, f"no answer within {self._timeout:g} s" if slow else "no connection") from None
        except PacsError:
            raise
        except Exception as error:  # whatever the libraries raise on a body that is not DICOM
            raise self._error(what, f"a response that is not DICOMweb ({type(error).__name__})") from None

    def _error(self, what: str, found: str) -> ArchiveError:
        return ArchiveError(
            f"The archive failed: {what}.",
            case=self._url,
            found=found,
            expected="a DICOMweb service (QIDO-RS, WADO-RS, STOW-RS) that this account may use",
            remedy="Check the address, the credentials and the certificates, and repeat the command.",
            arguments=("pacs", "pacs_credentials", "pacs_ca"),
        )


def _plain_type(response: "requests.Response", *_: Any, **__: Any) -> None:
    """Remove the parameters of JSON's media type: the client would take a body with some for none."""
    kind = response.headers.get("Content-Type", "").split(";")[0].strip().lower()
    if kind in ("application/dicom+json", "application/json"):
        response.headers["Content-Type"] = kind


def _status(code: int) -> str:
    try:
        return f"{code} {HTTPStatus(code).phrase}"
    except ValueError:
        return f"status {code}"


def _all_rows(search: Callable[..., Sequence[Mapping[str, Any]]]) -> list[Mapping[str, Any]]:
    """The rows of every page: archives limit how many one response contains, and some ignore the offset."""
    rows: dict[tuple[str, ...], Mapping[str, Any]] = {}
    offset = 0
    while len(rows) <= MOST_INSTANCES:
        page = search(offset=offset or None)
        found = {tuple(_text(row, name) for name in _UID_TAG): row for row in page}
        if found.keys() <= rows.keys():
            return [*rows.values()]
        rows |= found
        offset += len(page)
    raise ValueError("more rows than a series or a study has")


def _text(row: Mapping[str, Any], name: str) -> str:
    values = row.get(_UID_TAG[name], {}).get("Value", [""])
    return str(values[0])


def _reference(item: Dataset) -> str:
    return str(item.get("ReferencedSOPInstanceUID", ""))
