"""The wrong predictions, the most confident first: what a reader should look at before trusting the rest."""

from collections.abc import Collection

import numpy as np
import pandas as pd

from ggn_tf.evaluation.report.blocks import Prose, Section
from ggn_tf.evaluation.report.cells import Cell, Link, Number, Table
from ggn_tf.evaluation.report.report_data import ReportData
from ggn_tf.evaluation.statistics.predictions_table import probabilities, probability_columns, table_classes
from ggn_tf.evaluation.statistics.scores import class_indices

SHOWN = 40


def failures_section(
    data: ReportData, shown: int = SHOWN, shown_cases: Collection[str] = frozenset()
) -> Section | None:
    """The wrong predictions of the main system, sorted by confidence.

    Args:
        data: Predictions of a run or a study; of several repeats the mean probability of a nodule counts.
        shown: Maximum number of rows.
        shown_cases: The gallery's cases, to which their rows link.

    Returns:
        None if nothing classifies.
    """
    name = data.main_system
    if name is None:
        return None
    rows = data.classified[name]
    wrong = wrong_predictions(rows)
    summary = Prose(f"{name}: {len(wrong)} of {rows['case'].nunique()} nodules are wrong. {data.caption}")
    if wrong.empty:
        return Section(f"{data.prefix}failures", "Failures", [summary])
    heading = ["case", "true class", "prediction", "its probability", "Dice"]
    cells: list[list[Cell]] = [
        [
            Link(case, f"{data.prefix}case-{case}") if case in shown_cases else case,
            label,
            prediction,
            Number(probability),
            None if np.isnan(dice) else Number(dice),
        ]
        for case, label, dice, prediction, probability in wrong.head(shown).itertuples(index=False)
    ]
    if data.nodules is not None:
        heading.append("longest diameter, mm")
        for row, case in zip(cells, wrong["case"], strict=False):
            row.append(Number(data.nodules[case].longest_diameter_mm, decimals=1))
    table = Table(heading, cells, f"The {len(cells)} most confident wrong predictions of {len(wrong)}")
    return Section(f"{data.prefix}failures", "Failures", [summary, table])


def wrong_predictions(rows: pd.DataFrame) -> pd.DataFrame:
    """The wrong predictions of one system on one set, the most confident first, equal ones by case.

    Args:
        rows: Its predictions; of several repeats the mean probability counts.

    Returns:
        Columns case, label, dice, prediction, probability.
    """
    classes = table_classes(rows)
    columns = list(probability_columns(probabilities(rows), classes))
    mean = rows.groupby(["case", "label"], as_index=False)[[*columns, "dice"]].mean()
    label, predicted = class_indices(mean)
    table = mean[["case", "label", "dice"]].assign(
        prediction=[classes[index] for index in predicted],
        probability=probabilities(mean)[np.arange(len(mean)), predicted],
    )
    return table[label != predicted].sort_values(["probability", "case"], ascending=[False, True])
