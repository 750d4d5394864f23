"""More epochs for a stage that is finished."""

import dataclasses
import json
from pathlib import Path

import pytest

from ggn_tf.dataset.records import Dataset
from ggn_tf.errors import RunError
from ggn_tf.models.systems import build_cascade
from ggn_tf.runs.ledger import StopReason
from ggn_tf.runs.run_description import RunDescription
from ggn_tf.runs.run_folder import RunFolder
from tests.support.tiny_fit import fit, results


def with_epochs(description: RunDescription, **epochs: int) -> RunDescription:
    training = description.protocol.training
    stages = {name: dataclasses.replace(getattr(training, name), max_epochs=most) for name, most in epochs.items()}
    training = dataclasses.replace(training, **stages)
    return dataclasses.replace(description, protocol=dataclasses.replace(description.protocol, training=training))


def begun(folder: Path, description: RunDescription, *entries: dict) -> RunFolder:
    """A run whose stages ended as the entries say, without their training."""
    run = RunFolder.create(folder, description, folder.parent / "dataset", {}, "first")
    for entry in entries:
        run.finish_stage(build_cascade(2, description.protocol), {"epochs": 2, **entry})
    return run


SEGMENT = {"stage": "segment", "ended_code": StopReason.ALL_EPOCHS}
CLASSIFY = {"stage": "classify", "ended_code": StopReason.ALL_EPOCHS}


@pytest.mark.nightly
def test_epochs_added_to_a_finished_stage_end_in_the_bits_of_a_run_that_had_them_from_the_start(
    whole_run: RunFolder, tmp_path: Path, description: RunDescription, dataset: Dataset
):
    fit(tmp_path / "run", with_epochs(description, segment=1, joint=1), dataset, "segment")
    extended = fit(tmp_path / "run", with_epochs(description, joint=1), dataset)
    assert [entry["epochs"] for entry in extended.ledger.entries()] == [2, 2, 1]
    extended = fit(tmp_path / "run", description, dataset)
    assert results(extended) == results(whole_run)
    assert RunFolder.open(tmp_path / "run").description == description


def test_the_last_stage_may_grow_and_the_command_is_recorded(tmp_path: Path, description: RunDescription):
    run = begun(tmp_path / "run", description, SEGMENT, CLASSIFY)
    RunFolder.create(run.folder, with_epochs(description, classify=3, joint=4), run.dataset, {}, "second")
    again = RunFolder.open(run.folder)
    assert not again.is_complete("classify") and again.is_complete("segment")
    stored = json.loads((run.folder / "run.json").read_text(encoding="utf-8"))
    assert (stored["command"], stored["extended_by"]) == ("first", ["second"])


@pytest.mark.parametrize("later", ["finished", "begun"])
def test_a_stage_is_closed_once_a_later_one_started_from_it(later: str, tmp_path: Path, description: RunDescription):
    run = begun(tmp_path / "run", description, SEGMENT, *([CLASSIFY] if later == "finished" else []))
    if later == "begun":
        (run.folder / "checkpoints").mkdir()
        (run.folder / "checkpoints" / "classify-000001.npz").write_bytes(b"")
    with pytest.raises(RunError, match="a later one has started from its weights") as caught:
        RunFolder.create(run.folder, with_epochs(description, segment=3, joint=4), run.dataset, {}, "")
    assert "found:    protocol.training.segment.max_epochs = 2\n" in str(caught.value)
    assert "expected: protocol.training.segment.max_epochs = 3\n" in str(caught.value)
    assert caught.value.arguments == ("epochs", "run")


def test_a_stage_that_its_patience_ended_would_have_ended_there_with_more_epochs_too(
    tmp_path: Path, description: RunDescription
):
    patient = {"stage": "segment", "ended_code": StopReason.NO_BETTER_SCORE}
    run = begun(tmp_path / "run", description, patient, CLASSIFY)
    again = RunFolder.create(run.folder, with_epochs(description, segment=30), run.dataset, {}, "")
    assert again.is_complete("segment")


def test_a_stage_taken_from_another_run_is_closed(tmp_path: Path, description: RunDescription):
    run = begun(tmp_path / "run", description, {**SEGMENT, "taken_from": "../donor"})
    with pytest.raises(RunError, match="cannot be extended"):
        RunFolder.create(run.folder, with_epochs(description, segment=3), run.dataset, {}, "")


def test_fewer_epochs_are_refused(tmp_path: Path, description: RunDescription):
    run = begun(tmp_path / "run", description)
    with pytest.raises(RunError, match=r"joint\.max_epochs = 2"):
        RunFolder.create(run.folder, with_epochs(description, joint=1), run.dataset, {}, "")


def test_more_epochs_do_not_hide_another_difference(tmp_path: Path, description: RunDescription):
    run = begun(tmp_path / "run", description)
    other = dataclasses.replace(with_epochs(description, joint=3), seed=8)
    with pytest.raises(RunError, match=r"seed = 7; protocol\.training\.joint\.max_epochs = 2"):
        RunFolder.create(run.folder, other, run.dataset, {}, "")
    assert RunFolder.open(run.folder).description == description
