"""Scores by nodule size, texture, slice spacing, and columns of the case table."""

from collections.abc import Mapping, Sequence
from functools import partial
from itertools import groupby
from typing import NamedTuple

import numpy as np
from matplotlib.figure import Figure

from ggn_tf.dataset.case_record import CaseRecord
from ggn_tf.evaluation.report.figure_style import COLOURS, FAINT, new_figure
from ggn_tf.evaluation.report.page import Cell, Drawing, Prose, Section, Table, score_cell
from ggn_tf.evaluation.report.report_data import ReportData
from ggn_tf.evaluation.report.run_tables import METRIC_NAMES
from ggn_tf.evaluation.statistics.bootstrap import LEAST_PATIENTS
from ggn_tf.evaluation.statistics.score_records import SubgroupScore
from ggn_tf.evaluation.statistics.scores import score_values
from ggn_tf.evaluation.statistics.subgroups import CHARACTERISTICS, Characteristic, columns_of, score_subgroups

DRAWN = ("accuracy", "dice")


def subgroups_section(data: ReportData) -> Section | None:
    """The scores of the main system in every group; None without systems, or if nothing is known of the nodules."""
    if data.nodules is None or not data.systems:
        return None
    name = _main_system(data)
    scores = main_subgroups(data, data.nodules, (*CHARACTERISTICS, *columns_of(data.nodules.values(), data.by)))
    drawings = [
        _drawing(data, name, metric, [score for score in scores if score.metric == metric])
        for metric in DRAWN
        if any(score.metric == metric and score.value is not None for score in scores)
    ]
    tables = [_table(kind, list(group)) for kind, group in groupby(scores, key=lambda score: score.characteristic)]
    explained = (
        f"Shown: {name}. A group of fewer than {LEAST_PATIENTS} patients has no score, only its numbers. "
        "Groups were not planned for power: where intervals overlap, no conclusion can be drawn. "
        f"In brackets {data.interval}. {data.caption}"
    )
    return Section(f"{data.prefix}subgroups", "Subgroups", [Prose(explained), *drawings, *tables])


def main_subgroups(
    data: ReportData, nodules: Mapping[str, CaseRecord], characteristics: Sequence[Characteristic]
) -> list[SubgroupScore]:
    """The scores of the main system in every group; nothing without predictions of the set."""
    if not data.systems:
        return []
    return score_subgroups(
        data.systems[_main_system(data)],
        nodules,
        characteristics,
        set_name=data.set_name,
        seed=data.seed,
        replicates=data.replicates,
    )


def _main_system(data: ReportData) -> str:
    return data.main_system or list(data.systems)[-1]


def _drawing(data: ReportData, name: str, metric: str, scores: Sequence[SubgroupScore]) -> Drawing:
    rows = []
    for characteristic, group in groupby(scores, key=lambda score: score.characteristic):
        rows.append(ForestRow(characteristic.capitalize(), heading=True))
        for score in group:
            few = ", too few" if score.value is None else ""
            rows.append(ForestRow(f"{score.group} (n = {score.nodules}{few})", score.value, score.low, score.high))
    # The mean over repeats, as the groups' scores are.
    wholes = [score_values(repeat)[metric][0] for _, repeat in data.systems[name].groupby("repeat")]
    whole = float(np.mean([value for value in wholes if value is not None]))
    return Drawing(
        f"{data.prefix}subgroups-{metric}",
        f"Groups of nodules, {METRIC_NAMES[metric]} of {name}; dashed: all nodules; lines: {data.interval}. "
        + data.caption,
        partial(draw_forest, rows, whole, METRIC_NAMES[metric], f"{name}, {data.set_name} set{data.mark}"),
    )


def _table(characteristic: str, scores: Sequence[SubgroupScore]) -> Table:
    shown = [metric for metric in METRIC_NAMES if any(score.metric == metric for score in scores)]
    rows: list[list[Cell]] = []
    for group, members in groupby(scores, key=lambda score: score.group):
        by_metric = {score.metric: score for score in members}
        first = next(iter(by_metric.values()))
        defined = {metric: score_cell(score) for metric, score in by_metric.items() if score.value is not None}
        rows.append([group, first.nodules, first.patients, *(defined.get(metric) for metric in shown)])
    heading = [characteristic, "nodules", "patients", *(METRIC_NAMES[metric] for metric in shown)]
    return Table(heading, rows, f"By {characteristic}")


class ForestRow(NamedTuple):
    """The score of a group, or a heading above groups. A group without a score says why in its label."""

    label: str
    value: float | None = None
    low: float | None = None
    high: float | None = None
    heading: bool = False


def draw_forest(rows: Sequence[ForestRow], whole: float, score: str, title: str) -> Figure:
    """Draw one row per group."""
    figure, axes = new_figure("", 1.1 + 0.25 * len(rows))
    axes.axvline(whole, color=FAINT, linewidth=1, linestyle=(0, (4, 2)))
    for index, row in enumerate(rows):
        if row.value is None:
            continue
        if row.low is not None and row.high is not None:
            axes.plot([row.low, row.high], [index, index], color=COLOURS[0], linewidth=1.6)
        axes.plot(row.value, index, marker="o", markersize=6, color=COLOURS[0])
    axes.set_yticks(range(len(rows)), [row.label for row in rows])
    for label, row in zip(axes.get_yticklabels(), rows, strict=True):
        label.set_fontweight("bold" if row.heading else "normal")
    axes.set_ylim(len(rows) - 0.4, -0.6)
    axes.set_xlim(-0.02, 1.02)
    axes.tick_params(axis="y", length=0)
    axes.grid(visible=True, axis="x")
    axes.set_xlabel(score)
    # A title of the axes would begin to the right of the long labels.
    figure.suptitle(title, x=0.01, ha="left", fontsize=11)
    return figure
