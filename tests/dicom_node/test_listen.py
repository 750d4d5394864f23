"""The node of the API, with a model of these tests, and the command."""

import copy
import json
import re
import socket
from contextlib import nullcontext
from pathlib import Path

import pydicom
import pytest
from click.testing import CliRunner

from ggn_tf.api.listen import _marked_series, listen
from ggn_tf.cases.volumes import open_volume
from ggn_tf.cli import main
from ggn_tf.dicom_node.study_queue import StudyQueue
from ggn_tf.errors import GgnError, LocationError, TableError
from ggn_tf.prediction.locations import Location
from ggn_tf.prediction.nodules import CtPrediction
from tests.dicom_node.test_node import wait
from tests.support.chest import CENTER, lung_grid, lung_with_balls, write_dicom
from tests.support.dicom_predictions import predicted
from tests.support.fake_dicomweb import Archive
from tests.support.loopback_server import free_port
from tests.support.marked_reports import group, in_image, in_patient, write_marks
from tests.support.node_studies import ARCHIVE, CT, NODE, SEG, SR, instance, send

OUTSIDE = (500.0, 0.0, 0.0)


class Model:
    """Finds a ball of 6 mm at each location."""

    def class_names(self) -> tuple[str, ...]:
        """As in `predicted`."""
        return ("a", "b")

    def predict(self, ct: Path, locations: list[Location]) -> CtPrediction:
        volume = open_volume(ct)
        return predicted(volume, *((location.target(volume.stored_grid).center_mm_lps, 6.0) for location in locations))


@pytest.fixture(scope="module")
def series(tmp_path_factory: pytest.TempPathFactory) -> list[pydicom.Dataset]:
    folder = write_dicom(lung_with_balls(lung_grid())[:, :, 20:52], tmp_path_factory.mktemp("ct") / "dicom")
    return [pydicom.dcmread(path) for path in sorted(folder.iterdir())]


def marked(ct: pydicom.Dataset, folder: Path, *points: tuple[float, float, float]) -> pydicom.Dataset:
    groups = [group(in_patient("POINT", point, ct.FrameOfReferenceUID)) for point in points]
    report = pydicom.dcmread(write_marks(folder / "marks.dcm", *groups))
    report.StudyInstanceUID = ct.StudyInstanceUID
    return report


@pytest.fixture
def instances(series: list[pydicom.Dataset], tmp_path: Path) -> Path:
    """A study with the CT and a smaller reconstruction of it, in one frame of reference."""
    for name, slices in (("large", series), ("small", series[4:-4])):
        (tmp_path / name).mkdir()
        for number, item in enumerate(slices):
            copied = copy.deepcopy(item)
            if name == "small":
                copied.SeriesInstanceUID, copied.SOPInstanceUID = "2.25.5", f"2.25.5.{number}"
                copied.file_meta.MediaStorageSOPInstanceUID = copied.SOPInstanceUID
            copied.save_as(tmp_path / name / f"{number}.dcm")
    (tmp_path / "markers").mkdir()
    return tmp_path


def test_the_series_that_an_object_references_is_predicted(series: list[pydicom.Dataset], instances: Path) -> None:
    report = marked(series[0], instances / "markers", CENTER)
    assert _marked_series(instances)[0].name == "large"
    report.CurrentRequestedProcedureEvidenceSequence = [pydicom.Dataset()]
    report.CurrentRequestedProcedureEvidenceSequence[0].ReferencedSeriesSequence = [pydicom.Dataset()]
    (referenced,) = report.CurrentRequestedProcedureEvidenceSequence[0].ReferencedSeriesSequence
    referenced.SeriesInstanceUID = "2.25.5"
    report.save_as(instances / "markers" / "marks.dcm")
    ct, locations, note = _marked_series(instances)
    assert (ct.name, len(locations), note) == ("small", 1, "")


