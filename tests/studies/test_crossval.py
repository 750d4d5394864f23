"""What a cross-validation leaves on disk, and what it refuses."""

import json
import shutil
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pandas as pd
import pytest
from sklearn.metrics import roc_auc_score

import ggn_tf
from ggn_tf.dataset.folds import read_folds
from ggn_tf.dataset.records import Dataset
from ggn_tf.errors import GgnError, RunError, SplitError
from ggn_tf.evaluation.baselines import predict_by_measure
from ggn_tf.evaluation.report.run_tables import summarise
from ggn_tf.evaluation.statistics.folds import score_folds
from ggn_tf.evaluation.statistics.prediction_sets import fit_thresholds
from ggn_tf.evaluation.statistics.predictions_table import probabilities, read_predictions
from ggn_tf.evaluation.statistics.retest import with_perturbation
from ggn_tf.evaluation.statistics.run_scores import read_scores_file
from ggn_tf.evaluation.statistics.score_records import UNPERTURBED
from ggn_tf.evaluation.statistics.scores import class_indices
from ggn_tf.runs.ledger import write_json
from ggn_tf.runs.run_folder import RunFolder, open_run_dataset, read_run_split
from ggn_tf.studies import crossval_scores
from ggn_tf.studies.crossval import cv_runs, read_design, read_out_of_fold, trainings_of, write_design
from ggn_tf.studies.study_report import refuse_foreign_results
from ggn_tf.tasks import Task
from tests.support.tiny_crossval import TASK, compare_on_folds, cross_validate


@pytest.fixture(scope="module")
def whole(whole_crossval: Path) -> Path:
    return whole_crossval


@pytest.fixture
def copy(whole: Path, dataset: Dataset, tmp_path: Path) -> Path:
    # run.json names the dataset relative to the run.
    shutil.copytree(dataset.folder.parent, tmp_path / dataset.folder.parent.name)
    return Path(shutil.copytree(whole, tmp_path / "cv" / "cv"))


def test_each_run_is_an_ordinary_run_of_its_fold(whole: Path, dataset: Dataset) -> None:
    folds, runs = read_folds(whole / "folds.json"), cv_runs(whole)
    assert [run.name for run in runs] == ["fold1-member1", "fold2-member1"]
    assert {run.parent for run in runs} == {whole / "runs"}
    for run, split in zip(map(RunFolder.open, runs), folds.splits, strict=True):
        assert run.description.seed == 0
        assert read_run_split(run, open_run_dataset(run)) == split


def test_every_nodule_has_one_row_by_trainings_that_did_not_see_its_patient(whole: Path, dataset: Dataset) -> None:
    frame, folds = read_out_of_fold(whole), read_folds(whole / "folds.json")
    assert list(frame["stage"].unique()) == ["segment", "classify", "joint"]
    frame = frame[frame["stage"] == "joint"]
    assert sorted(frame["case"]) == sorted(dataset.case_by_id)
    assert list(frame.columns) == [*read_predictions(next((whole / "predictions").glob("*.csv"))).columns, "fold"]
    for fold, rows in frame.groupby("fold"):
        assert tuple(rows["case"]) == folds.by_number[fold].test


def test_a_row_is_that_of_the_folds_own_training(whole: Path) -> None:
    frame = read_out_of_fold(whole)
    for fold, rows in frame.groupby("fold"):
        own = read_predictions(whole / "predictions" / f"fold{fold}-member1.csv")
        np.testing.assert_array_equal(probabilities(rows), probabilities(own[own["set"] == "test"]))


def test_members_differ_in_their_seed_alone(whole: Path) -> None:
    design, folds = replace(read_design(whole), members=3), read_folds(whole / "folds.json")
    trainings = trainings_of(design, folds)
    assert [training.name for training in trainings[2:4]] == ["fold1-member2", "fold2-member2"]
    assert [training.description.seed for training in trainings] == [0, 0, 1, 1, 2, 2]
    assert replace(trainings[4].description, seed=0) == trainings[0].description


def test_members_can_be_added_and_not_taken_away(copy: Path) -> None:
    design = read_design(copy)
    write_design(replace(design, members=2), copy)
    with pytest.raises(RunError, match="not finished: fold1-member2, fold2-member2"):
        cv_runs(copy)
    with pytest.raises(RunError, match="2 members per fold") as error:
        write_design(design, copy)
    assert error.value.arguments == ("members", "folder")


