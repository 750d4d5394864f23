import dataclasses
import json
import zipfile
from pathlib import Path

import keras
import numpy as np
import pytest

from ggn_tf.errors import RunError
from ggn_tf.files import sha256
from ggn_tf.models.systems import build_cascade
from ggn_tf.runs.lock import lock_run
from ggn_tf.runs.run_description import RunDescription
from ggn_tf.runs.run_folder import RunFolder


@pytest.fixture
def run(tmp_path: Path, description: RunDescription) -> RunFolder:
    return RunFolder.create(tmp_path / "runs" / "a", description, tmp_path / "dataset", {"python": "3"}, "ggn-tf fit")


def test_a_run_is_read_back_as_it_was_asked(run: RunFolder, description: RunDescription, tmp_path: Path):
    again = RunFolder.open(run.folder)
    assert again.description == description and again.versions == {"python": "3"}
    assert again.dataset == (tmp_path / "dataset").resolve()


def test_run_and_dataset_can_move_together(run: RunFolder, tmp_path: Path):
    (tmp_path / "runs").rename(tmp_path / "elsewhere")
    assert RunFolder.open(tmp_path / "elsewhere" / "a").dataset == (tmp_path / "dataset").resolve()


def test_the_same_settings_come_back_to_the_run_and_others_are_refused_with_the_difference(
    run: RunFolder, description: RunDescription
):
    RunFolder.create(run.folder, description, run.dataset, {}, "again")
    assert json.loads((run.folder / "run.json").read_text(encoding="utf-8"))["command"] == "ggn-tf fit"
    training = dataclasses.replace(description.protocol.training, joint_weight=0.5, select_by="loss")
    other = dataclasses.replace(
        description, seed=8, protocol=dataclasses.replace(description.protocol, training=training)
    )
    with pytest.raises(RunError) as caught:
        RunFolder.create(run.folder, other, run.dataset, {}, "other")
    assert "found:    seed = 7; protocol.training.joint_weight = 1.0; protocol.training.select_by = accuracy" in str(
        caught.value
    )
    assert "expected: seed = 8; protocol.training.joint_weight = 0.5; protocol.training.select_by = loss" in str(
        caught.value
    )


def test_a_folder_with_other_files_is_left_alone(tmp_path: Path):
    (tmp_path / "notes.txt").write_text("mine", encoding="utf-8")
    with pytest.raises(RunError, match="no run.json"), lock_run(tmp_path):
        pass
    assert [path.name for path in tmp_path.iterdir()] == ["notes.txt"]


def test_a_file_in_the_runs_place_is_refused(tmp_path: Path):
    (tmp_path / "run").write_text("mine", encoding="utf-8")
    with pytest.raises(RunError, match="a file"), lock_run(tmp_path / "run"):
        pass


def test_what_a_killed_process_left_half_written_is_cleared_away(run: RunFolder):
    (run.folder / "checkpoints").mkdir()
    for name in ("checkpoints/.ggn-tf-temporary.segment-000003.abcd.npz", ".ggn-tf-temporary.run.abcd.json"):
        (run.folder / name).write_text("half", encoding="utf-8")
    with lock_run(run.folder):
        assert not list(run.folder.rglob(".ggn-tf-*"))
    assert (run.folder / "run.json").exists()


def test_a_run_that_was_killed_at_its_very_first_file_can_be_begun_again(tmp_path: Path):
    for name in (".lock", ".ggn-tf-temporary.run.abcd.json"):
        (tmp_path / name).write_text("", encoding="utf-8")
    with lock_run(tmp_path):
        assert [path.name for path in tmp_path.iterdir()] == [".lock"]


@pytest.mark.parametrize(
    ("content", "message"),
    [(None, "run.json: No such file"), ("{", "JSONDecodeError"), ("{}", "KeyError"), ('{"schema": 99}', "schema")],
)
def test_a_folder_that_is_no_run_is_refused(tmp_path: Path, content: str | None, message: str):
    if content is not None:
        (tmp_path / "run.json").write_text(content, encoding="utf-8")
    with pytest.raises(RunError, match=message):
        RunFolder.open(tmp_path)


