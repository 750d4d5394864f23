"""An archive of these tests that speaks DICOM's network protocol, with the faults of real ones."""

import contextlib
import dataclasses
import logging
import socket
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pydicom
import pytest

from ggn_tf.api.archive import connect_archive, fetch_series
from ggn_tf.errors import PacsError
from ggn_tf.pacs.archive import CALLING_AET, Entity, PacsSeries
from ggn_tf.pacs.credentials import PacsCredentials
from tests.support.certificates import mutual_tls
from tests.support.chest import lung_grid, lung_with_balls, write_dicom
from tests.support.dicom_files import compress
from tests.support.marked_reports import write_marks

pytest.importorskip("pynetdicom", reason="needs the extra pacs")
from pynetdicom import build_context

from ggn_tf.pacs.associations import Network, Watch
from ggn_tf.pacs.dimse import Dimse
from tests.support.fake_dimse import CT, FIND, GET, MOVE, SEG, SR, DimseArchive, raw_peer
from tests.support.loopback_server import free_port


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
def served() -> Iterator[tuple[DimseArchive, str]]:
    archive = DimseArchive()
    with archive.serve() as url:
        yield archive, url


@dataclasses.dataclass
class Case:
    """An archive with the series, a series of it, objects to send, and an empty folder."""

    archive: DimseArchive
    url: str
    found: PacsSeries
    result: list[Path]
    folder: Path

    def client(self, action: str = "get", timeout: float = 10.0, url: str | None = None) -> Dimse:
        """A client of the archive, or of another; one that moves is known to the archive."""
        self.archive.destination = free_port()
        return Dimse(
            url or self.url,
            PacsCredentials(),
            timeout,
            move_port=self.archive.destination if action == "move" else None,
        )

    def refused(self, action: str, client: Dimse | None = None) -> str:
        """The error of an action, which is one block without a word of the archive."""
        client = client or self.client(action)
        with pytest.raises(PacsError) as caught:
            if action == "store":
                client.send(self.found.study, self.result)
            elif action in ("get", "move"):
                client.fetch(self.found, self.folder)
            else:
                client.find(self.found.study, None)
        assert "DOE" not in str(caught.value) and caught.value.found and caught.value.remedy
        return str(caught.value)


@pytest.fixture
def case(served: tuple[DimseArchive, str], series: Path, found: PacsSeries, result: list[Path], tmp_path: Path) -> Case:
    archive, url = served
    vars(archive).update(vars(DimseArchive()))
    archive.add(series)
    (tmp_path / "fetched").mkdir()
    return Case(archive, url, found, result, tmp_path / "fetched")


@pytest.mark.parametrize("action", ["get", "move"])
def test_a_series_is_found_and_fetched_with_every_value(case: Case, series: Path, action: str) -> None:
    client = case.client(action)
    assert client.find(case.found.study, None) == client.find(*dataclasses.astuple(case.found)) == case.found
    client.fetch(case.found, case.folder)
    expected = {path.SOPInstanceUID: path for path in map(pydicom.dcmread, series.iterdir())}
    assert {path.SOPInstanceUID: path for path in map(pydicom.dcmread, case.folder.iterdir())} == expected


def test_compressed_slices_are_received_without_a_change(case: Case, tmp_path: Path) -> None:
    image = lung_with_balls(lung_grid((8.0, 8.0, 8.0)))[:16, :16, 5:8]
    written = write_dicom(image, tmp_path / "written", {"0020|0011": "2"})
    for path in written.iterdir():
        compress(path, "JPEGLS")
    case.archive.instances.clear()
    case.archive.add(written)
    case.client().fetch(case.client().find(case.archive.headers()[0].StudyInstanceUID, None), case.folder)
    received = [pydicom.dcmread(path) for path in case.folder.iterdir()]
    assert {header.file_meta.TransferSyntaxUID for header in received} == {"1.2.840.10008.1.2.4.80"}
    assert {header.PixelData for header in received} == {header.PixelData for header in case.archive.headers()}


def test_what_is_sent_twice_is_stored_once(case: Case) -> None:
    client = case.client()
    assert client.send(case.found.study, case.result) == client.send(case.found.study, case.result) == 2
    assert len(case.archive.instances) == 5 + 2 and case.archive.stored == [SEG, SR] * 2


@pytest.mark.parametrize(
    ("action", "code"),
    [("find", 0xA700), ("get", 0xC000), ("get", 0xFE00), ("move", 0xA801)],
)
def test_a_failure_is_one_error_with_its_status(case: Case, action: str, code: int) -> None:
    case.archive.status[action] = code
    assert f"status {code:04X}" in case.refused(action)


@pytest.mark.parametrize(
    ("statuses", "expected", "stored"),
    [
        ({SEG: 0xA700}, "0 of 2 confirmed, status A700", [SEG]),
        ({SR: 0xC000}, "1 of 2 confirmed, status C000", [SEG, SR]),
        ({SEG: 0xB000, SR: 0xB006}, "0 of 2 confirmed, status B000, B006", [SEG, SR]),
    ],
)
def test_an_object_that_is_not_stored_or_changed_is_an_error(
    case: Case, statuses: dict[str, int], expected: str, stored: list[str]
) -> None:
    case.archive.status = statuses
    assert expected in case.refused("store")
    assert case.archive.stored == stored


