"""`predict --pacs` with a real Orthanc, by both protocols."""

import json
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import pydicom
import pytest
from click.testing import CliRunner

from ggn_tf.cli import main
from ggn_tf.pacs.credentials import PacsCredentials
from ggn_tf.pacs.dicomweb import DicomWeb
from ggn_tf.pacs.dimse import Dimse
from tests.support.chest import CENTER, lung_grid, lung_with_balls, write_dicom
from tests.support.marked_reports import group, in_image, write_marks
from tests.support.threshold_model import export_threshold_model

pytest.importorskip("pynetdicom", reason="needs the extra pacs")
pytest.importorskip("dicomweb_client.web", reason="needs the extra pacs")
from tests.support.orthanc import PASSWORD, USER, Orthanc, running_orthanc

WAYS = ["web", "get", "move"]


@pytest.fixture(scope="module")
def orthanc(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Orthanc]:
    with running_orthanc(tmp_path_factory.mktemp("orthanc")) as running:
        yield running


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return export_threshold_model(tmp_path_factory.mktemp("models") / "ggn")


@pytest.fixture(scope="module", params=["stow", "store"])
def stored(
    orthanc: Orthanc, request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> list[pydicom.Dataset]:
    """A study of a CT of 40 slices, and of a length as OHIF saves it, stored by STOW or by C-STORE."""
    folder = tmp_path_factory.mktemp(request.param)
    grid = lung_grid()
    ct = write_dicom(lung_with_balls(grid)[:, :, 16:56], folder / "ct", {"0020|0010": request.param})
    study, series, report = (f"2.25.{number}{len(request.param)}" for number in (101, 102, 103))
    slices = [pydicom.dcmread(path) for path in sorted(ct.iterdir())]
    for number, dataset in enumerate(slices):
        dataset.StudyInstanceUID, dataset.SeriesInstanceUID = study, series
        dataset.SOPInstanceUID = dataset.file_meta.MediaStorageSOPInstanceUID = f"{series}.{number}"
        dataset.save_as(folder / "ct" / f"{number}.dcm")
    column, row, level = np.round(grid.index_of(CENTER)).astype(int)
    length = (column - 4.5, row + 0.5, column + 5.5, row + 0.5)
    marks = write_marks(
        folder / "marks.dcm",
        group(in_image("POLYLINE", length, slices[level - 16].SOPInstanceUID)),
        series=report,
    )
    edited = pydicom.dcmread(marks)
    edited.StudyInstanceUID, edited.PatientID, edited.SOPInstanceUID = study, slices[0].PatientID, f"{report}.1"
    edited.file_meta.MediaStorageSOPInstanceUID = edited.SOPInstanceUID
    edited.save_as(marks)
    client = (
        DicomWeb(orthanc.web, PacsCredentials(user=(USER, PASSWORD)), 30.0)
        if request.param == "stow"
        else Dimse(orthanc.dicom, PacsCredentials(), 30.0)
    )
    assert client.send(study, [*(folder / "ct" / f"{number}.dcm" for number in range(40)), marks]) == 41
    return [slices[0], edited]


def options(orthanc: Orthanc, way: str) -> Sequence[object]:
    if way == "web":
        return ("--pacs", orthanc.web)
    return ("--pacs", orthanc.dicom, *(("--move-port", orthanc.move_port) if way == "move" else ()))


def test_a_study_is_answered_and_the_objects_are_sent_once(
    orthanc: Orthanc, models: Path, stored: list[pydicom.Dataset], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GGN_TF_PACS_USER", USER)
    monkeypatch.setenv("GGN_TF_PACS_PASSWORD", PASSWORD)
    ct, report = stored
    documents = []
    for way in WAYS:
        asked = (
            "predict",
            *options(orthanc, way),
            "--study",
            ct.StudyInstanceUID,
            "--export",
            models,
            "--json",
            "--send",
        )
        result = CliRunner().invoke(main, [*map(str, asked), "--points-series", report.SeriesInstanceUID])
        assert result.exit_code == 0, result.output
        documents.append(json.loads(result.stdout))
        counts = orthanc.count_by_qido(ct.StudyInstanceUID), orthanc.count_by_find(ct.StudyInstanceUID)
        # 40 slices, the report with the length, and our SEG and SR.
        assert counts == (43, 43)
    (nodule,) = documents[0]["nodules"]
    assert np.abs(np.subtract(nodule["given_center_mm_lps"], CENTER)).max() < 1
    assert nodule["moves"] > 0 and [document["nodules"] for document in documents] == [[nodule]] * 3
    assert [document["sent"] for document in documents] == [2] * 3
