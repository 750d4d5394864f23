"""An archive of these tests that speaks DICOM's network protocol, with the faults of real ones."""

import dataclasses
import logging
import socket
import ssl
from collections.abc import Iterator
from pathlib import Path

import pydicom
import pytest

from ggn_tf.api.archive import fetch_series
from ggn_tf.errors import PacsError
from ggn_tf.pacs.archive import PacsSeries
from ggn_tf.pacs.credentials import PacsCredentials
from ggn_tf.pacs.dimse import Dimse
from tests.support.certificates import write_pair
from tests.support.chest import lung_grid, lung_with_balls, write_dicom
from tests.support.dicom_files import compress
from tests.support.marked_reports import write_marks

pytest.importorskip("pynetdicom", reason="needs the extra pacs")
from tests.support.fake_dimse import CT, FIND, GET, MOVE, SEG, SR, DimseArchive, raw_peer

NAME = "DOE^JOHN"


@pytest.fixture(scope="module")
def series(tmp_path_factory: pytest.TempPathFactory) -> Path:
    image = lung_with_balls(lung_grid((8.0, 8.0, 8.0)))[:16, :16, :5]
    return write_dicom(image, tmp_path_factory.mktemp("ct") / "dicom", {"0010|0010": NAME})


@pytest.fixture(scope="module")
def found(series: Path) -> PacsSeries:
    header = pydicom.dcmread(next(series.iterdir()))
    return PacsSeries(header.StudyInstanceUID, header.SeriesInstanceUID)