def test_the_same_call_repeats_nothing(copy: Path, dataset: Dataset) -> None:
    before = {path: path.stat().st_mtime_ns for path in copy.rglob("*.keras")}
    text = (copy / "predictions.csv").read_bytes()
    folder = copy.parents[1] / dataset.folder.parent.name / dataset.folder.name
    moved = Dataset(folder, dataset.protocol, dataset.fingerprint, dataset.cases)
    cross_validate(moved, copy)
    assert {path: path.stat().st_mtime_ns for path in copy.rglob("*.keras")} == before
    assert (copy / "predictions.csv").read_bytes() == text


def test_epochs_that_a_closed_stage_cannot_take_change_nothing(copy: Path, dataset: Dataset) -> None:
    for file in (copy / "runs").glob("*/stages.json"):
        stages = json.loads(file.read_text(encoding="utf-8"))["stages"]
        write_json(file, {"stages": [{**stage, "ended_code": "all_epochs"} for stage in stages]})
    before = {path: path.read_bytes() for path in copy.rglob("*") if path.is_file()}
    with pytest.raises(RunError, match="cannot be extended any more") as error:
        cross_validate(dataset, copy, epochs=(2, 1, 1))
    assert error.value.case == str(copy / "runs" / "fold1-member1") and "epochs" in error.value.arguments
    assert {path: path.read_bytes() for path in copy.rglob("*") if path.is_file()} == before


def test_a_list_with_another_number_of_folds_is_refused(whole: Path, dataset: Dataset, tmp_path: Path) -> None:
    splits = read_folds(whole / "folds.json").splits
    listed = [{"train": [*split.train, *split.validation], "val": split.test} for split in splits]
    (tmp_path / "folds.json").write_text(json.dumps(listed), encoding="utf-8")
    with pytest.raises(GgnError, match="another number of folds") as error:
        cross_validate(dataset, tmp_path / "cv", folds=5, folds_from=tmp_path / "folds.json")
    assert error.value.arguments == ("folds", "folds_from") and not (tmp_path / "cv").exists()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"folds": 3}, "other folds"),
        ({"model": "raw"}, "model = cascade"),
        ({"seed": 1}, "other folds"),
    ],
)
def test_other_settings_are_refused(whole: Path, dataset: Dataset, arguments: dict, message: str) -> None:
    with pytest.raises(RunError, match=message):
        cross_validate(dataset, whole, **arguments)


def test_an_unfinished_fold_is_named(copy: Path) -> None:
    shutil.rmtree(copy / "runs" / "fold2-member1")
    (copy / "runs" / "fold1-member1" / "stages" / "joint.keras").unlink()
    for read in (cv_runs, read_out_of_fold, ggn_tf.evaluate):
        with pytest.raises(RunError, match="not finished: fold1-member1, fold2-member1"):
            read(copy)


def test_a_run_of_another_fold_is_named(copy: Path) -> None:
    shutil.rmtree(copy / "runs" / "fold2-member1")
    (copy / "runs" / "fold1-member1").rename(copy / "runs" / "fold2-member1")
    with pytest.raises(RunError, match="fold1-member1, fold2-member1"):
        cv_runs(copy)


@pytest.mark.parametrize(
    ("name", "kind"), [("predictions.csv", RunError), ("folds.json", SplitError), ("crossval.json", RunError)]
)
def test_a_changed_file_is_refused(copy: Path, name: str, kind: type[GgnError]) -> None:
    content = (copy / name).read_text(encoding="utf-8")
    (copy / name).write_text(content.replace("1", "2", 1), encoding="utf-8")
    for read in (read_out_of_fold, ggn_tf.evaluate):
        with pytest.raises(kind) as error:
            read(copy)
        assert name in str(error.value.case)


def test_predictions_without_their_digest_are_refused(copy: Path) -> None:
    (copy / "predictions.csv.sha256").unlink()
    with pytest.raises(RunError, match="not the one that was written"):
        read_out_of_fold(copy)


def test_an_export_takes_a_list_of_cross_validations(copy: Path, tmp_path: Path) -> None:
    shutil.rmtree(copy / "runs" / "fold2-member1")
    for given in (ggn_tf.Crossval(copy), [ggn_tf.Crossval(copy)]):
        with pytest.raises(RunError, match="not finished: fold2-member1"):
            ggn_tf.export(given, tmp_path / "models")


