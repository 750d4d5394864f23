"""Fit prediction sets on held-out nodules, and score them on others."""

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np
import pandas as pd

from ggn_tf.dataset.case_record import CaseRecord
from ggn_tf.evaluation.statistics.bootstrap import Resampling
from ggn_tf.evaluation.statistics.predictions_table import FOLD, probabilities, table_classes
from ggn_tf.evaluation.statistics.repeats import repeated_score
from ggn_tf.evaluation.statistics.score_records import RepeatedScore, SubgroupScore
from ggn_tf.evaluation.statistics.scores import REPLICATES, gives_probabilities
from ggn_tf.evaluation.statistics.set_thresholds import (
    ClassThreshold,
    PredictionSets,
    SetThresholds,
    least_probability,
)
from ggn_tf.evaluation.statistics.subgroups import CHARACTERISTICS, score_subgroups
from ggn_tf.evaluation.statistics.system_predictions import SystemPredictions

SET_METRICS = ("set_coverage", "set_size")
ALL_NODULES, TRUE_CLASS = "all nodules", "class"
VALIDATION, OUT_OF_FOLD = "validation", "out_of_fold"


def fit_thresholds(frame: pd.DataFrame, coverage: float) -> SetThresholds:
    """Fit the thresholds of one model on held-out nodules.

    Takes its predictions, one row per nodule, of patients on whom it was not trained, and the probability that a set
    contains the true class, in (0, 1).
    """
    thresholds = []
    for index, name in enumerate(table_classes(frame)):
        rows = frame[frame["label"] == name]
        patients = rows["patient"].to_numpy(dtype=str)
        least = least_probability(probabilities(rows)[:, index], patients, coverage)
        thresholds.append(ClassThreshold(name, len(rows), len(np.unique(patients)), least))
    return SetThresholds(coverage, tuple(thresholds))


@dataclass(frozen=True)
class _Grouping:
    """Groups of nodules by something that is not in their records, such as the class of the task."""

    name: str
    groups: tuple[str, ...]
    group_by_case: Mapping[str, str]

    def group_of(self, case: CaseRecord) -> str:
        return self.group_by_case[case.case_id]


def evaluate_sets(
    frame: pd.DataFrame,
    cases: Mapping[str, Mapping[str, CaseRecord]],
    coverage: float,
    seed: int = 0,
    replicates: int = REPLICATES,
) -> PredictionSets | None:
    """Fit the thresholds of a run's last stage on its validation set, and score its sets on other sets of nodules.

    The thresholds of out-of-fold predictions are fitted fold by fold: for the nodules of a fold on those of the others.

    Takes its predictions, or out-of-fold predictions, and the records of the nodules of each set that is scored, by
    case id.

    Returns:
        None where the last stage does not classify, or there is no validation nodule.
    """
    stage = str(frame["stage"].iloc[-1])
    last = frame[frame["stage"] == stage]
    fitted = last if FOLD in last else last[last["set"] == VALIDATION]
    if fitted.empty or not gives_probabilities(fitted):
        return None
    if FOLD in last:
        by_fold = {fold: fit_thresholds(last[last[FOLD] != fold], coverage) for fold in sorted(last[FOLD].unique())}
        sets = PredictionSets(stage, OUT_OF_FOLD, None, by_fold=tuple(by_fold.values()))
        least = {case: by_fold[fold].least_probabilities for case, fold in zip(last["case"], last[FOLD], strict=True)}
    else:
        thresholds = fit_thresholds(fitted, coverage)
        sets = PredictionSets(stage, VALIDATION, thresholds)
        least = dict.fromkeys(last["case"], thresholds.least_probabilities)
    if sets.without_threshold:
        return sets
    scores = [score for name in cases for score in score_sets(last, least, cases[name], name, seed, replicates)]
    return replace(sets, scores=tuple(scores))


def score_sets(
    frame: pd.DataFrame,
    least: Mapping[str, np.ndarray],
    cases: Mapping[str, CaseRecord],
    set_name: str = "test",
    seed: int = 0,
    replicates: int = REPLICATES,
) -> list[SubgroupScore]:
    """Coverage and size of the sets of every system on one set of nodules, with patient-bootstrap intervals.

    `least` has [C] by case id, the lowest probability with which a set contains each class, fitted on other nodules.

    Returns:
        The two scores of all nodules, of each class and of each group of the subgroups' characteristics. Groups of
        fewer than ten patients have none, only their numbers.

    Raises:
        PredictionsError: As `score_subgroups`.
    """
    rows = frame[frame["set"] == set_name]
    label = dict(zip(rows["case"].astype(str), rows["label"], strict=True))
    characteristics = (
        _Grouping(ALL_NODULES, (ALL_NODULES,), dict.fromkeys(label, ALL_NODULES)),
        _Grouping(TRUE_CLASS, table_classes(frame), label),
        *CHARACTERISTICS,
    )

    def score(system: SystemPredictions, resampling: Resampling) -> list[RepeatedScore]:
        return _score_system(system, least, resampling)

    return score_subgroups(frame, cases, characteristics, set_name, seed, replicates, score)


def _score_system(
    system: SystemPredictions, least: Mapping[str, np.ndarray], resampling: Resampling
) -> list[RepeatedScore]:
    inside = system.probabilities >= np.stack([least[case] for case in system.rows["case"]])
    covered = inside[:, np.arange(len(system.label)), system.label]
    scores = []
    for metric, values in zip(SET_METRICS, (covered, inside.sum(axis=2)), strict=True):
        resampled = values @ resampling.weights.T / resampling.weights.sum(axis=1)
        share = resampling.patients if metric == SET_METRICS[0] else None
        scores.append(
            repeated_score(system, metric, resampled[:, 0], resampled.mean(axis=0), resampling, proportion_of=share)
        )
    return scores