def test_what_is_not_used_beside_a_nodule_is_noted(series: list[pydicom.Dataset], instances: Path) -> None:
    marks = instances / "markers"
    elsewhere = group(in_image("POINT", (3.5, 4.5), "2.25.1"))
    write_marks(marks / "a.dcm", elsewhere, group(in_patient("POINT", CENTER, series[0].FrameOfReferenceUID)))
    marked(series[0], marks, OUTSIDE)
    _, locations, note = _marked_series(instances)
    assert len(locations) == 1
    assert note.startswith("1 of 2 SR and SEG were not used: measurement group 1 at (500.00")
    assert note.endswith("1 measurement groups on images that are not of the series were left out.")


def test_without_a_nodule_the_reason_is_that_of_the_object(series: list[pydicom.Dataset], instances: Path) -> None:
    marked(series[0], instances / "markers", OUTSIDE)
    (instances / "localizer").mkdir()
    (instances / "localizer" / "1.dcm").write_bytes(b"damaged")
    with pytest.raises(LocationError) as caught:
        _marked_series(instances)
    assert "outside the CT; 1 CT series that cannot be read" in str(caught.value.found)


def test_a_study_with_far_too_many_nodules_is_refused(series: list[pydicom.Dataset], instances: Path) -> None:
    marked(series[0], instances / "markers", *[CENTER] * 201)
    with pytest.raises(LocationError, match="too many"):
        _marked_series(instances)


def test_codes_of_classes_that_the_model_lacks_are_refused_at_the_start(tmp_path: Path) -> None:
    (tmp_path / "codes.csv").write_text("class,code,scheme,meaning\nother,1,SCT,other\n")
    with Archive().serve() as url, pytest.raises(TableError, match="other"):
        listen(Model(), NODE, [ARCHIVE], url, tmp_path / "queue", port=0, codes=tmp_path / "codes.csv")
    assert not (tmp_path / "queue").exists()


def states(queue: Path) -> dict[str, int]:
    result = CliRunner().invoke(main, ["listen", "--queue", str(queue), "--json"])
    return {state: count for state, count in json.loads(result.stdout)["states"].items() if count}


def test_a_routed_series_with_a_point_comes_back_as_seg_and_sr(series: list[pydicom.Dataset], tmp_path: Path) -> None:
    archive, queue = Archive(), tmp_path / "queue"
    # Another series of the study, in which nothing is marked.
    other = instance("other", CT)
    other.StudyInstanceUID = series[0].StudyInstanceUID
    report = marked(series[0], tmp_path, CENTER)
    with archive.serve() as url, listen(Model(), NODE, [ARCHIVE], url, queue, port=0, quiet_s=0.3) as node:
        assert {*send(node.address, [*series, other, report])} == {0}
        wait(lambda: states(queue) == {"delivered": 1}, 90)
        # The archive routes them here.
        objects = archive.headers()
        assert send(node.address, objects) == [0, 0] and states(queue) == {"delivered": 1}
    assert sorted(item.SOPClassUID for item in objects) == [SEG, SR]
    assert {item.StudyInstanceUID for item in objects} == {series[0].StudyInstanceUID}
    (found,) = (item for item in objects if item.SOPClassUID == SEG)
    assert found.ReferencedSeriesSequence[0].SeriesInstanceUID == series[0].SeriesInstanceUID