def test_a_second_process_is_refused(run: RunFolder):
    with lock_run(run.folder), pytest.raises(RunError, match="Another process"), lock_run(run.folder):
        pass
    with lock_run(run.folder):
        pass


def test_a_finished_stage_gives_back_its_model(run: RunFolder, description: RunDescription):
    model = build_cascade(2, description.protocol, seed=3)
    run.finish_stage(model, {"stage": "segment", "epochs": 2})
    assert RunFolder.open(run.folder).finished_stages() == ("segment",)
    for ours, theirs in zip(model.get_weights(), run.load_model("segment").get_weights(), strict=True):
        np.testing.assert_array_equal(ours, theirs)
    assert (run.folder / "model.keras").read_bytes() == (run.folder / "stages" / "segment.keras").read_bytes()
    assert run.load_model("segment") is not run.load_model("segment")
    run.keep_models()
    assert run.load_model("segment") is run.load_model("segment") is run.load_model()


def test_an_unfinished_stage_has_no_model(run: RunFolder):
    with pytest.raises(RunError, match="finished: none"):
        run.load_model()
    with pytest.raises(RunError, match="expected: joint"):
        run.load_model("joint")


def test_an_unfinished_run_names_the_command_that_extended_it(run: RunFolder, description: RunDescription):
    training = description.protocol.training
    longer = dataclasses.replace(training.joint, max_epochs=training.joint.max_epochs + 1)
    protocol = dataclasses.replace(description.protocol, training=dataclasses.replace(training, joint=longer))
    extended = dataclasses.replace(description, protocol=protocol)
    RunFolder.create(run.folder, extended, run.dataset, {}, "ggn-tf fit --epochs 9")
    with pytest.raises(RunError, match="resumes: ggn-tf fit --epochs 9"):
        run.load_model()


def test_a_damaged_model_is_named(run: RunFolder, description: RunDescription):
    run.finish_stage(build_cascade(2, description.protocol), {"stage": "segment"})
    file = run.folder / "stages" / "segment.keras"
    file.write_bytes(file.read_bytes()[:1000])
    with pytest.raises(RunError, match=r"segment\.keras"):
        run.load_model()


def test_a_model_larger_than_the_memory_is_named(run: RunFolder):
    run.finish_stage(keras.Sequential([keras.Input((3,)), keras.layers.Dense(3)]), {"stage": "segment"})
    file = run.folder / "stages" / "segment.keras"
    with zipfile.ZipFile(file) as archive:
        parts = {name: archive.read(name) for name in archive.namelist()}
    parts["config.json"] = parts["config.json"].replace(b'"units": 3', b'"units": 1000000000000')
    with zipfile.ZipFile(file, "w") as archive:
        for name, content in parts.items():
            archive.writestr(name, content)
    run.ledger.enter({"stage": "segment", "sha256": sha256(file)})
    with pytest.raises(RunError, match=r"segment\.keras"):
        run.load_model()


def test_history_keeps_finished_stages_and_rewrites_the_one_under_way(run: RunFolder, description: RunDescription):
    rows = [{"stage": "segment", "epoch": 1, "loss": 0.1 + 0.2, "validation_accuracy": None}]
    run.ledger.write_history(rows)
    run.finish_stage(build_cascade(2, description.protocol), {"stage": "segment"})
    classify = {"stage": "classify", "epoch": 1, "loss": 1 / 3, "validation_accuracy": 0.5}
    for _ in range(2):
        run.ledger.write_history([classify])
    assert (run.folder / "history.csv").read_text(encoding="utf-8").splitlines() == [
        "stage,epoch,loss,validation_accuracy",
        "segment,1,0.30000000000000004,",
        "classify,1,0.3333333333333333,0.5",
    ]
