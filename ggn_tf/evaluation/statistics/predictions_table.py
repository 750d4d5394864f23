"""The predictions table, from which every score, figure and report is computed."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from ggn_tf.dataset.case_record import CaseRecord
from ggn_tf.errors import PredictionsError
from ggn_tf.evaluation.statistics.mask_measures import MASK_COLUMNS
from ggn_tf.files import atomic_file
from ggn_tf.protocol import SETS
from ggn_tf.shown_text import from_spreadsheet, in_spreadsheet
from ggn_tf.tasks import Task

TEXT_COLUMNS = ("case", "patient", "set", "model", "stage", "label")
LEADING_COLUMNS = ("case", "patient", "split", "set", "model", "stage", "repeat", "label")
PROBABILITY_PREFIX = "p_"
EXTERNAL = "external"
FOLD = "fold"
"""The column of out-of-fold predictions: the number of the fold whose trainings predicted the nodule."""
_OPTIONAL = (*MASK_COLUMNS, FOLD)
PREDICTED_SETS = (*SETS, EXTERNAL)
RUN_KEY = ["model", "split", "repeat"]
_WHOLE = ("split", "repeat", FOLD)

# A softmax in float32 sums to 1 within 1e-6; tables of other programs may be rounded to four digits.
SUM_TOLERANCE = 1e-3
_MEASURED = ("a number from 0 on, or none", "Leave the field empty where a mask has no such value.")
_NAME_ANOTHER = "Name the predictions.csv of an evaluation."


def columns(class_names: Sequence[str]) -> list[str]:
    """The table's columns, in order; the classes in the order of the classifier's outputs.

    They may be followed by `MASK_COLUMNS`, which tables of other programs and of older versions lack, and by `FOLD`.
    """
    return [*LEADING_COLUMNS, *probability_names(class_names), "dice"]


def _present_columns(frame: pd.DataFrame) -> list[str]:
    return [*columns(table_classes(frame)), *(name for name in _OPTIONAL if name in frame.columns)]


def probability_names(class_names: Sequence[str]) -> list[str]:
    """The names of the probability columns, in the order of the classes."""
    return [PROBABILITY_PREFIX + name for name in class_names]


def table_classes(frame: pd.DataFrame) -> tuple[str, ...]:
    """The class names of a predictions table, in the order of its probability columns."""
    return tuple(name.removeprefix(PROBABILITY_PREFIX) for name in frame.columns if name.startswith(PROBABILITY_PREFIX))


def probabilities(frame: pd.DataFrame) -> np.ndarray:
    """The probabilities of a predictions table, float64 [rows, classes]; NaN where a stage has none."""
    return frame[probability_names(table_classes(frame))].to_numpy(dtype=np.float64)


def probability_columns(probability: np.ndarray, class_names: Sequence[str]) -> dict[str, np.ndarray]:
    """The columns that `probabilities` reads back, of probabilities [rows, classes]."""
    return dict(zip(probability_names(class_names), probability.T, strict=True))


def write_predictions(frame: pd.DataFrame, path: Path) -> None:
    """Write a predictions table as CSV, atomically; every float reads back equal, NaN becomes an empty field."""
    with atomic_file(path) as temporary:
        texts = {name: frame[name].map(in_spreadsheet, na_action="ignore") for name in TEXT_COLUMNS if name in frame}
        frame.assign(**texts).to_csv(temporary, index=False, lineterminator="\n")


def read_predictions(path: Path) -> pd.DataFrame:
    """Read and check a predictions table.

    Returns:
        The table, its columns in order; `split` and `repeat` int64, probabilities and `dice` float64.

    Raises:
        PredictionsError: As `check_predictions`, or the file is not a predictions table.
    """
    try:
        text = pd.read_csv(path, dtype=str, keep_default_na=False, index_col=False)
    except (OSError, ValueError) as error:
        raise PredictionsError(
            "The predictions table cannot be read.",
            case=path,
            found=f"{type(error).__name__}: {error}",
            expected="a CSV file with a header",
            remedy=_NAME_ANOTHER,
        ) from error
    _check_columns(text, path)
    ordered = text[_present_columns(text)]
    numbers = {name: _numbers(ordered[name], path) for name in ordered.columns if name not in TEXT_COLUMNS}
    texts = {name: ordered[name].map(from_spreadsheet) for name in TEXT_COLUMNS}
    return check_predictions(ordered.assign(**numbers, **texts), path)


def check_predictions(frame: pd.DataFrame, source: object = None) -> pd.DataFrame:
    """Check a table from which scores are computed, and make its `split` and `repeat` integers.

    NaN stands for what a stage does not have: probabilities or a mask. The source is the file, for error messages.

    Raises:
        PredictionsError: A column is missing or unknown, the table is empty, a set or label is unknown, a probability
            or Dice is not in [0, 1], probabilities do not sum to 1, a case occurs twice in a stage, a stage has values
            for a part of its cases, or the stages of a run have different cases.
    """
    _check_columns(frame, source)
    _check_values(frame, source)
    _check_stages(frame, source)
    return frame.astype({name: np.int64 for name in _WHOLE if name in frame.columns})


def _check_columns(frame: pd.DataFrame, source: object) -> None:
    classes = table_classes(frame)
    expected = columns(classes)
    missing = [name for name in expected if name not in frame.columns]
    unknown = [name for name in frame.columns if name not in (*expected, *_OPTIONAL)]
    problem = None
    if missing:
        problem = f"no column {', '.join(missing)}"
    elif unknown:
        problem = f"unknown column {', '.join(map(str, unknown))}"
    elif len(classes) < 2:
        problem = f"{len(classes)} probability columns"
    elif frame.empty:
        problem = "a header without rows"
    if problem:
        raise PredictionsError(
            "This is not a predictions table.",
            case=source,
            found=problem,
            expected=f"{', '.join(LEADING_COLUMNS)}, {PROBABILITY_PREFIX}<class> for each of two or more classes, dice",
            remedy=_NAME_ANOTHER,
        )


def _check_values(frame: pd.DataFrame, source: object) -> None:
    classes, probability = table_classes(frame), probabilities(frame)
    given = ~np.isnan(probability).all(axis=1)
    wrong_sum = pd.Series(given & ~_sums_to_one(probability), index=frame.index)
    wrong_dice = frame["dice"].notna() & ~frame["dice"].between(0, 1)
    whole, number = "a whole number", "Number splits, repeats and folds."
    class_remedy = "Write the class, not the label that it merges; every class needs a probability column."
    sum_expected = "probabilities in [0, 1] for all classes with sum 1, or none"
    for wrong, where, expected, remedy in (
        *((frame[name] % 1 != 0, [name], whole, number) for name in _WHOLE if name in frame.columns),
        (~frame["set"].isin(PREDICTED_SETS), ["set"], " or ".join(PREDICTED_SETS), "Correct the set."),
        (~frame["label"].isin(classes), ["label"], "one of the classes " + ", ".join(classes), class_remedy),
        (wrong_sum, probability_names(classes), sum_expected, "Write the softmax outputs, not logits or percent."),
        (wrong_dice, ["dice"], "a Dice in [0, 1], or none", "Write Dice as a fraction."),
        *(
            (~(frame[name].isna() | np.isfinite(frame[name]) & (frame[name] >= 0)), [name], *_MEASURED)
            for name in MASK_COLUMNS
            if name in frame.columns
        ),
    ):
        _refuse_rows(frame, wrong, where, source, expected=expected, remedy=remedy)


def _check_stages(frame: pd.DataFrame, source: object) -> None:
    twice = frame.duplicated([*RUN_KEY, "set", "stage", "case"])
    _refuse_rows(frame, twice, ["stage", "case"], source, expected="each case once per stage", remedy="Remove one row.")
    stage = frame.groupby([*RUN_KEY, "stage"])
    for name in [*probability_names(table_classes(frame)), "dice"]:
        partly = frame[name].isna() & (stage[name].transform("count") > 0)
        expected = "a value for all cases of the stage or for none"
        _refuse_rows(frame, partly, ["stage", name], source, expected=expected, remedy="Predict the whole stage again.")
    for _, part in frame.groupby([*RUN_KEY, "set"], sort=False):
        cases = {str(stage): set(rows["case"]) for stage, rows in part.groupby("stage", sort=False)}
        if len({frozenset(ids) for ids in cases.values()}) > 1:
            raise PredictionsError(
                f"The stages of a run have different cases in the {part['set'].iloc[0]} set.",
                case=source,
                found=", ".join(f"{stage}: {len(ids)} cases" for stage, ids in cases.items()),
                expected="the same cases in every stage, so that the stages can be compared",
                remedy="Predict every stage on the whole set.",
            )


def _refuse_rows(
    frame: pd.DataFrame, wrong: "pd.Series[bool]", where: list[str], source: object, *, expected: str, remedy: str
) -> None:
    """Raise for the first wrong row; lines are counted as in an editor, with the header."""
    if not wrong.any():
        return
    row = int(np.flatnonzero(wrong.to_numpy())[0])
    values = ", ".join(f"{name} {frame[name].iloc[row]}" for name in where)
    raise PredictionsError(
        f"The predictions table is wrong in {int(wrong.sum())} of {len(frame)} rows.",
        case=f"{source or 'predictions'}, line {row + 2}, case {frame['case'].iloc[row]}",
        found=values,
        expected=expected,
        remedy=remedy,
    )


def _sums_to_one(probability: np.ndarray) -> np.ndarray:
    inside = ((probability >= 0) & (probability <= 1)).all(axis=1)
    return inside & (np.abs(probability.sum(axis=1) - 1) <= SUM_TOLERANCE)


def _numbers(column: "pd.Series[str]", source: object) -> "pd.Series[float]":
    """Parse exactly with Python's float, unlike pandas's fast parser; an empty field is NaN."""
    parsed = []
    for line, text in enumerate(column, start=2):
        try:
            parsed.append(float(text) if text else np.nan)
        except ValueError:
            raise PredictionsError(
                "The predictions table has text in a column of numbers.",
                case=f"{source}, line {line}",
                found=f"{column.name} {text}",
                expected="a number",
                remedy="Write numbers with a decimal point.",
            ) from None
    return pd.Series(parsed, index=column.index, dtype=np.float64)


def nodules_of(records: Iterable[CaseRecord], task: Task) -> list[CaseRecord]:
    """The cases whose label is in a class of the task, in their order."""
    return [case for case in records if task.class_of(case.label) is not None]


def identify(nodules: Sequence[CaseRecord], task: Task) -> pd.DataFrame:
    """One row per nodule: `case`, `patient`, and as `label` the class that contains its label."""
    class_name = {label: name for name, group in zip(task.class_names, task.classes, strict=True) for label in group}
    rows = [(case.case_id, case.patient_id, class_name[case.label]) for case in nodules]
    return pd.DataFrame(rows, columns=["case", "patient", "label"])


def tabulate_sets(
    sets: Mapping[str, list[CaseRecord]], predict: Callable[[list[CaseRecord]], np.ndarray], task: Task, **row: Any
) -> pd.DataFrame:
    """The checked predictions table, without a Dice, of a classifier that predicts [N, C] for the nodules of a set."""
    parts = [
        identify(nodules, task).assign(
            set=name, dice=np.nan, **row, **probability_columns(predict(nodules), task.class_names)
        )
        for name, nodules in sets.items()
        if nodules
    ]
    return join_parts(parts, task)


def join_parts(parts: Sequence[pd.DataFrame], task: Task) -> pd.DataFrame:
    """The checked predictions table of its parts, such as sets and stages."""
    joined = pd.concat(parts, ignore_index=True)
    return check_predictions(joined[_present_columns(joined)])
