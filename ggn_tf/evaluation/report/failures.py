"""The wrong answers, the surest first: what a reader should look at before trusting the rest."""

from collections.abc import Collection, Hashable, Mapping
from typing import Any

import numpy as np
import pandas as pd

from ggn_tf.dataset.case_record import CaseRecord
from ggn_tf.evaluation.report.blocks import Cell, Link, Prose, Section, Table
from ggn_tf.evaluation.report.report_data import ReportData
from ggn_tf.evaluation.statistics.predictions_table import probabilities
from ggn_tf.evaluation.statistics.scores import class_indices

SHOWN = 40


def failures_section(
    data: ReportData, shown: int = SHOWN, shown_cases: Collection[str] = frozenset()
) -> Section | None:
    """The wrong answers of the chief system, sorted by how sure they were.

    Args:
        data: Of a run or a study; of several repeats a nodule's answer is the mean probability.
        shown: Rows, at most.
        shown_cases: The gallery's, which their rows point to.

    Returns:
        None where nothing classifies.
    """
    name = data.main_system
    if name is None:
        return None
    rows = data.classified[name]
    wrong = wrong_answers(rows)
    told = f"{name}: {len(wrong)} of {rows['case'].nunique()} nodules are wrong. {data.caption}"
    if wrong.empty:
        return Section(f"{data.prefix}failures", "Failures", [Prose(told)])
    known = data.nodules
    heading = [
        "case",
        "true class",
        "answer",
        "its probability",
        "Dice",
        *([] if known is None else ["longest diameter, mm"]),
    ]
    table = Table(
        heading,
        [_row(row, known, shown_cases, data.prefix) for row in wrong.head(shown).to_dict("records")],
        f"The {min(shown, len(wrong))} surest wrong answers of {len(wrong)}",
    )
    return Section(f"{data.prefix}failures", "Failures", [Prose(told), table])


def wrong_answers(rows: pd.DataFrame) -> pd.DataFrame:
    """The wrong answers of one system on one set, the surest first, equal ones by case.

    Args:
        rows: Its predictions; of several repeats the mean probability counts.

    Returns:
        Columns case, label, answer, probability, dice.
    """
    numbers = [name for name in rows.columns if name.startswith("p_")]
    mean = rows.groupby(["case", "label"], as_index=False)[[*numbers, "dice"]].mean()
    label, predicted = class_indices(mean)
    chance = probabilities(mean)
    told = mean[["case", "label", "dice"]].assign(
        answer=[numbers[index].removeprefix("p_") for index in predicted],
        probability=chance[np.arange(len(mean)), predicted],
    )
    return told[label != predicted].sort_values(["probability", "case"], ascending=[False, True])


def _row(
    row: dict[Hashable, Any], known: Mapping[str, CaseRecord] | None, shown_cases: Collection[str], prefix: str
) -> list[Cell]:
    case = row["case"]
    first: Cell = Link(case, f"{prefix}case-{case}") if case in shown_cases else case
    dice = "-" if np.isnan(row["dice"]) else f"{row['dice']:.3f}"
    cells: list[Cell] = [first, row["label"], row["answer"], f"{row['probability']:.3f}", dice]
    return cells if known is None else [*cells, f"{known[case].longest_diameter_mm:.1f}"]
