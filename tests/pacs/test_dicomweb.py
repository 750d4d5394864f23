"""A DICOMweb archive of these tests, with the faults of real ones."""

import dataclasses
import logging
import ssl
from base64 import b64encode
from io import BytesIO
from pathlib import Path

import pydicom
import pytest

from ggn_tf.errors import PacsError
from ggn_tf.pacs.archive import PacsSeries
from ggn_tf.pacs.credentials import PacsCredentials
from ggn_tf.pacs.dicomweb import DicomWeb
from tests.pacs.conftest import NAME
from tests.support.certificates import mutual_tls, write_pair
from tests.support.chest import lung_grid, lung_with_balls, write_dicom
from tests.support.fake_dicomweb import Archive
from tests.support.loopback_server import free_port

pytest.importorskip("dicomweb_client.web", reason="needs the extra pacs")
SEG = "1.2.840.10008.5.1.4.1.1.66.4"


@pytest.fixture(scope="module")
def result(series: Path, tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Two objects of the study, of which one has the SOP class of a SEG."""
    folder = tmp_path_factory.mktemp("objects")
    for name, sop_class in (("seg", SEG), ("sr", None)):
        dataset = pydicom.dcmread(next(series.iterdir()))
        dataset.SOPInstanceUID = dataset.file_meta.MediaStorageSOPInstanceUID = f"2.25.{len(name)}"
        dataset.SOPClassUID = dataset.file_meta.MediaStorageSOPClassUID = sop_class or dataset.SOPClassUID
        dataset.save_as(folder / name)
    return [folder / "seg", folder / "sr"]


@pytest.fixture
def archive(series: Path) -> Archive:
    archive = Archive()
    archive.add(series)
    return archive


def connected(url: str, credentials: PacsCredentials | None = None, timeout: float = 10.0) -> DicomWeb:
    return DicomWeb(url, credentials or PacsCredentials(), timeout)


def refused(action: str, url: str, found: PacsSeries, folder: Path, result: list[Path], **options: object) -> str:
    """The error of an action, which is one block without a word of the archive."""
    client = connected(url, **options)
    with pytest.raises(PacsError) as caught:
        if action == "store":
            client.send(found.study, result)
        elif action == "retrieve":
            client.fetch(found, folder)
        else:
            client.find(found.study, None)
    block = str(caught.value)
    assert NAME not in block and caught.value.found and caught.value.remedy
    return block


def test_a_series_is_found_and_fetched_with_every_value(
    archive: Archive, series: Path, found: PacsSeries, tmp_path: Path
) -> None:
    with archive.serve() as url:
        client = connected(url, PacsCredentials(token="secret"))
        assert client.find(found.study, None) == client.find(None, found.series) == found
        client.fetch(found, tmp_path)
    expected = {path.SOPInstanceUID: path for path in map(pydicom.dcmread, series.iterdir())}
    fetched = {path.SOPInstanceUID: path for path in map(pydicom.dcmread, tmp_path.iterdir())}
    assert fetched == expected
    assert {credentials for *_, credentials in archive.requests} == {"Bearer secret"}


def test_what_is_sent_twice_is_stored_once(archive: Archive, found: PacsSeries, result: list[Path]) -> None:
    with archive.serve() as url:
        client = connected(url)
        assert client.send(found.study, result) == client.send(found.study, result) == 2
    assert len(archive.instances) == 5 + 2


def test_a_user_is_shown_as_basic_authentication(archive: Archive, found: PacsSeries) -> None:
    with archive.serve() as url:
        connected(url, PacsCredentials(user=("me", "secret"))).find(found.study, None)
    # echo -n me:secret | base64
    assert archive.requests[0][2] == "Basic bWU6c2VjcmV0"


def test_a_user_outside_latin_1_is_sent_in_utf_8(archive: Archive, found: PacsSeries) -> None:
    with archive.serve() as url:
        connected(url, PacsCredentials(user=("\u5c71\u7530", "\u00fc\u20ac"))).find(found.study, None)
    assert archive.requests[0][2] == "Basic " + b64encode("\u5c71\u7530:\u00fc\u20ac".encode()).decode()


@pytest.mark.parametrize("page", [1, 2, 5])
def test_searches_are_read_to_their_last_page(archive: Archive, found: PacsSeries, tmp_path: Path, page: int) -> None:
    other = pydicom.dcmread(BytesIO(next(iter(archive.instances.values()))))
    other.SOPInstanceUID = other.file_meta.MediaStorageSOPInstanceUID = "2.25.7"
    other.SeriesInstanceUID, other.Modality = "2.25.8", "SR"
    other.save_as(tmp_path / "other.dcm")
    # The series of other modalities come first.
    archive.instances = {"2.25.7": (tmp_path / "other.dcm").read_bytes(), **archive.instances}
    archive.page = page
    (tmp_path / "ct").mkdir()
    with archive.serve() as url:
        client = connected(url)
        assert client.find(found.study, None) == found
        client.fetch(found, tmp_path / "ct")
    assert len([*(tmp_path / "ct").iterdir()]) == 5


def test_an_archive_that_ignores_the_offset_is_asked_twice(archive: Archive, found: PacsSeries, tmp_path: Path) -> None:
    archive.ignores_offset = True
    with archive.serve() as url:
        connected(url).fetch(found, tmp_path)
    assert len([path for _, path, _ in archive.requests if "/instances" in path]) == 2


def test_a_search_that_does_not_end_is_an_error(
    archive: Archive, found: PacsSeries, result: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ggn_tf.pacs.dicomweb.MOST_INSTANCES", 3)
    archive.page = 1
    with archive.serve() as url:
        refused("retrieve", url, found, tmp_path, result)
    assert len(archive.requests) == 4 and not list(tmp_path.iterdir())


@pytest.mark.parametrize("action", ["search", "retrieve", "store"])
@pytest.mark.parametrize("status", [401, 403, 404, 409, 500, 503, 302])
def test_a_refusal_is_one_error_with_its_status(
    archive: Archive, found: PacsSeries, result: list[Path], tmp_path: Path, action: str, status: int
) -> None:
    archive.status[action] = status
    with archive.serve() as url:
        block = refused(action, url, found, tmp_path, result)
    assert ("redirection" if status == 302 else str(status)) in block
    assert len(archive.instances) == 5 and not list(tmp_path.iterdir())


@pytest.mark.parametrize("action", ["search", "retrieve", "store"])
@pytest.mark.parametrize("body", [b"<html>DOE^JOHN</html>", b"", b'{"00100010": "DOE^JOHN"}', b"[1]"])
def test_an_answer_that_is_not_dicomweb_is_one_error(
    archive: Archive, found: PacsSeries, result: list[Path], tmp_path: Path, action: str, body: bytes
) -> None:
    archive.body = body
    with archive.serve() as url:
        refused(action, url, found, tmp_path, result)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("action", ["search", "retrieve", "store"])
def test_an_archive_that_does_not_answer_is_one_error(
    archive: Archive, found: PacsSeries, result: list[Path], tmp_path: Path, action: str
) -> None:
    archive.silent = True
    with archive.serve() as url:
        assert "no answer within 0.2 s" in refused(action, url, found, tmp_path, result, timeout=0.2)


def test_no_archive_is_one_error(found: PacsSeries, result: list[Path], tmp_path: Path) -> None:
    url = f"http://127.0.0.1:{free_port()}/dicom-web"
    assert "no connection" in refused("search", url, found, tmp_path, result)


def test_an_object_that_is_not_stored_is_an_error_though_the_status_is_200(
    archive: Archive, found: PacsSeries, result: list[Path], tmp_path: Path
) -> None:
    archive.refused = SEG
    with archive.serve() as url:
        assert "1 of 2 confirmed, failure 0122" in refused("store", url, found, tmp_path, result)


def test_fewer_instances_than_announced_are_an_error(
    archive: Archive, found: PacsSeries, result: list[Path], tmp_path: Path
) -> None:
    archive.hidden = 2
    with archive.serve() as url:
        assert "3 of 5 instances" in refused("retrieve", url, found, tmp_path, result)


def test_of_a_study_with_several_ct_series_one_is_named(
    archive: Archive, series: Path, found: PacsSeries, result: list[Path], tmp_path: Path
) -> None:
    other = dataclasses.replace(archive, instances={})
    other.add(write_dicom(lung_with_balls(lung_grid((8.0, 8.0, 8.0)))[:8, :8, :3], tmp_path / "b", {"0020|0011": "2"}))
    archive.instances.update(other.instances)
    with archive.serve() as url:
        assert "several CT series" in refused("search", url, found, tmp_path, result)
        assert connected(url).find(found.study, found.series) == found
        with pytest.raises(PacsError, match="no such series"):
            connected(url).find(None, "1.2.3")


@pytest.mark.parametrize(("name", "trusted"), [("server", True), ("server", False), ("outdated", True)])
def test_only_a_trusted_certificate_is_taken(
    archive: Archive, found: PacsSeries, result: list[Path], tmp_path: Path, name: str, trusted: bool
) -> None:
    authority = write_pair(tmp_path, "authority")
    write_pair(tmp_path, name, -1 if name == "outdated" else 1, authority)
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    tls.load_cert_chain(tmp_path / f"{name}.pem", tmp_path / f"{name}.key")
    credentials = PacsCredentials(authorities=tmp_path / "authority.pem" if trusted else None)
    with archive.serve(tls) as url:
        if name == "server" and trusted:
            assert connected(url, credentials).find(found.study, None) == found
        else:
            assert "certificate" in refused("search", url, found, tmp_path, result, credentials=credentials)


def test_https_at_a_port_without_tls_is_named(archive: Archive, found: PacsSeries) -> None:
    with archive.serve() as url, pytest.raises(PacsError) as caught:
        connected(url.replace("http:", "https:")).find(found.study, None)
    assert "an answer without TLS" in str(caught.value.found)


def test_a_client_certificate_is_shown(archive: Archive, found: PacsSeries, result: list[Path], tmp_path: Path) -> None:
    tls = mutual_tls(tmp_path)
    without = PacsCredentials(authorities=tmp_path / "authority.pem")
    client = dataclasses.replace(without, certificate=tmp_path / "client.pem", key=tmp_path / "client.key")
    with archive.serve(tls) as url:
        assert connected(url, client).find(found.study, None) == found
        refused("search", url, found, tmp_path, result, credentials=without)


def test_no_log_names_a_patient_or_contains_a_credential(
    archive: Archive, found: PacsSeries, result: list[Path], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    with archive.serve() as url:
        client = connected(url, PacsCredentials(token="secret"))
        client.find(found.study, None)
        client.fetch(found, tmp_path)
        archive.refused = SEG
        refused("store", url, found, tmp_path, result, credentials=PacsCredentials(token="secret"))
    assert NAME not in caplog.text and "secret" not in caplog.text
