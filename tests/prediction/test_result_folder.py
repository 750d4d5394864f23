"""The folder of an earlier result of the CT is replaced, and nothing else."""

from pathlib import Path

import pytest
import SimpleITK as sitk  # noqa: N813

from ggn_tf.errors import GgnError
from ggn_tf.prediction.result_folder import refuse_foreign_folder
from tests.support.answers import drawn_nodule, drawn_prediction


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


def test_the_result_of_another_ct_is_refused(tmp_path: Path) -> None:
    prediction, folder = drawn_prediction(drawn_nodule()), tmp_path / "result"
    prediction.write(folder)
    moved = sitk.Image(prediction.labels)
    moved.SetOrigin([place + 1 for place in moved.GetOrigin()])
    before = (folder / "result.json").read_bytes()
    with pytest.raises(GgnError, match="the result of another CT") as caught:
        drawn_prediction(drawn_nodule(), labels=moved).write(folder)
    assert (caught.value.case, caught.value.arguments) == (str(folder), ("output",))
    assert (folder / "result.json").read_bytes() == before
    # Another model's result of the same CT, from a file with another order of its rows.
    turned = sitk.Flip(prediction.labels, (False, True, False))
    assert drawn_prediction(drawn_nodule(), labels=turned, model_version=8).write(folder)["model_version"] == 8
