from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from ggn_tf.dataset.case_outcome import AcceptedCase
from ggn_tf.dataset.radiomics import read_radiomics
from ggn_tf.dataset.records import Dataset
from ggn_tf.dataset.splits import read_split
from ggn_tf.dataset.writer import write_dataset
from ggn_tf.errors import DatasetError, SplitError, TaskError
from ggn_tf.evaluation.baselines import FittedRadiomics, fit_classifier, fit_radiomics
from ggn_tf.evaluation.statistics.scores import REPLICATES
from ggn_tf.protocol import SplitProtocol
from ggn_tf.tasks import Task
from tests.support.described_run import scores_of_test
from tests.support.radiomics_data import LABELS, PROTOCOL, drawn_labels, telling, write_features
from tests.support.synthetic import synthetic_nodules

TASK = Task.parse("AAH,IAC")
CASES = 200


def fit(dataset: Dataset, seed: int = 0, task: Task = TASK) -> tuple[FittedRadiomics, pd.DataFrame]:
    return fit_radiomics(dataset, read_split(dataset, 1), task, seed)


def auc_interval(dataset: Dataset) -> tuple[float, float]:
    """The interval of the test set's AUC: what a leak shows in."""
    auc = scores_of_test(fit(dataset)[1], replicates=REPLICATES)["auc"]
    return auc.low, auc.high


def better_than_chance(accuracy: float, cases: int) -> bool:
    """Whether cross-validation tells more than four standard errors above a coin: the best of 55 settings does not."""
    return accuracy > 0.5 + 4 * 0.5 / np.sqrt(cases)


def values_of(labels: list[str], seed: int = 1) -> np.ndarray:
    values = np.hstack([telling(labels, seed=seed), np.full((len(labels), 1), 7.0), np.full((len(labels), 1), np.nan)])
    values[::9, 2] = np.nan
    return values


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    """With undefined values, a constant feature and an empty one, which do no harm."""
    labels = drawn_labels(CASES)
    return write_features(tmp_path_factory.mktemp("telling") / "dataset", values_of(labels), labels)


@pytest.fixture(scope="module")
def fitted(dataset: Dataset) -> tuple[FittedRadiomics, pd.DataFrame]:
    return fit(dataset)


def test_the_predictions_are_a_table_like_the_networks(
    dataset: Dataset, fitted: tuple[FittedRadiomics, pd.DataFrame]
) -> None:
    frame, split = fitted[1], read_split(dataset, 1)
    assert set(frame["model"]) == {"radiomics"}
    assert set(frame["stage"]) == {"classify"}
    assert frame["dice"].isna().all()
    for name in ("train", "validation", "test"):
        assert tuple(frame.loc[frame["set"] == name, "case"]) == getattr(split, name)
    assert list(frame["label"]) == [dataset.case_by_id[case].label for case in frame["case"]]


def test_what_the_features_contain_is_found(fitted: tuple[FittedRadiomics, pd.DataFrame]) -> None:
    scores = scores_of_test(fitted[1], replicates=REPLICATES)
    assert scores["auc"].low > 0.9
    assert scores["accuracy"].value > 0.85


def test_probabilities_are_calibrated(fitted: tuple[FittedRadiomics, pd.DataFrame]) -> None:
    unseen = fitted[1][fitted[1]["set"] != "train"]
    expected, found = unseen["p_IAC"].sum(), (unseen["label"] == "IAC").sum()
    assert expected == pytest.approx(found, abs=2 * np.sqrt((unseen["p_IAC"] * unseen["p_AAH"]).sum()))


def test_shuffled_labels_cannot_be_predicted(tmp_path: Path) -> None:
    labels = drawn_labels(CASES)
    shuffled = list(np.random.default_rng(5).permutation(labels))
    low, high = auc_interval(write_features(tmp_path / "dataset", telling(labels), shuffled))
    assert low < 0.5 < high


@pytest.mark.slow
def test_a_patients_other_nodule_cannot_be_recognised_and_folds_by_nodule_would_show() -> None:
    generator = np.random.default_rng(2)
    values, label = np.repeat(generator.normal(size=(40, 10)), 3, axis=0), np.repeat(generator.integers(0, 2, 40), 3)
    _, honest = fit_classifier(values, label, [f"p{i // 3}" for i in range(120)], 0, LABELS)
    # Forty patients, not 120 nodules, are what chance is made of.
    assert not better_than_chance(honest["accuracy"], 40)
    _, leaky = fit_classifier(values, label, [f"n{i}" for i in range(120)], 0, LABELS)
    assert better_than_chance(leaky["accuracy"], 40)


def test_neither_validation_nor_test_cases_take_part(
    tmp_path: Path, dataset: Dataset, fitted: tuple[FittedRadiomics, pd.DataFrame]
) -> None:
    split, labels = read_split(dataset, 1), drawn_labels(CASES)
    values = values_of(labels)
    unseen = [row for row, case in enumerate(dataset.cases) if case.case_id not in split.train]
    values[unseen] = 1e3
    other = write_features(tmp_path / "dataset", values, labels)
    assert read_split(other, 1).train == split.train
    train = [frame[frame["set"] == "train"].drop(columns="set") for frame in (fit(other)[1], fitted[1])]
    pd.testing.assert_frame_equal(*train)


def test_four_classes_of_which_a_task_leaves_a_label_out(tmp_path: Path) -> None:
    names = ("AAH", "AIS", "MIA", "IAC", "other")
    labels = drawn_labels(CASES, names=names)
    dataset = write_features(tmp_path / "dataset", telling(labels), labels)
    task = Task.parse("AAH,AIS,MIA,IAC")
    fitted, frame = fit(dataset, task=task)
    assert len(frame) == sum(label != "other" for label in labels)
    chance = frame[[f"p_{name}" for name in task.class_names]].to_numpy()
    np.testing.assert_allclose(chance.sum(axis=1), 1, atol=1e-12)
    assert fitted.classifier.classes_.tolist() == [0, 1, 2, 3]
    # The column of a class is that class's: most of its training cases have it as their most probable one.
    train = frame[frame["set"] == "train"]
    hits = train["label"] == np.array(task.class_names)[chance[frame["set"] == "train"].argmax(axis=1)]
    assert hits.groupby(train["label"]).mean().min() > 0.4


def test_a_dataset_without_features_is_refused_with_the_remedy(tmp_path: Path) -> None:
    nodules: list[AcceptedCase] = list(synthetic_nodules(24, protocol=PROTOCOL))
    dataset = write_dataset(
        tmp_path / "dataset", PROTOCOL, nodules, split_protocol=SplitProtocol(), splits=1, previews=False
    )
    with pytest.raises(DatasetError, match="no radiomic features"):
        fit(dataset)


def test_labels_that_no_nodule_has_are_refused(dataset: Dataset) -> None:
    with pytest.raises(TaskError, match="names labels that no nodule has"):
        fit(dataset, task=Task.parse("AAH,AIS"))


def test_a_class_of_one_patient_is_refused(tmp_path: Path) -> None:
    labels = ["AAH"] * 58 + ["IAC"] * 2
    dataset = write_features(tmp_path / "dataset", telling(labels), labels)
    with pytest.raises(SplitError, match="too few patients of a class"):
        fit(dataset)


def test_the_table_reads_in_the_datasets_order(dataset: Dataset) -> None:
    assert list(read_radiomics(dataset).features.index) == [case.case_id for case in dataset.cases]
