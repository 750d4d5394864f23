"""A power cut, simulated by truncating the file that was written last: the same command ends in the same bits."""

import shutil
from pathlib import Path

import pytest

from ggn_tf.dataset.records import Dataset
from ggn_tf.errors import RunError
from ggn_tf.runs.run_description import RunDescription
from ggn_tf.runs.run_folder import RunFolder
from tests.support.tiny_fit import fit, results


def truncate(file: Path) -> None:
    content = file.read_bytes()
    file.write_bytes(content[: len(content) // 2])


def entries(run: RunFolder) -> list[dict]:
    """The ledger without the digests of the .keras files, which contain the time of their writing."""
    return [{name: value for name, value in entry.items() if name != "sha256"} for entry in run.ledger.entries()]


@pytest.fixture
def copied(whole_run: RunFolder, tmp_path: Path) -> Path:
    return Path(shutil.copytree(whole_run.folder, tmp_path / "run"))


@pytest.mark.parametrize("names", [("stages.json",), ("stages/joint.keras",), ("model.keras", "history.csv")])
def test_truncated_files_are_made_again(
    names: tuple[str, ...], copied: Path, whole_run: RunFolder, description: RunDescription, dataset: Dataset
):
    for name in names:
        truncate(copied / name)
    run = fit(copied, description, dataset)
    assert results(run) == results(whole_run)
    assert entries(run) == entries(whole_run)
    assert (copied / "model.keras").read_bytes() == (copied / "stages" / "joint.keras").read_bytes()


def test_a_truncated_run_json_of_a_run_that_only_began_is_written_again(tmp_path: Path, description: RunDescription):
    run = RunFolder.create(tmp_path / "run", description, tmp_path / "dataset", {}, "")
    truncate(run.folder / "run.json")
    RunFolder.create(run.folder, description, tmp_path / "dataset", {}, "")
    assert RunFolder.open(run.folder).description == description


def test_a_truncated_run_json_of_a_run_with_stages_is_a_clear_error(
    copied: Path, description: RunDescription, dataset: Dataset
):
    truncate(copied / "run.json")
    with pytest.raises(RunError, match=r"run\.json: JSONDecodeError"):
        fit(copied, description, dataset)


def test_a_damaged_model_of_an_earlier_stage_costs_nothing_until_it_is_asked_for(
    copied: Path, whole_run: RunFolder, description: RunDescription, dataset: Dataset
):
    truncate(copied / "stages" / "segment.keras")
    run = fit(copied, description, dataset)
    assert run.finished_stages() == whole_run.finished_stages()
    with pytest.raises(RunError, match=r"segment\.keras"):
        run.load_model("segment")
