import dataclasses
import shutil
import threading
import time
from concurrent.futures import Future, ThreadPoolExecutor

import numpy as np
import pandas as pd
import pytest

from ggn_tf.dataset.records import Dataset, read_patches
from ggn_tf.dataset.splits import read_split
from ggn_tf.errors import RunError
from ggn_tf.evaluation.run_predictions import _two_at_once, describe_run, predict_run
from ggn_tf.evaluation.statistics.mask_measures import MASK_COLUMNS
from ggn_tf.evaluation.statistics.predictions_table import columns, probabilities
from ggn_tf.evaluation.statistics.run_scores import TrainedRun, TrainedStage
from ggn_tf.models.names import SEGMENTATION
from ggn_tf.runs.run_folder import RunFolder, open_run_dataset
from ggn_tf.runs.stages import CLASSIFY, SEGMENT, set_trainable
from tests.support.untrained_run import write_untrained_run

TWO = ("AAH+AIS", "MIA+IAC")
STAGES = ("segment", "classify", "joint")


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> RunFolder:
    return write_untrained_run(tmp_path_factory.mktemp("evaluated"))


@pytest.fixture(scope="module")
def dataset(run: RunFolder) -> Dataset:
    return open_run_dataset(run)


@pytest.fixture(scope="module")
def announced() -> list[str]:
    return []


@pytest.fixture(scope="module")
def frame(run: RunFolder, dataset: Dataset, announced: list[str]) -> pd.DataFrame:
    return predict_run(run, dataset, read_split(dataset, 1), announce=announced.append)


def _rows(frame: pd.DataFrame, stage: str, set_name: str = "test") -> pd.DataFrame:
    return frame[(frame["stage"] == stage) & (frame["set"] == set_name)]


def _normalised(hu: np.ndarray) -> np.ndarray:
    return ((np.clip(hu, -1024, 400) + 1024) / 1424 * 2 - 1).astype(np.float32)


def test_table_has_the_contracts_columns_and_a_row_for_each_stage_and_case(frame, dataset):
    assert list(frame.columns) == [*columns(TWO), *MASK_COLUMNS]
    assert frame[["split", "model", "repeat"]].drop_duplicates().values.tolist() == [[1, "cascade", 1]]
    assert tuple(frame["stage"].unique()) == STAGES and len(frame) == len(STAGES) * len(dataset.cases)
    for set_name in ("train", "validation", "test"):
        assert tuple(_rows(frame, "joint", set_name)["case"]) == getattr(read_split(dataset, 1), set_name)
    classes = {"AAH": "AAH+AIS", "AIS": "AAH+AIS", "MIA": "MIA+IAC", "IAC": "MIA+IAC"}
    expected = {case.case_id: (case.patient_id, classes[case.label]) for case in dataset.cases}
    assert {case: (patient, label) for case, patient, label in frame[["case", "patient", "label"]].values} == expected
    assert np.isnan(probabilities(frame[frame["stage"] == "segment"])).all()
    assert np.abs(probabilities(_rows(frame, "classify")) - probabilities(_rows(frame, "joint"))).max() > 1e-3
    assert frame.loc[frame["set"] == "train", list(MASK_COLUMNS)].isna().all(axis=None)
    assert (frame.loc[frame["set"] != "train", "reference_mm3"] > 0).all()


@pytest.mark.parametrize("stage", ["classify", "joint"])
def test_probabilities_are_the_stages_own_model_case_by_case(run, frame, dataset, stage):
    rows = _rows(frame, stage)
    hu, _ = read_patches(dataset, list(rows["case"]))
    model = run.load_model(stage)
    expected = [model(_normalised(patch[None]))["probabilities"].numpy()[0] for patch in hu]
    np.testing.assert_allclose(probabilities(rows), expected, atol=1e-6)


@pytest.mark.parametrize("stage", STAGES)
def test_dice_is_the_voxel_count(run, frame, dataset, stage):
    rows = _rows(frame, stage)
    hu, reference = read_patches(dataset, list(rows["case"]))
    soft = run.load_model(stage)(_normalised(hu))["mask"].numpy()
    expected = [2 * (a & b).sum() / (a.sum() + b.sum()) for a, b in zip(reference == 1, soft >= 0.5, strict=True)]
    assert 0 < min(expected) < max(expected) < 1
    # Another batch size sums in another order, which may put a voxel at 0.5 on the other side.
    np.testing.assert_allclose(rows["dice"], expected, atol=2e-3)


@pytest.mark.parametrize("failing", [0, 1])
def test_after_a_batch_that_fails_no_further_one_begins(failing: int):
    begun, failed, later = [], threading.Event(), range(2, 9)

    def reduce(batch: int) -> None:
        begun.append(batch)
        if batch == failing:
            failed.set()
            raise ValueError("damaged")
        failed.wait(60)
        time.sleep(0.1)

    with pytest.raises(ValueError, match="damaged"):
        list(_two_at_once(reduce, [0, 1, *later]))
    assert not set(begun) & set(later)