@pytest.fixture(scope="module")
def result(series: Path, tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Two objects of the study with the SOP classes of a SEG and a report."""
    folder = tmp_path_factory.mktemp("objects")
    for name, sop_class in (("a-seg", SEG), ("b-sr", SR)):
        dataset = pydicom.dcmread(next(series.iterdir()))
        dataset.SOPInstanceUID = dataset.file_meta.MediaStorageSOPInstanceUID = f"2.25.{len(name)}"
        dataset.SOPClassUID = dataset.file_meta.MediaStorageSOPClassUID = sop_class
        dataset.save_as(folder / name)
    return sorted(folder.iterdir())


@pytest.fixture(scope="module")
def served(series: Path) -> Iterator[tuple[DimseArchive, str]]:
    archive = DimseArchive()
    with archive.serve() as url:
        yield archive, url


@pytest.fixture
def archive(served: tuple[DimseArchive, str], series: Path) -> DimseArchive:
    """Without faults, with the series alone."""
    vars(served[0]).update(vars(DimseArchive()))
    served[0].add(series)
    return served[0]


@pytest.fixture
def url(served: tuple[DimseArchive, str], archive: DimseArchive) -> str:
    return served[1]


def connected(url: str, timeout: float = 10.0, move_port: int | None = None) -> Dimse:
    return Dimse(url, PacsCredentials(), timeout, move_port=move_port)


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def refused(action: str, client: Dimse, found: PacsSeries, folder: Path, result: list[Path]) -> str:
    """The error of an action, which is one block without a word of the archive."""
    with pytest.raises(PacsError) as caught:
        if action == "store":
            client.send(found.study, result)
        elif action in ("get", "move"):
            client.fetch(found, folder)
        else:
            client.find(found.study, None)
    block = str(caught.value)
    assert "DOE" not in block and caught.value.found and caught.value.remedy
    return block


@pytest.mark.parametrize("move", [False, True])
def test_a_series_is_found_and_fetched_with_every_value(
    archive: DimseArchive, url: str, series: Path, found: PacsSeries, tmp_path: Path, move: bool
) -> None:
    archive.destination = free_port()
    client = connected(url, move_port=archive.destination if move else None)
    assert client.find(found.study, None) == client.find(None, found.series) == found
    client.fetch(found, tmp_path)
    expected = {path.SOPInstanceUID: path for path in map(pydicom.dcmread, series.iterdir())}
    assert {path.SOPInstanceUID: path for path in map(pydicom.dcmread, tmp_path.iterdir())} == expected


def test_compressed_slices_are_received_as_they_are(archive: DimseArchive, url: str, tmp_path: Path) -> None:
    image = lung_with_balls(lung_grid((8.0, 8.0, 8.0)))[:16, :16, 5:8]
    written = write_dicom(image, tmp_path / "written", {"0020|0011": "2"})
    for path in written.iterdir():
        compress(path, "JPEGLS")
    archive.instances.clear()
    archive.add(written)
    (tmp_path / "ct").mkdir()
    client = connected(url)
    client.fetch(client.find(archive.headers()[0].StudyInstanceUID, None), tmp_path / "ct")
    received = [pydicom.dcmread(path) for path in (tmp_path / "ct").iterdir()]
    assert {header.file_meta.TransferSyntaxUID for header in received} == {"1.2.840.10008.1.2.4.80"}
    assert {header.PixelData for header in received} == {header.PixelData for header in archive.headers()}


def test_what_is_sent_twice_is_stored_once(
    archive: DimseArchive, url: str, found: PacsSeries, result: list[Path]
) -> None:
    client = connected(url)
    assert client.send(found.study, result) == client.send(found.study, result) == 2
    assert len(archive.instances) == 5 + 2 and archive.stored == [SEG, SR] * 2


@pytest.mark.parametrize(
    ("action", "code"),
    [("find", 0xA700), ("find", 0xC001), ("get", 0xA702), ("get", 0xC000), ("get", 0xFE00), ("move", 0xA801)],
)
def test_a_failure_is_one_error_with_its_status(
    archive: DimseArchive, url: str, found: PacsSeries, result: list[Path], tmp_path: Path, action: str, code: int
) -> None:
    archive.status[action], archive.destination = code, free_port()
    client = connected(url, move_port=archive.destination if action == "move" else None)
    assert f"status {code:04X}" in refused(action, client, found, tmp_path, result)


@pytest.mark.parametrize(
    ("statuses", "expected", "stored"),
    [
        ({SEG: 0xA700}, "0 of 2 confirmed, status A700", [SEG]),
        ({SR: 0xC000}, "1 of 2 confirmed, status C000", [SEG, SR]),
        ({SEG: 0x0124}, "0 of 2 confirmed, status 0124", [SEG]),
        ({SEG: 0xB000, SR: 0xB006}, "0 of 2 confirmed, status B000, B006", [SEG, SR]),
    ],
)
def test_an_object_that_is_not_stored_as_it_is_is_an_error(
    archive: DimseArchive,
    url: str,
    found: PacsSeries,
    result: list[Path],
    tmp_path: Path,
    statuses: dict[str, int],
    expected: str,
    stored: list[str],
) -> None:
    archive.status = statuses
    assert expected in refused("store", connected(url), found, tmp_path, result)
    assert archive.stored == stored


@pytest.mark.parametrize("action", ["find", "get", "move", "store"])
@pytest.mark.parametrize("fault", ["silent", "aborted"])
def test_silence_and_an_abort_are_one_error(
    archive: DimseArchive, url: str, found: PacsSeries, result: list[Path], tmp_path: Path, action: str, fault: str
) -> None:
    setattr(archive, fault, action)
    archive.destination = free_port()
    client = connected(url, 0.5, archive.destination if action == "move" else None)
    expected = "no answer within 0.5 s" if fault == "silent" else "a connection that the archive ended"
    assert expected in refused(action, client, found, tmp_path, result)
    archive._released.set()


@pytest.mark.parametrize("action", ["get", "move"])
def test_fewer_instances_than_announced_are_an_error(
    archive: DimseArchive, url: str, found: PacsSeries, result: list[Path], tmp_path: Path, action: str
) -> None:
    archive.hidden, archive.destination = 2, free_port()
    client = connected(url, move_port=archive.destination if action == "move" else None)
    assert "3 of 5 instances" in refused(action, client, found, tmp_path, result)


def test_instances_of_another_series_are_an_error(
    archive: DimseArchive, url: str, found: PacsSeries, result: list[Path], tmp_path: Path
) -> None:
    archive.foreign = archive.headers()[0]
    archive.foreign.SeriesInstanceUID = "2.25.1"
    refused("get", connected(url), found, tmp_path, result)


@pytest.mark.parametrize(("limit", "value"), [("dimse.MOST_INSTANCES", 5), ("associations._MOST_BYTES", 3000)])
def test_more_than_a_series_has_is_refused(
    archive: DimseArchive,
    url: str,
    found: PacsSeries,
    result: list[Path],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    limit: str,
    value: int,
) -> None:
    extra = archive.headers()[0]
    extra.SOPInstanceUID = extra.file_meta.MediaStorageSOPInstanceUID = "2.25.3"
    extra.save_as(tmp_path / "extra")
    archive.instances["2.25.3"] = (tmp_path / "extra").read_bytes()
    (tmp_path / "ct").mkdir()
    monkeypatch.setattr(f"ggn_tf.pacs.{limit}", value)
    refused("get", connected(url), found, tmp_path / "ct", result)


def test_a_port_that_is_used_is_an_error(
    archive: DimseArchive, url: str, found: PacsSeries, result: list[Path], tmp_path: Path
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as used:
        client = connected(url, move_port=used.getsockname()[1])
        assert "cannot be opened" in refused("move", client, found, tmp_path, result)


def test_a_destination_that_the_archive_does_not_reach_is_an_error(
    archive: DimseArchive, url: str, found: PacsSeries, result: list[Path], tmp_path: Path
) -> None:
    archive.destination = free_port()
    assert "status A801" in refused("move", connected(url, move_port=free_port()), found, tmp_path, result)


@pytest.mark.parametrize(
    ("kinds", "action", "expected"),
    [
        ((FIND, MOVE, CT, SEG, SR), "get", "Query/Retrieve Information Model - GET"),
        ((GET, CT), "find", "Query/Retrieve Information Model - FIND"),
        ((FIND, CT, SR), "store", "no presentation context for Segmentation Storage"),
        ((FIND, GET, SEG, SR), "get", "5 instances failed"),
    ],
)
def test_a_kind_that_is_not_accepted_is_one_error(
    series: Path,
    found: PacsSeries,
    result: list[Path],
    tmp_path: Path,
    kinds: tuple[str, ...],
    action: str,
    expected: str,
) -> None:
    archive = DimseArchive()
    archive.add(series)
    with archive.serve(kinds) as url:
        assert expected in refused(action, connected(url), found, tmp_path, result)
    assert not archive.stored and not list(tmp_path.iterdir())


def test_an_unknown_title_is_one_error(found: PacsSeries, result: list[Path], tmp_path: Path) -> None:
    with DimseArchive().serve(caller="OTHER") as url:
        assert "Calling AE title not recognised" in refused("find", connected(url), found, tmp_path, result)
        other = url.replace("ARCHIVE", "ELSEWHERE")
        assert "Called AE title not recognised" in refused("find", connected(other), found, tmp_path, result)


@pytest.mark.parametrize(
    ("reply", "closes", "expected"),
    [
        (b"", True, "ended"),
        (b"", False, "no answer within 0.4 s"),
        (b"HTTP/1.1 400 DOE^JOHN\r\n\r\n", False, "ended"),
        # An acceptance that ends after 3 of 1000 bytes, and one that announces 4 GB.
        (b"\x02\0\0\0\x03\xe8abc", False, "no answer within 0.4 s"),
        (b"\x04\0\xff\xff\xff\xffabc", False, "no answer within 0.4 s"),
        (b"\x02\0\0\0\0\x04abcd", False, "no presentation context"),
    ],
)
def test_a_peer_that_is_no_archive_is_one_error(
    found: PacsSeries, result: list[Path], tmp_path: Path, reply: bytes, closes: bool, expected: str
) -> None:
    with raw_peer(reply, closes=closes) as url:
        assert expected in refused("find", connected(url, 0.4), found, tmp_path, result)


def test_no_archive_is_one_error(found: PacsSeries, result: list[Path], tmp_path: Path) -> None:
    for host, expected in (("127.0.0.1", "no connection"), ("no-such-host.invalid", "no such host")):
        client = connected(f"dicom://A@{host}:{free_port()}")
        assert expected in refused("find", client, found, tmp_path, result)


def test_only_a_trusted_certificate_is_taken_and_one_is_shown(
    series: Path, found: PacsSeries, result: list[Path], tmp_path: Path
) -> None:
    authority = write_pair(tmp_path, "authority")
    for name in ("server", "client"):
        write_pair(tmp_path, name, 1, authority)
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    tls.load_cert_chain(tmp_path / "server.pem", tmp_path / "server.key")
    tls.load_verify_locations(tmp_path / "authority.pem")
    tls.verify_mode = ssl.CERT_REQUIRED
    trusting = PacsCredentials(authorities=tmp_path / "authority.pem")
    complete = dataclasses.replace(trusting, certificate=tmp_path / "client.pem", key=tmp_path / "client.key")
    archive = DimseArchive()
    archive.add(series)
    with archive.serve(tls=tls) as url:
        assert Dimse(url, complete, 5.0).find(found.study, None) == found
        assert "ended" in refused("find", Dimse(url, trusting, 5.0), found, tmp_path, result)
        without = Dimse(url, PacsCredentials(), 5.0)
        assert "certificate that is not trusted" in refused("find", without, found, tmp_path, result)
    with archive.serve() as url:
        plain = Dimse(url.replace("dicom:", "dicom-tls:"), complete, 1.0)
        refused("find", plain, found, tmp_path, result)
        with pytest.raises(PacsError, match="without TLS"):
            Dimse(url, trusting, 5.0)
    with pytest.raises(PacsError, match="C-MOVE"):
        Dimse("dicom-tls://A@127.0.0.1:11112", trusting, 5.0, move_port=11113)
    broken = PacsCredentials(authorities=tmp_path / "client.key")
    with pytest.raises(PacsError, match="cannot be used"):
        Dimse("dicom-tls://A@127.0.0.1:11112", broken, 5.0)


@pytest.mark.parametrize(
    "url",
    [
        "dicom://A:secret@127.0.0.1:104",
        "dicom://127.0.0.1:104",
        "dicom://A@127.0.0.1",
        "dicom://A@127.0.0.1:0",
        "dicom://A@127.0.0.1:99999",
        "dicom://A@:104",
        "dicom://A@[secret:104",
        "dicom://A@127.0.0.1:104/secret",
        "dicom://A@127.0.0.1:104?secret",
        "dicom://SEVENTEENLETTERSA@127.0.0.1:104",
        "dicom://%20@127.0.0.1:104",
        "dicom://A%5CB@127.0.0.1:104",
        "dicom://A%0AB@127.0.0.1:104",
    ],
)
def test_an_address_that_cannot_be_used_is_refused_and_not_repeated(url: str) -> None:
    with pytest.raises(PacsError, match="address") as caught:
        connected(url)
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize("title", ["", " ", "A\\B", "SEVENTEENLETTERSA", "\u00c4", "A\n"])
def test_a_title_that_cannot_be_used_is_refused(title: str) -> None:
    with pytest.raises(PacsError, match="AE title"):
        Dimse("dicom://A@127.0.0.1:104", PacsCredentials(), 1.0, title)


def test_marks_are_fetched_beside_the_series_if_they_are_one_object(
    archive: DimseArchive, url: str, series: Path, found: PacsSeries, tmp_path: Path
) -> None:
    report = pydicom.dcmread(write_marks(tmp_path / "sr.dcm", series="2.25.4"))
    report.StudyInstanceUID = found.study
    report.save_as(tmp_path / "sr.dcm")
    archive.instances["2.25.22"] = (tmp_path / "sr.dcm").read_bytes()
    with fetch_series(url, found.study, None, PacsCredentials(), points_series="2.25.4") as fetched:
        assert len([*fetched.folder.iterdir()]) == 5 and fetched.found == found
        assert fetched.marks is not None and pydicom.dcmread(fetched.marks).Modality == "SR"
    assert not fetched.folder.exists()
    with (
        pytest.raises(PacsError, match="several objects"),
        fetch_series(url, found.study, None, PacsCredentials(), points_series=found.series),
    ):
        pass


MALFORMED = {
    "an empty command": b"\x04\0\0\0\0\x0a\0\0\0\x06\x01\x03DOE^",
    "an unknown context": b"\x04\0\0\0\0\x0a\0\0\0\x06\x63\xffDOE^",
    "a release": b"\x05\0\0\0\0\x04\0\0\0\0",
    "a part without an end": b"\x04\0\0\1\0\0DOE^",
    "an unknown part": b"\x63\0\0\0\0\x04DOE^",
}


@pytest.mark.parametrize("kind", MALFORMED)
def test_a_malformed_message_is_one_error(
    archive: DimseArchive,
    url: str,
    found: PacsSeries,
    result: list[Path],
    tmp_path: Path,
    kind: str,
    capfd: pytest.CaptureFixture[str],
) -> None:
    archive.raw = MALFORMED[kind]
    assert refused("find", connected(url, 0.4), found, tmp_path, result)
    assert "".join(capfd.readouterr()) == ""


def test_no_log_names_a_patient(
    archive: DimseArchive,
    url: str,
    found: PacsSeries,
    result: list[Path],
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
    capfd: pytest.CaptureFixture[str],
) -> None:
    caplog.set_level(logging.DEBUG)
    client = connected(url)
    client.fetch(client.find(found.study, None), tmp_path)
    archive.status[SEG] = 0xA700
    refused("store", client, found, tmp_path, result)
    assert "DOE" not in caplog.text + "".join(capfd.readouterr())