def test_too_many_folds_leave_no_folder(dataset: Dataset, tmp_path: Path) -> None:
    with pytest.raises(SplitError, match="fewer patients than there are folds"):
        cross_validate(dataset, tmp_path / "cv", folds=30)
    for arguments in ({"folds": 1}, {"members": 0}, {"model": "svm"}, {"protocol": "slow"}):
        with pytest.raises(GgnError):
            cross_validate(dataset, tmp_path / "cv", **arguments)
    assert not (tmp_path / "cv").exists()


@pytest.fixture(scope="module")
def evaluation(whole: Path) -> ggn_tf.Evaluation:
    output = whole.parent / "evaluation"
    return ggn_tf.evaluate(whole, output=output, replicates=50, gallery=2, retest=True, coverage=0.6)


def test_an_evaluation_scores_the_means_over_the_folds(whole: Path, evaluation: ggn_tf.Evaluation) -> None:
    frame = read_out_of_fold(whole)
    pd.testing.assert_frame_equal(evaluation.predictions, frame)
    assert set(evaluation.scores.by_set) == {"test"}
    assert evaluation.scores.test == score_folds(frame, Task.parse(TASK).class_names, 0, 50).test
    assert list(evaluation.scores.test.stages) == ["segment", "classify", "joint"]


def test_the_baselines_are_fitted_on_the_training_sets_of_the_folds(
    whole: Path, evaluation: ggn_tf.Evaluation, dataset: Dataset
) -> None:
    splits = read_folds(whole / "folds.json").splits
    task = Task.parse(TASK)
    tests = [predict_by_measure(dataset.case_by_id, split, task, "diameter") for split in splits]
    areas = [
        roc_auc_score(rows["label"] == task.class_names[1], rows[f"p_{task.class_names[1]}"])
        for rows in (frame[frame["set"] == "test"] for frame in tests)
    ]
    ruler = next(score for score in evaluation.report.crossval.baselines if score.model == "diameter")
    assert ruler.value == pytest.approx(np.mean(areas)) and ruler.stage == "joint"
    assert ruler.difference == pytest.approx(evaluation.scores.test["joint"].auc.value - ruler.value)


def test_the_evaluation_has_a_whole_folder(whole: Path, evaluation: ggn_tf.Evaluation) -> None:
    folder = evaluation.folder
    assert read_scores_file(folder / "scores.json") == evaluation.report
    for name in ("report.html", "model_card.md"):
        text = (folder / name).read_text(encoding="utf-8")
        assert "not on one scale" in text and "mean over the test sets of 2 folds" in text and "diameter" in text
    page = (folder / "report.html").read_text(encoding="utf-8")
    assert "Test sets of 2 folds, pooled, n = 32 nodules" in page and "Split" not in page
    shown = summarise(evaluation.report)
    assert "pooled AUC" in shown and "joint - baseline" in shown and "2 folds" in shown


def test_a_retest_that_one_member_lacks_is_empty(monkeypatch: pytest.MonkeyPatch) -> None:
    rows = [("a", 0.5), ("a", 0.7), ("b", 0.4), ("b", np.nan)]
    tables = [pd.DataFrame([{"case": case, "p_A": 0.2, "p_B": 0.8, "dice": dice}]) for case, dice in rows]
    found = iter([with_perturbation(table, UNPERTURBED) for table in tables])
    monkeypatch.setattr(crossval_scores, "nodules_to_retest", lambda *_: [])
    monkeypatch.setattr(crossval_scores, "retest_run", lambda *_: next(found))
    none: Any = None
    folds: Any = SimpleNamespace(by_number={1: none, 2: none})
    members = [crossval_scores.Member(fold, member, none) for fold, member in ((1, 1), (1, 2), (2, 2), (2, 1))]
    table = crossval_scores.retest_crossval(members, folds, none, lambda line: None)
    np.testing.assert_allclose(table["dice"], [0.6, np.nan])
    np.testing.assert_allclose(table["p_B"], [0.8, 0.8])
    assert table["fold"].tolist() == [1, 2]


def test_each_nodule_is_retested_by_the_training_of_its_fold(whole: Path, evaluation: ggn_tf.Evaluation) -> None:
    table = pd.read_csv(evaluation.folder / "test_retest.csv")
    again, once = (
        rows.sort_values("case", ignore_index=True)
        for rows in (table[table["kind"] == "none"], evaluation.predictions.query("stage == 'joint'"))
    )
    assert list(again["fold"]) == list(once["fold"])
    np.testing.assert_allclose(probabilities(again), probabilities(once), atol=1e-6)
    unperturbed = {score.metric: score.value for score in evaluation.report.retest.scores[:2]}
    assert unperturbed["auc"] == pytest.approx(evaluation.scores.test["joint"].auc.value)
    assert unperturbed["dice"] == pytest.approx(evaluation.scores.test["joint"].dice.value, abs=1e-6)


