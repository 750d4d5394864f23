import dataclasses
import json
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
from click.testing import CliRunner
from sklearn.metrics import accuracy_score

import ggn_tf
from ggn_tf.cli import main
from ggn_tf.dataset.records import Dataset, open_dataset, patch_digests
from ggn_tf.errors import RunError, TaskError
from ggn_tf.evaluation.run_predictions import open_external, predict_external
from ggn_tf.evaluation.statistics.bootstrap import draw_weights, percentile_interval, resampled_mean
from ggn_tf.evaluation.statistics.scores import differences
from ggn_tf.protocol import PatchProtocol
from ggn_tf.runs.run_folder import RunFolder, open_run_dataset
from ggn_tf.runs.started_from import UNTRAINED, TrainedOn
from tests.support.case_files import write_case_files
from tests.support.synthetic import write_synthetic_dataset
from tests.support.tiny_protocol import SIZE
from tests.support.untrained_run import write_untrained_run


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> RunFolder:
    return write_untrained_run(tmp_path_factory.mktemp("own"), stages=("classify",))


@pytest.fixture(scope="module")
def own(run: RunFolder) -> Dataset:
    return open_run_dataset(run)


@pytest.fixture(scope="module")
def other(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    folder = tmp_path_factory.mktemp("other") / "dataset"
    return write_synthetic_dataset(folder, 18, size=SIZE, seed=5, site="b-")


def test_every_nodule_of_the_other_site_is_predicted(run: RunFolder, own: Dataset, other: Dataset):
    frame = predict_external(run, open_external(run, own, other.folder))
    assert set(frame["set"]) == {"external"}
    assert sorted(frame[frame["stage"] == "classify"]["case"]) == sorted(case.case_id for case in other.cases)


def test_a_patient_of_both_sites_is_refused(run: RunFolder, own: Dataset, tmp_path: Path):
    shared = write_synthetic_dataset(tmp_path / "shared", 12, size=SIZE, seed=5)
    with pytest.raises(RunError, match="contains patients of the run's own") as caught:
        open_external(run, own, shared.folder)
    assert "12 patients in both" in str(caught.value)


def test_a_nodule_of_both_sites_is_refused_under_another_id(run: RunFolder, own: Dataset, tmp_path: Path):
    same = write_synthetic_dataset(tmp_path / "same", len(own.cases), size=SIZE, site="c-")
    with pytest.raises(RunError, match="contains nodules of the run's own") as caught:
        open_external(run, own, same.folder)
    assert caught.value.arguments == ("salt_file",)
    assert f"{len(own.cases)} identical patches under other ids, for example c-case-0000" in str(caught.value)


def test_a_nodule_of_both_sites_is_refused_whatever_the_margins(tmp_path: Path):
    table = write_case_files(tmp_path / "cases", 12)
    for name, margin_mm in (("own", 8.0), ("other", 0.0)):
        salt = tmp_path / f"{name}.salt"
        ggn_tf.prepare(table, tmp_path / name, margin_mm=margin_mm, salt_file=salt, jobs=1)
    protocol = dataclasses.replace(PatchProtocol(), margin_mm=8.0)
    description = SimpleNamespace(protocol=SimpleNamespace(patch=protocol))
    run = SimpleNamespace(description=description, source_cases=lambda: UNTRAINED)
    with pytest.raises(RunError, match="contains nodules of the run's own") as caught:
        open_external(run, open_dataset(tmp_path / "own", protocol), tmp_path / "other")
    assert "12 identical patches under other ids" in str(caught.value)


@pytest.mark.parametrize("kind", ["patients", "nodules"])
def test_what_the_source_of_the_first_weights_was_trained_on_is_refused(
    run: RunFolder, own: Dataset, other: Dataset, monkeypatch: pytest.MonkeyPatch, kind: str
):
    patients = tuple(case.patient_id for case in other.cases[:3])
    patches = tuple(patch_digests(other, stored=False, case_ids=[case.case_id for case in other.cases[:3]]).values())
    seen = TrainedOn(patients, ()) if kind == "patients" else TrainedOn(("someone else",), patches)
    monkeypatch.setattr(run, "source_cases", lambda: seen)
    with pytest.raises(RunError, match=f"contains {kind} of those that the source") as caught:
        open_external(run, own, other.folder)
    assert str(caught.value.found).startswith("3 ") and caught.value.case == str(other.folder)


def test_another_sites_labels_have_to_be_the_tasks(run: RunFolder, tmp_path: Path):
    foreign = write_synthetic_dataset(tmp_path / "foreign", 12, labels=("benign", "malignant"), size=SIZE, site="c-")
    with pytest.raises(TaskError, match="labels that no nodule has"):
        predict_external(run, foreign)


def test_the_difference_is_the_external_score_minus_the_tests():
    right = pd.DataFrame({"label": ["A", "B"] * 20, "p_A": [0.9, 0.1] * 20, "p_B": [0.1, 0.9] * 20})
    wrong = right.assign(label=["B"] * 10 + right["label"].tolist()[10:])
    sites = [
        frame.assign(set=name, patient=[f"{name}{i}" for i in range(40)], stage="joint", dice=0.5)
        for name, frame in (("test", right), ("external", wrong))
    ]
    rows = differences(pd.concat(sites), seed=0, replicates=500)
    (accuracy,) = [row for row in rows if row.metric == "accuracy"]
    expected = accuracy_score(wrong["label"], np.where(wrong["p_B"] > 0.5, "B", "A")) - 1
    assert (accuracy.test, accuracy.external) == (1.0, 1 + expected)
    assert accuracy.difference == expected == -5 / 40
    assert accuracy.low < expected < accuracy.high < 0


def test_the_interval_is_as_wide_as_the_smaller_sites_patients_make_it():
    label, chance = ["A", "B"] * 20, [0.9, 0.6, 0.4, 0.1] * 10
    answers = pd.DataFrame({"label": label, "p_A": chance, "p_B": 1 - np.array(chance), "stage": "joint", "dice": 0.5})
    patients = {"test": [f"t{i}" for i in range(40)], "external": [f"e{i // 4}" for i in range(40)]}
    frame = pd.concat([answers.assign(set=name, patient=who) for name, who in patients.items()])
    (accuracy,) = [row for row in differences(frame, seed=3, replicates=400) if row.metric == "accuracy"]
    hit = (np.array(chance) > 0.5) == (np.array(label) == "A")
    test, external = (
        resampled_mean(hit.astype(float), draw_weights(np.array(who), 400, 3 + number))
        for number, who in enumerate(patients.values())
    )
    assert (accuracy.low, accuracy.high) == pytest.approx(percentile_interval(external - test, 10))


def test_without_a_test_nodule_there_is_nothing_to_compare_with():
    external = pd.DataFrame({"label": ["A", "B"], "p_A": [0.9, 0.1], "p_B": [0.1, 0.9]})
    frame = external.assign(set="external", patient=["1", "2"], stage="joint", dice=0.5)
    assert differences(frame, seed=0, replicates=50) == []


def test_evaluate_puts_both_sites_side_by_side(run: RunFolder, other: Dataset):
    asked = ["evaluate", str(run.folder), "--dataset", str(other.folder), "--replicates", "50", "--gallery", "0"]
    result = CliRunner().invoke(main, asked)
    assert result.exit_code == 0, result.output
    assert "external: 18 nodules of 18 patients" in result.stdout
    assert "test set against the external set" in result.stdout
    document = json.loads((run.folder / "evaluation" / "scores.json").read_text(encoding="utf-8"))
    assert document["external_dataset"] == "dataset"
    assert {row["stage"] for row in document["sites"]} == {"classify"}


def test_evaluate_refuses_a_shared_patient_and_leaves_the_former_evaluation(run: RunFolder, own: Dataset):
    (run.folder / "evaluation").mkdir(exist_ok=True)
    before = sorted(path.name for path in (run.folder / "evaluation").iterdir())
    result = CliRunner().invoke(main, ["evaluate", str(run.folder), "--dataset", str(own.folder)])
    assert result.exit_code == 1
    assert "contains patients of the run's own" in result.stderr
    assert sorted(path.name for path in (run.folder / "evaluation").iterdir()) == before