@pytest.mark.parametrize("action", ["find", "get", "move", "store"])
@pytest.mark.parametrize(
    ("fault", "expected"), [("silent", "no answer within 0.5 s"), ("aborted", "a connection that ended early")]
)
def test_silence_and_an_abort_are_one_error(case: Case, action: str, fault: str, expected: str) -> None:
    setattr(case.archive, fault, action)
    assert expected in case.refused(action, case.client(action, 0.5))
    case.archive.resume()


@pytest.mark.parametrize("action", ["get", "move"])
def test_fewer_instances_than_announced_are_an_error(case: Case, action: str) -> None:
    case.archive.hidden = 2
    assert "3 of 5 instances" in case.refused(action)


@pytest.mark.parametrize("action", ["get", "move"])
@pytest.mark.parametrize(
    ("name", "expected"), [("SeriesInstanceUID", "not DICOM"), ("SOPInstanceUID", "1 instances failed")]
)
def test_instances_that_were_not_announced_are_an_error(case: Case, action: str, name: str, expected: str) -> None:
    case.archive.foreign = case.archive.headers()[0]
    setattr(case.archive.foreign, name, "2.25.1")
    assert expected in case.refused(action)
    assert "2.25.1" not in {path.SOPInstanceUID for path in map(pydicom.dcmread, case.folder.iterdir())}


def test_the_port_of_a_move_is_bounded(case: Case) -> None:
    network, port = Network(Entity.parse(case.url), CALLING_AET, PacsCredentials(), 10.0), free_port()
    with (
        contextlib.ExitStack() as connections,
        Watch(10.0) as watch,
        network.listening("test", port, [build_context(CT)], [], watch),
    ):

        def ended(sent: bytes) -> bool:
            connection = connections.enter_context(socket.create_connection(("127.0.0.1", port), 5))
            connection.sendall(sent)
            connection.settimeout(1)
            try:
                return connection.recv(1) == b""
            except TimeoutError:
                return False
            except ConnectionResetError:
                return True

        assert ended(b"\1\0\xff\xff\xff\xff")
        for _ in range(8):
            connections.enter_context(socket.create_connection(("127.0.0.1", port), 5))
        assert ended(b"")


def test_a_search_without_an_end_is_ended(case: Case, monkeypatch: pytest.MonkeyPatch) -> None:
    case.archive.endless = True
    monkeypatch.setattr("ggn_tf.pacs.dimse._SEARCH_TIMEOUTS", 0.05)
    assert "no end within 1 s" in case.refused("find", case.client("find", 20.0))
    case.archive.resume()


def test_a_series_is_not_searched_without_its_study(case: Case) -> None:
    with pytest.raises(PacsError) as caught:
        case.client().find(None, case.found.series)
    assert caught.value.arguments == ("study",)


@pytest.mark.parametrize(
    ("limit", "value", "expected"),
    [
        ("dimse.MOST_INSTANCES", 5, "a match without content, or more than 5"),
        ("associations._MOST_BYTES", 3000, "more than 3000 bytes"),
    ],
)
def test_more_than_a_series_has_is_refused(
    case: Case, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, limit: str, value: int, expected: str
) -> None:
    extra = case.archive.headers()[0]
    extra.SOPInstanceUID = extra.file_meta.MediaStorageSOPInstanceUID = "2.25.3"
    extra.save_as(tmp_path / "extra")
    case.archive.instances["2.25.3"] = (tmp_path / "extra").read_bytes()
    monkeypatch.setattr(f"ggn_tf.pacs.{limit}", value)
    assert expected in case.refused("get")


def test_a_port_that_cannot_receive_is_an_error(case: Case) -> None:
    client = case.client("move")
    with socket.create_server(("127.0.0.1", case.archive.destination)):
        assert "cannot be opened" in case.refused("move", client)
    # The archive knows another one.
    client, _ = case.client("move"), case.client("move")
    assert "status A801" in case.refused("move", client)


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
    case: Case, kinds: tuple[str, ...], action: str, expected: str
) -> None:
    with case.archive.serve(kinds) as url:
        assert expected in case.refused(action, case.client(url=url))
    assert not case.archive.stored and not list(case.folder.iterdir())


def test_an_unknown_title_is_one_error(case: Case) -> None:
    with DimseArchive().serve(caller="OTHER") as url:
        assert "Calling AE title not recognised" in case.refused("find", case.client(url=url))
        other = case.client(url=url.replace("ARCHIVE", "ELSEWHERE"))
        assert "Called AE title not recognised" in case.refused("find", other)


