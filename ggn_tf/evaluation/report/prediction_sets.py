"""Prediction sets as tables and a note that report and terminal share."""

from collections.abc import Sequence
from itertools import groupby

from ggn_tf.evaluation.report.page import Block, Cell, Number, Prose, Section, Table, score_cell
from ggn_tf.evaluation.report.report_data import ReportData
from ggn_tf.evaluation.statistics.bootstrap import LEAST_PATIENTS
from ggn_tf.evaluation.statistics.prediction_sets import (
    ALL_NODULES,
    OUT_OF_FOLD,
    SET_METRICS,
    TRUE_CLASS,
    VALIDATION,
)
from ggn_tf.evaluation.statistics.score_records import SubgroupScore
from ggn_tf.evaluation.statistics.set_thresholds import PredictionSets, patients_needed

_SOURCES = {VALIDATION: "the validation set", OUT_OF_FOLD: "the nodules of the other folds"}
_GUARANTEES = {
    VALIDATION: "If nodules are like those of the validation set, at least {coverage} of the sets contain the true "
    "class, for each class, whatever the calibration of the probabilities; for groups of another kind this is not "
    "guaranteed. The thresholds come from the validation set, which also selected the weights: they are slightly "
    "optimistic.",
    OUT_OF_FOLD: "For each class {coverage} of the sets should contain the true class. The thresholds for the nodules "
    "of a fold come from the out-of-fold predictions of the other folds, which other models have made: the coverage is "
    "approximate, not guaranteed, and is that of a model trained like those of the folds, not of their mean.",
}


def sets_section(data: ReportData, sets: PredictionSets) -> Section | None:
    """The thresholds, and coverage and size of the sets, on one set of nodules; None where there are none."""
    scores = [score for score in sets.scores if score.set == data.set_name]
    if not scores:
        return None
    explained = (
        f"A prediction set contains every class that cannot be excluded. {_GUARANTEES[sets.fitted_on]} A group of "
        f"fewer than {LEAST_PATIENTS} patients has only its numbers. In brackets {data.interval}."
    ).format(coverage=f"{sets.coverage:.0%}")
    tables = [_scores_table(list(group), kind, data) for kind, group in groupby(scores, lambda x: x.characteristic)]
    blocks: list[Block] = [Prose(explained), thresholds_table(sets), *tables]
    return Section(f"{data.prefix}prediction-sets", "Prediction sets", blocks)


def thresholds_table(sets: PredictionSets) -> Table:
    """One row per class, of a cross-validation for each fold."""
    folds = sets.thresholds is None
    rows: list[list[Cell]] = [
        [*([fold] if folds else []), each.class_name, each.nodules, each.patients, Number(each.least_probability)]
        for fold, thresholds in enumerate(sets.fitted, start=1)
        for each in thresholds.classes
    ]
    source = _SOURCES[sets.fitted_on]
    caption = f"Lowest probability with which a set contains the class, stage {sets.stage}, from {source}"
    return Table([*(["fold"] if folds else []), "class", "nodules", "patients", "lowest probability"], rows, caption)


def coverage_table(sets: PredictionSets, set_name: str) -> Table:
    """Coverage and size of the sets of all nodules and of each class, for the terminal."""
    scores = [
        score for score in sets.scores if score.set == set_name and score.characteristic in (ALL_NODULES, TRUE_CLASS)
    ]
    caption = (
        f"{set_name}: prediction sets of stage {sets.stage} for a coverage of {sets.coverage:.0%}, "
        f"thresholds from {_SOURCES[sets.fitted_on]}"
    )
    return Table(["nodules of", *_HEADING], _rows(scores), caption)


def too_few_note(sets: PredictionSets) -> list[str]:
    """Why there are no sets, if there are none."""
    missing = [f"{threshold.patients} with {threshold.class_name}" for threshold in sets.without_threshold]
    if not missing:
        return []
    coverage = sets.coverage
    return [
        f"No prediction sets for a coverage of {coverage:.0%}: they need {patients_needed(coverage)} patients of each "
        f"class in {_SOURCES[sets.fitted_on]}. There are {' and '.join(missing)}."
    ]


_HEADING = ("nodules", "patients", "coverage", "classes in a set")


def _scores_table(scores: Sequence[SubgroupScore], characteristic: str, data: ReportData) -> Table:
    caption = data.caption if characteristic == ALL_NODULES else f"By {characteristic}"
    return Table(["nodules" if characteristic == ALL_NODULES else characteristic, *_HEADING], _rows(scores), caption)


def _rows(scores: Sequence[SubgroupScore]) -> list[list[Cell]]:
    rows: list[list[Cell]] = []
    for group, members in groupby(scores, lambda score: score.group):
        by_metric = {score.metric: score for score in members}
        first = next(iter(by_metric.values()))
        shown = [by_metric[metric] for metric in SET_METRICS]
        cells = [score_cell(score) if score.value is not None else None for score in shown]
        rows.append([group, first.nodules, first.patients, *cells])
    return rows