def test_the_thresholds_of_a_fold_are_those_of_the_other_folds(evaluation: ggn_tf.Evaluation) -> None:
    rows, sets = evaluation.predictions.query("stage == 'joint'"), evaluation.report.sets
    expected = tuple(fit_thresholds(rows[rows["fold"] != fold], 0.6) for fold in (1, 2))
    assert (sets.fitted_on, sets.thresholds, sets.by_fold) == ("out_of_fold", None, expected)
    least = np.stack([expected[fold - 1].least_probabilities for fold in rows["fold"]])
    inside = probabilities(rows) >= least
    covered = inside[np.arange(len(rows)), class_indices(rows)[0]]
    assert [score.value for score in sets.scores[:2]] == pytest.approx([covered.mean(), inside.sum(axis=1).mean()])


def test_what_needs_a_validation_set_or_one_model_is_refused(whole: Path, dataset: Dataset) -> None:
    for arguments in ({"sensitivity": 0.9}, {"dataset": dataset.folder}):
        with pytest.raises(RunError, match="cannot be evaluated in this way") as error:
            ggn_tf.evaluate(whole, **arguments)
        assert error.value.arguments == tuple(arguments)


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory, dataset: Dataset) -> Path:
    """A study of the cascade on the folds of `whole`."""
    return compare_on_folds(dataset, tmp_path_factory.mktemp("study") / "study").folder


def test_a_study_of_folds_scores_out_of_fold_predictions(whole: Path, study: Path) -> None:
    assert read_folds(study.parent / "folds.json") == read_folds(whole / "folds.json")
    results = study / "AAH+AIS_MIA+IAC"
    frame = read_predictions(results / "predictions.csv")
    cascade = frame[frame["model"] == "cascade"].reset_index(drop=True)
    for fold, rows in cascade.groupby("fold"):
        own = read_predictions(study.parent / "predictions" / f"cascade-{results.name}-split{fold}-repeat1.csv")
        np.testing.assert_array_equal(probabilities(rows), probabilities(own[own["set"] == "test"]))
    scores = pd.read_csv(results / "scores.csv")
    found = scores[(scores["model"] == "cascade") & (scores["stage"] == "joint")].set_index("metric")
    for metric, expected in (
        score_folds(cascade, Task.parse(TASK).class_names, 0, 2000).test["joint"].by_metric().items()
    ):
        assert found.loc[metric, "value"] == pytest.approx(expected.value)
        assert found.loc[metric, ["low", "high"]].tolist() == pytest.approx([expected.low, expected.high])


def test_its_comparisons_tables_and_report_are_out_of_fold(study: Path, evaluation: ggn_tf.Evaluation) -> None:
    compared = pd.read_csv(study / "AAH+AIS_MIA+IAC" / "comparisons.csv")
    ruler = next(score for score in evaluation.report.crossval.baselines if score.model == "diameter")
    difference = compared[(compared["model_b"] == "diameter") & (compared["metric"] == "auc")].iloc[0]
    assert difference["value_b"] == pytest.approx(ruler.value)
    assert difference["test"] == "paired patient bootstrap" and difference["nodules"] == 32
    assert {"folds.csv", "comparisons-AAH+AIS_MIA+IAC-folds.csv"} <= {path.name for path in study.iterdir()}
    page = (study / "report.html").read_text(encoding="utf-8")
    assert "Out of fold, 2 folds" in page and "Test sets of 2 folds, pooled" in page and "Of one run per fold" in page
    assert "Split 1" not in page and "paper: best of 5" not in page
    assert json.loads((study / "study.json").read_text(encoding="utf-8"))["folds"] == 2


def test_a_study_of_folds_may_be_repeated_and_refuses_other_parts(study: Path, dataset: Dataset) -> None:
    refuse_foreign_results(study.parent)
    for arguments, names in (
        ({"folds": 3}, ("folder",)),
        ({"splits": (1,)}, ("folds", "splits")),
        ({"sensitivity": 0.9}, ("folds", "sensitivity")),
        ({"select_on": "test"}, ("folds", "select_on")),
    ):
        with pytest.raises(GgnError) as error:
            compare_on_folds(dataset, study.parent, **arguments)
        assert error.value.arguments == names
