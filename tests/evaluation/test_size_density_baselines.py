import dataclasses

import numpy as np
import pytest
from scipy.optimize import minimize
from sklearn.metrics import roc_auc_score

from ggn_tf.dataset.case_record import CaseRecord
from ggn_tf.dataset.splits import Split
from ggn_tf.errors import PredictionsError
from ggn_tf.evaluation.baselines import MEASURES, predict_by_measure
from ggn_tf.evaluation.statistics.repeats import score_repeats
from ggn_tf.tasks import FOUR_CLASSES, INDOLENT_INVASIVE, NOT_IAC_IAC, THREE_CLASSES, Task
from tests.support.measured import case_record

LABELS = ("AAH", "AIS", "MIA", "IAC")


@pytest.fixture(scope="module")
def cases() -> dict[str, CaseRecord]:
    """60 nodules, larger, denser and more solid from AAH to IAC, with overlap."""
    rng = np.random.default_rng(0)
    records = {}
    for number in range(60):
        rank = number % 4
        diameter_mm = float(np.exp(1.6 + 0.25 * rank + 0.3 * rng.normal()))
        records[f"c{number:02d}"] = case_record(
            case_id=f"c{number:02d}",
            patient_id=f"p{number // 2:02d}",
            label=LABELS[rank],
            volume_mm3=diameter_mm**3 / 2,
            diameter_mm=diameter_mm * 0.9,
            longest_diameter_mm=diameter_mm,
            mean_hu=-700 + 80 * rank + 90 * float(rng.normal()),
            solid_fraction=float(np.clip(0.1 * rank + 0.1 * rng.random(), 0, 1)),
            mean_diameter_mm=0.8 * diameter_mm,
            mass_mg=0.2 * diameter_mm**3,
            solid_longest_diameter_mm=rank * float(rng.random()),
        )
    return records


@pytest.fixture(scope="module")
def split(cases) -> Split:
    ids = sorted(cases)
    return Split(number=2, train=tuple(ids[:36]), validation=tuple(ids[36:42]), test=tuple(ids[42:]))


FIELD = {
    "diameter": "longest_diameter_mm",
    "volume": "volume_mm3",
    "mean_hu": "mean_hu",
    "solid_fraction": "solid_fraction",
    "mean_diameter": "mean_diameter_mm",
    "mass": "mass_mg",
    "solid_diameter": "solid_longest_diameter_mm",
}


@pytest.mark.parametrize("model", MEASURES)
def test_two_classes_are_ranked_by_the_number_itself(cases, split, model):
    frame = predict_by_measure(cases, split, INDOLENT_INVASIVE, model)
    test = frame[frame["set"] == "test"]
    number = [getattr(cases[case], FIELD[model]) for case in test["case"]]
    positive = test["label"] == "MIA+IAC"
    assert roc_auc_score(positive, test["p_MIA+IAC"]) == pytest.approx(roc_auc_score(positive, number))


def test_probability_is_the_penalised_logistic_one_of_the_train_set(cases, split):
    frame = predict_by_measure(cases, split, NOT_IAC_IAC, "mean_hu")
    hu = np.array([cases[case].mean_hu for case in split.train])
    positive = np.array([cases[case].label == "IAC" for case in split.train])
    z = (hu - hu.mean()) / hu.std()

    def loss(weights: np.ndarray) -> float:
        logit = weights[0] + weights[1] * z
        return float(np.sum(np.logaddexp(0, logit) - positive * logit) + weights[1] ** 2 / 2)

    intercept, slope = minimize(loss, [0, 0], tol=1e-10).x
    row = frame[frame["set"] == "test"].iloc[3]
    logit = intercept + slope * (cases[row["case"]].mean_hu - hu.mean()) / hu.std()
    assert row["p_IAC"] == pytest.approx(1 / (1 + np.exp(-logit)), abs=1e-4)


def test_table_is_that_of_a_system_with_one_training(cases, split):
    frame = predict_by_measure(cases, split, THREE_CLASSES, "diameter")
    assert frame[["model", "stage", "repeat", "split"]].drop_duplicates().to_numpy().tolist() == [
        ["diameter", "classify", 1, 2]
    ]
    assert frame.groupby("set", sort=False)["case"].apply(tuple).to_dict() == {
        "train": split.train,
        "validation": split.validation,
        "test": split.test,
    }
    assert frame["dice"].isna().all()


def test_labels_that_the_task_merges_or_leaves_out_are_merged_or_left_out(cases, split):
    frame = predict_by_measure(cases, split, Task.parse("AIS,MIA"), "volume")
    assert set(frame["label"]) == {"AIS", "MIA"}
    assert len(frame) == 30
    merged = predict_by_measure(cases, split, THREE_CLASSES, "volume")
    row = merged[merged["case"] == "c00"].iloc[0]
    assert (cases["c00"].label, row["label"]) == ("AAH", "AAH+AIS")


def test_test_set_does_not_move_the_fit(cases, split):
    changed = {
        case_id: dataclasses.replace(case, mean_hu=0.0) if case_id in split.test[1:] else case
        for case_id, case in cases.items()
    }
    one, other = (predict_by_measure(known, split, FOUR_CLASSES, "mean_hu") for known in (cases, changed))
    first = one["case"] == split.test[0]
    assert one[first].equals(other[first])


def test_train_set_without_a_class_is_refused(cases, split):
    ids = tuple(case for case in split.train if cases[case].label != "AAH")
    with pytest.raises(PredictionsError) as caught:
        predict_by_measure(cases, dataclasses.replace(split, train=ids), FOUR_CLASSES, "volume")
    assert caught.value.found == "no nodule of AAH among 27"


def test_shuffled_labels_cannot_be_predicted(cases, split):
    """The 95 % interval of the AUC misses 0.5 in one of twenty shuffles, so in at most four of twenty."""
    missed = 0
    for seed in range(20):
        shuffled = np.random.default_rng(seed).permutation([case.label for case in cases.values()])
        relabelled = {
            case_id: dataclasses.replace(case, label=str(label))
            for (case_id, case), label in zip(cases.items(), shuffled, strict=True)
        }
        ids = sorted(cases)
        halves = dataclasses.replace(split, train=tuple(ids[:24]), validation=(), test=tuple(ids[24:]))
        frame = predict_by_measure(relabelled, halves, INDOLENT_INVASIVE, "diameter")
        auc = next(score for score in score_repeats(frame, ["test"], replicates=500) if score.metric == "auc")
        missed += not auc.low <= 0.5 <= auc.high
    assert missed <= 4
