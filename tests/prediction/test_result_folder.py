"""The folder of an earlier result of the CT is replaced, and nothing else."""

import os
from pathlib import Path

import pydicom
import pytest
import SimpleITK as sitk  # noqa: N813

from ggn_tf.errors import GgnError
from ggn_tf.prediction.result_folder import refuse_foreign_folder, refuse_other_ct
from tests.support.answers import GRID, drawn_nodule, drawn_prediction


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    folder = tmp_path / "result"
    (folder / "overlays").mkdir(parents=True)
    for name in ("result.json", "nodule_mask.nii.gz", "answer.html", "overlays/nodule-001.png"):
        (folder / name).touch()
    return folder


def test_an_earlier_result_may_be_replaced(folder: Path) -> None:
    refuse_foreign_folder(folder)


@pytest.mark.parametrize("name", ["notes.txt", "overlays/mine.png", "overlays/nodule-001.txt"])
def test_a_file_of_the_user_is_never_deleted(folder: Path, name: str) -> None:
    (folder / name).touch()
    with pytest.raises(GgnError, match="cannot be written") as caught:
        refuse_foreign_folder(folder)
    assert caught.value.found == name


def test_the_result_of_a_ct_in_another_place_is_refused(tmp_path: Path) -> None:
    prediction, folder = drawn_prediction(drawn_nodule()), tmp_path / "result"
    prediction.write(folder)
    moved = sitk.Image(prediction.labels)
    moved.SetOrigin([place + 1 for place in moved.GetOrigin()])
    before = (folder / "result.json").read_bytes()
    with pytest.raises(GgnError, match="another place or of another extent") as caught:
        drawn_prediction(drawn_nodule(), labels=moved).write(folder)
    assert (caught.value.case, caught.value.arguments) == (str(folder), ("output",))
    assert (folder / "result.json").read_bytes() == before
    # Another model's result of the same CT, from a file with another order of its rows.
    turned = sitk.Flip(prediction.labels, (False, True, False))
    assert drawn_prediction(drawn_nodule(), labels=turned, model_version=8).write(folder)["model_version"] == 8


def other_mask(path: Path) -> None:
    image = sitk.Image((4, 4, 4), sitk.sitkUInt8)
    sitk.WriteImage(image, str(path))


def test_a_folder_of_the_users_own_files_is_refused_as_such(tmp_path: Path) -> None:
    other_mask(tmp_path / "nodule_mask.nii.gz")
    with pytest.raises(GgnError, match="cannot be written"):
        refuse_other_ct(tmp_path, GRID)


def test_a_segmentation_of_two_series_is_of_both(folder: Path) -> None:
    header = pydicom.Dataset()
    header.ReferencedSeriesSequence = [pydicom.Dataset(), pydicom.Dataset()]
    for item, uid in zip(header.ReferencedSeriesSequence, ("2.25.9", "2.25.10"), strict=True):
        item.SeriesInstanceUID = uid
    header.SOPClassUID, header.SOPInstanceUID = "1.2.840.10008.5.1.4.1.1.66.4", "2.25.1"
    header.file_meta = pydicom.dataset.FileMetaDataset()
    header.file_meta.TransferSyntaxUID = "1.2.840.10008.1.2.1"
    header.save_as(folder / "nodule_mask.seg.dcm", enforce_file_format=True)
    # A CT without a UID may be of any series.
    for series in ("2.25.9", "2.25.10", "", None):
        refuse_other_ct(folder, GRID, series)
    with pytest.raises(GgnError, match="another DICOM series") as caught:
        refuse_other_ct(folder, GRID, "2.25.7")
    assert caught.value.found == "a result of series 2.25.10, 2.25.9"


@pytest.mark.parametrize("kind", ["pipe", "link"])
def test_a_mask_that_is_no_regular_file_is_not_opened(folder: Path, kind: str) -> None:
    mask = folder / "nodule_mask.nii.gz"
    mask.unlink()
    other_mask(folder.parent / mask.name)
    os.mkfifo(mask) if kind == "pipe" else mask.symlink_to(folder.parent / mask.name)
    refuse_other_ct(folder, GRID)