def test_ctrl_c_ends_the_prediction_without_the_batch_that_waits(monkeypatch):
    begun, two_run, cancelled = [], threading.Event(), threading.Event()
    shutdown = ThreadPoolExecutor.shutdown

    def reduce(batch: int) -> None:
        begun.append(batch)
        if len(begun) == 2:
            two_run.set()
        cancelled.wait(60)

    def interrupted(_: Future[None]) -> None:
        two_run.wait(60)
        raise KeyboardInterrupt

    def end(threads: ThreadPoolExecutor, **arguments: bool) -> None:
        shutdown(threads, **arguments | {"wait": False})
        cancelled.set()
        shutdown(threads)

    monkeypatch.setattr(ThreadPoolExecutor, "shutdown", end)
    monkeypatch.setattr(Future, "result", interrupted)
    with pytest.raises(KeyboardInterrupt):
        list(_two_at_once(reduce, range(3)))
    assert sorted(begun) == [0, 1]


def test_every_stage_and_set_is_announced(dataset, frame, announced):
    assert len(announced) == 9
    assert announced[-1] == f"predicting: stage joint, test set, {len(read_split(dataset, 1).test)} nodules"


def test_a_frozen_network_is_predicted_once_and_gives_the_same_bits(run, dataset, frame, tmp_path):
    frozen = RunFolder.create(tmp_path, run.description, dataset.folder, {}, "ggn-tf fit")
    for stage in (SEGMENT, CLASSIFY):
        model = run.load_model("segment")
        set_trainable(model, stage)  # as training stores it: frozen layers run other operations
        frozen.finish_stage(model, {"stage": stage.name, "epochs": 1, "best_epoch": 1, "ended": "1 epoch"})
    assert not frozen.load_model("classify").get_layer(SEGMENTATION).trainable
    announced: list[str] = []
    again = predict_run(frozen, dataset, read_split(dataset, 1), announce=announced.append)
    assert [line.split(",")[0] for line in announced] == ["predicting: stage classify"] * 3
    pd.testing.assert_frame_equal(
        again[again["stage"] == "segment"], frame[frame["stage"] == "segment"], check_exact=True
    )


def test_nodules_that_the_task_leaves_out_are_left_out_and_predicting_again_gives_the_same_table(tmp_path):
    run = write_untrained_run(tmp_path, task="AIS,MIA", stages=("classify",))
    dataset = open_run_dataset(run)
    frame, again = (predict_run(run, dataset, read_split(dataset, 1)) for _ in range(2))
    pd.testing.assert_frame_equal(again, frame, check_exact=True)
    kept = [case.case_id for case in dataset.cases if case.label in ("AIS", "MIA")]
    assert sorted(_rows(frame, "classify", "train")["case"]) == [
        case for case in kept if case in read_split(dataset, 1).train
    ]
    assert set(frame["case"]) == set(kept)


def test_only_finished_stages_are_predicted_and_split_and_repeat_named(tmp_path):
    run = write_untrained_run(tmp_path, stages=("segment",))
    dataset = open_run_dataset(run)
    frame = predict_run(run, dataset, read_split(dataset, 2), repeat=3)
    assert frame[["stage", "split", "repeat"]].drop_duplicates().values.tolist() == [["segment", 2, 3]]


def test_run_without_a_finished_stage_is_refused(tmp_path):
    run = write_untrained_run(tmp_path, stages=())
    dataset = open_run_dataset(run)
    with pytest.raises(RunError, match=r"nothing to evaluate.\n.*\n  found:    no finished stage"):
        predict_run(run, dataset, read_split(dataset, 1))


def test_moved_dataset_is_taken_from_where_it_lies(run, tmp_path):
    shutil.copytree(run.dataset, tmp_path / "moved")
    assert open_run_dataset(run, tmp_path / "moved").folder == tmp_path / "moved"


def test_missing_dataset_is_refused_with_the_argument_that_names_it(run, tmp_path):
    lost = RunFolder(run.folder, run.description, tmp_path / "gone", {})
    with pytest.raises(RunError) as caught:
        open_run_dataset(lost)
    assert caught.value.found == f"no folder {tmp_path / 'gone'}"
    assert caught.value.arguments == ("own_dataset",)


def test_dataset_of_another_fingerprint_is_refused(run, dataset):
    other = dataclasses.replace(run.description, dataset_fingerprint="0" * 64)
    with pytest.raises(RunError) as caught:
        open_run_dataset(RunFolder(run.folder, other, run.dataset, {}))
    assert caught.value.what == "The dataset is not the one that the run was trained on."
    assert caught.value.found == f"fingerprint {dataset.fingerprint}"
    assert caught.value.expected == f"fingerprint {'0' * 64}"


def test_description_says_what_was_trained_and_names_no_home_directory(run, dataset):
    assert describe_run(run, dataset) == TrainedRun(
        task="AAH+AIS,MIA+IAC",
        model="cascade",
        split=1,
        seed=0,
        precision="float32",
        select_on="validation",
        dataset_fingerprint=dataset.fingerprint,
        dataset="dataset",
        versions={"ggn-tf": "1.0"},
        stages=tuple(TrainedStage(stage, 2, 1, "2 epochs") for stage in STAGES),
    )