def test_the_command_receives_until_a_signal(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ggn_tf.load", lambda *_, **__: nullcontext(Model()))
    monkeypatch.setattr("ggn_tf.cli.listen.StopSignal.requested", lambda _: True)
    with Archive().serve() as url:
        given = ["--port", "0", "--known-aet", ARCHIVE, "--server", "h:1", "--send-to", url, "--status-port", "0"]
        result = CliRunner().invoke(main, ["listen", *given, "--queue", str(tmp_path / "queue")])
    assert result.exit_code == 0, result.output
    assert re.fullmatch(
        rf"GGNTF receives on 127.0.0.1:\d+, for {ARCHIVE}\nstatus on http://127.0.0.1:\d+\n", result.stdout
    )


def test_a_mark_outside_the_ct_fails_with_its_reason(series: list[pydicom.Dataset], tmp_path: Path) -> None:
    queue = tmp_path / "queue"
    with Archive().serve() as url, listen(Model(), NODE, [ARCHIVE], url, queue, port=0, quiet_s=0.3) as node:
        send(node.address, [*series, marked(series[0], tmp_path, OUTSIDE)])
        wait(lambda: states(queue) == {"failed": 1}, 90)
    result = CliRunner().invoke(main, ["listen", "--queue", str(queue), "--json"])
    (study,) = json.loads(result.stdout)["studies"]
    assert "(500.00, 0.00, 0.00) mm (LPS), outside the CT" in study["reason"]


@pytest.mark.parametrize(
    ("title", "caller", "archive", "argument"),
    [
        (NODE, ARCHIVE, "http://pacs.example.org/dicom-web", "pacs_credentials"),
        ("A\\B", ARCHIVE, "https://pacs.example.org/dicom-web", "title"),
        (NODE, "", "https://pacs.example.org/dicom-web", "callers"),
    ],
)
def test_an_archive_or_title_that_cannot_be_used_is_an_error_before_anything_starts(
    tmp_path: Path, title: str, caller: str, archive: str, argument: str
) -> None:
    with pytest.raises(GgnError) as caught:
        listen(Model(), title, [caller], archive, tmp_path / "queue", port=0)
    assert argument in caught.value.arguments
    assert not (tmp_path / "queue").exists()


@pytest.mark.parametrize(
    "arguments",
    [
        ["--known-aet", "A", "--export", "model"],
        ["--send-to", "https://h/x", "--export", "model"],
        ["--send-to", "https://h/x", "--known-aet", "A"],
        ["--send-to", "https://h/x", "--known-aet", "A", "--export", "model", "--server", "h:1"],
        ["--send-to", "https://h/x", "--known-aet", "A", "--export", "model", "--tls-ca", "ca.pem"],
        ["--aet", "A TITLE WITH 18 LET"],
        ["--known-aet", "A\\B"],
        ["--aet", ""],
    ],
)
def test_what_is_missing_or_contradicts_is_a_usage_error(arguments: list[str], tmp_path: Path) -> None:
    assert CliRunner().invoke(main, ["listen", "--queue", str(tmp_path), *arguments]).exit_code == 2


@pytest.mark.parametrize("name", ["missing", "other"])
def test_the_status_of_what_is_not_a_queue_is_an_error(tmp_path: Path, name: str) -> None:
    (tmp_path / "other" / "foo").mkdir(parents=True)
    result = CliRunner().invoke(main, ["listen", "--queue", str(tmp_path / name), "--json"])
    assert result.exit_code == 1 and "The folder is not a queue." in result.stderr and result.stdout == ""
    assert not (tmp_path / "missing").exists()


@pytest.mark.parametrize(
    ("wrong", "found"),
    [
        (["--send-to=http://pacs.example.org/dicom-web"], "address"),
        (["--queue={0}/other"], "not a queue"),
        (["--queue={0}/used"], "Another process uses the queue."),
        (["--port={1}"], "--port"),
        (["--status-port={1}"], "--status-port"),
        (["--port={2}", "--status-port={2}"], "--status-port"),
    ],
)
def test_wrong_options_are_refused_before_tensorflow_is_loaded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, wrong: list[str], found: str
) -> None:
    monkeypatch.setattr("ggn_tf.cli.listen.load_predictor", lambda **_: pytest.fail("loaded"))
    (tmp_path / "other" / "foo").mkdir(parents=True)
    options = ["--send-to=dicom://A@127.0.0.1:104", f"--queue={tmp_path}/new", "--known-aet=A", f"--export={tmp_path}"]
    with StudyQueue(tmp_path / "used").opened(), socket.create_server(("127.0.0.1", 0)) as taken:
        ports = taken.getsockname()[1], free_port()
        wrong = [option.format(tmp_path, *ports) for option in wrong]
        result = CliRunner().invoke(main, ["listen", "--port=0", *options, *wrong])
    assert result.exit_code == 1 and found in result.stderr
    assert not (tmp_path / "new").exists()
