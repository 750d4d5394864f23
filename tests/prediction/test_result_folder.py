"""The folder of an earlier result is replaced, and nothing else."""

from pathlib import Path

import pytest

from ggn_tf.errors import GgnError
from ggn_tf.prediction.result_folder import refuse_foreign_folder


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
