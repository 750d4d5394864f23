from datetime import date
from pathlib import Path

import pydicom
import pytest

from ggn_tf.cases.scan_facts import ScanFacts, read_scan_facts
from ggn_tf.cases.volumes import open_volume
from tests.support.chest import lung_grid, lung_with_balls, write_dicom, write_nifti
from tests.support.dicom_files import edit, write_enhanced

IMAGE = lung_with_balls(lung_grid((2.0, 2.0, 5.0)))[:, :, :4]
TAGS = {"0018|1210": "B70f", "0018|0010": "Ultravist", "0010|0030": "19600229", "0010|0040": "F"}


@pytest.fixture(scope="module")
def series(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_dicom(IMAGE, tmp_path_factory.mktemp("facts") / "dicom", {"0008|0022": "20210304", **TAGS})


def facts(path: Path) -> ScanFacts:
    return read_scan_facts(open_volume(path))


def test_headers_are_read(series: Path):
    found = facts(series)
    assert found.dates == {
        "AcquisitionDate": date(2021, 3, 4),
        "SeriesDate": date(2000, 1, 1),
        "StudyDate": date(2000, 1, 1),
    }
    assert (found.patient_id, found.sex, found.birth_date) == ("PHANTOM-0001", "F", date(1960, 2, 29))
    assert (found.kernel, found.slice_thickness_mm, found.slice_spacing_mm) == ("B70f", 5.0, 5.0)
    assert (found.tube_voltage_kv, found.contrast_agent) == (120.0, True)
    assert found.frame_of_reference.startswith("2.25.")


def test_a_multi_frame_file_has_the_dates_too(series: Path, tmp_path: Path):
    write_enhanced(series, tmp_path / "frames.dcm")
    assert facts(tmp_path / "frames.dcm").dates["StudyDate"] == date(2000, 1, 1)


def test_a_volume_file_states_only_its_grid(tmp_path: Path):
    found = facts(write_nifti(IMAGE, tmp_path / "ct.nii"))
    assert found == ScanFacts({}, "", "", None, "", "", None, 5.0, None, None)


@pytest.mark.parametrize(
    ("written", "expected"),
    [
        ("20210304", date(2021, 3, 4)),
        ("2021.03.04", date(2021, 3, 4)),
        ("20210230", None),
        ("00000000", None),
        ("19000101", None),
        ("19700101", None),
        ("2021", None),
        ("", None),
    ],
)
def test_dates(series: Path, tmp_path: Path, written: str, expected: date | None):
    folder = write_dicom(IMAGE, tmp_path / "dicom")

    def change(_: int, dataset: pydicom.Dataset) -> None:
        dataset.add_new("StudyDate", "LO", written)
        del dataset.SeriesDate

    edit(folder, change)
    found = facts(folder)
    assert found.dates.get("StudyDate") == expected
    assert "SeriesDate" not in found.dates and "AcquisitionDate" not in found.dates


def test_the_date_of_a_time_stamp_counts(tmp_path: Path):
    folder = write_dicom(IMAGE, tmp_path / "dicom", {"0008|002a": "20210304120000.5"})
    assert facts(folder).dates["AcquisitionDate"] == date(2021, 3, 4)