@pytest.mark.parametrize(
    ("reply", "closes", "expected"),
    [
        (b"", True, "ended"),
        (b"", False, "no answer within 0.4 s"),
        (b"HTTP/1.1 400 DOE^JOHN\r\n\r\n", False, "ended"),
        # An acceptance that ends after 3 of 1000 bytes, a message of 4 GB, and an acceptance without contexts.
        (b"\x02\0\0\0\x03\xe8abc", False, "no answer within 0.4 s"),
        (b"\x04\0\xff\xff\xff\xffabc", False, "ended"),
        (b"\x02\0\0\0\0\x04abcd", False, "no presentation context"),
    ],
)
def test_a_peer_that_is_no_archive_is_one_error(case: Case, reply: bytes, closes: bool, expected: str) -> None:
    with raw_peer(reply, closes=closes) as url:
        assert expected in case.refused("find", case.client("find", 0.4, url))


MALFORMED = {
    "an empty command": b"\x04\0\0\0\0\x0a\0\0\0\x06\x01\x03DOE^",
    "an unknown context": b"\x04\0\0\0\0\x0a\0\0\0\x06\x63\xffDOE^",
    "a release": b"\x05\0\0\0\0\x04\0\0\0\0",
    "a part without an end": b"\x04\0\0\1\0\0DOE^",
    "an unknown part": b"\x63\0\0\0\0\x04DOE^",
}


@pytest.mark.parametrize("kind", MALFORMED)
def test_a_malformed_message_is_one_error(case: Case, kind: str, capfd: pytest.CaptureFixture[str]) -> None:
    case.archive.raw, hook = MALFORMED[kind], threading.excepthook
    case.refused("find", case.client("find", 0.4))
    assert "".join(capfd.readouterr()) == ""
    with Watch(1.0):
        # Failures of other threads are reported.
        assert threading.excepthook is hook


def test_no_archive_is_one_error(case: Case) -> None:
    for host, expected in (("127.0.0.1", "no connection"), ("no-such-host.invalid", "no such host")):
        assert expected in case.refused("find", case.client(url=f"dicom://A@{host}:{free_port()}"))


def test_only_a_trusted_certificate_is_taken_and_one_is_shown(case: Case, tmp_path: Path) -> None:
    tls = mutual_tls(tmp_path)
    trusting = PacsCredentials(authorities=tmp_path / "authority.pem")
    complete = dataclasses.replace(trusting, certificate=tmp_path / "client.pem", key=tmp_path / "client.key")
    with case.archive.serve(tls=tls) as url:
        assert Dimse(url, complete, 5.0).find(case.found.study, None) == case.found
        assert "ended" in case.refused("find", Dimse(url, trusting, 5.0))
        assert "no connection with TLS" in case.refused("find", Dimse(url, PacsCredentials(), 5.0))
    case.refused("find", Dimse(case.url.replace("dicom:", "dicom-tls:"), complete, 1.0))
    encrypted, broken = "dicom-tls://A@127.0.0.1:104", PacsCredentials(authorities=tmp_path / "client.key")
    for url, credentials, port, expected in (
        (case.url, trusting, None, "without TLS"),
        (encrypted, trusting, 104, "C-MOVE"),
        (encrypted, broken, None, "cannot be used"),
    ):
        with pytest.raises(PacsError, match=expected):
            Dimse(url, credentials, 5.0, move_port=port)


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
        "dicom://A%5CB@127.0.0.1:104",
    ],
)
def test_an_address_that_cannot_be_used_is_refused_and_not_repeated(url: str) -> None:
    with pytest.raises(PacsError, match="address") as caught:
        Dimse(url, PacsCredentials(), 1.0)
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize("title", ["", " ", " A", "A\\B", "SEVENTEENLETTERSA", "\u00c4", "A\n"])
def test_a_title_that_cannot_be_used_is_refused(title: str) -> None:
    with pytest.raises(PacsError, match="AE title"):
        Dimse("dicom://A@127.0.0.1:104", PacsCredentials(), 1.0, title)


def test_a_missing_extra_is_one_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ggn_tf.pacs.dimse", None)
    with pytest.raises(PacsError) as caught:
        connect_archive("dicom://A@127.0.0.1:104", PacsCredentials(), 1.0)
    assert caught.value.expected == "the extra pacs"


def test_marks_are_fetched_beside_the_series_if_they_are_one_object(case: Case, tmp_path: Path) -> None:
    report = pydicom.dcmread(write_marks(tmp_path / "sr.dcm", series="2.25.4"))
    report.StudyInstanceUID = case.found.study
    report.save_as(tmp_path / "sr.dcm")
    case.archive.instances["2.25.22"] = (tmp_path / "sr.dcm").read_bytes()
    with fetch_series(case.url, case.found.study, None, PacsCredentials(), points_series="2.25.4") as fetched:
        assert len([*fetched.folder.iterdir()]) == 5 and fetched.found == case.found
        assert fetched.marks is not None and pydicom.dcmread(fetched.marks).Modality == "SR"
    assert not fetched.folder.exists()
    several = fetch_series(case.url, case.found.study, None, PacsCredentials(), points_series=case.found.series)
    with pytest.raises(PacsError, match="several objects"), several:
        pass


def test_no_log_names_a_patient(
    case: Case, caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]
) -> None:
    caplog.set_level(logging.DEBUG)
    case.client().fetch(case.client().find(case.found.study, None), case.folder)
    case.archive.status[SEG] = 0xA700
    case.refused("store")
    assert "DOE" not in caplog.text + "".join(capfd.readouterr())
