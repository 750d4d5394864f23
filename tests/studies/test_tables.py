import dataclasses
from collections.abc import Callable

import numpy as np
import pandas as pd
import pytest

from ggn_tf.evaluation.report.page import Cell
from ggn_tf.evaluation.report.run_tables import OPTIMISTIC
from ggn_tf.evaluation.statistics.comparison import compare_systems
from ggn_tf.evaluation.statistics.paper_systems import FROZEN, JOINT, NETWORKS
from ggn_tf.evaluation.statistics.repeats import score_repeats
from ggn_tf.evaluation.statistics.system_predictions import System
from ggn_tf.protocol import Protocol
from ggn_tf.studies.analysis import PLANNED_PAIRS, AnalysisPlan, TaskResults
from ggn_tf.studies.tables import ScoreTable, best_repeat, markdown, tables_of
from ggn_tf.tasks import INDOLENT_INVASIVE, THREE_CLASSES, Task
from tests.support.tiny_study import tiny_design

DESIGN = dataclasses.replace(tiny_design(tasks=(THREE_CLASSES,)), protocol=Protocol())


def results_of(frame: pd.DataFrame, task: Task = THREE_CLASSES) -> TaskResults:
    present = set(frame[["model", "stage"]].itertuples(index=False, name=None))
    pairs = [pair for pair in PLANNED_PAIRS if set(map(tuple, pair)) <= present]
    scores = tuple(score_repeats(frame, replicates=200))
    return TaskResults(task, frame, scores, tuple(compare_systems(frame, pairs, replicates=200)))


@pytest.fixture(scope="module")
def tables(figure_4: Callable[[str], pd.DataFrame]) -> dict[str, ScoreTable]:
    """Of predictions with the confusion matrices of the paper's Fig. 4, all systems on the same nodules."""
    frames = [
        figure_4(network.letter).assign(model=network.system.model, stage=network.system.stage) for network in NETWORKS
    ]
    return {table.name: table for table in tables_of(DESIGN, [results_of(pd.concat(frames))])}


def cells(table: ScoreTable, *leading: str) -> dict[str, Cell]:
    row = next(row for row in table.rows if row[: len(leading)] == leading)
    return dict(zip(table.heading, row, strict=True))


def test_table_2_has_a_column_for_each_system_and_the_papers_beside_it(tables: dict[str, ScoreTable]):
    assert tables["table-2"].heading == (
        "score",
        "task",
        *(text for network in NETWORKS for text in (str(network), "paper: best of 5, selected on test")),
    )


def test_the_papers_matrix_of_the_joint_cascade_gives_the_papers_accuracy(tables: dict[str, ScoreTable]):
    row = next(row for row in tables["table-2"].rows if row[0] == "accuracy")
    ours, paper = row[2 + 2 * 3], row[3 + 2 * 3]
    assert ours.value == pytest.approx(132 / 225)
    assert ours.low < ours.value < ours.high
    assert (paper.value, paper.deviation) == pytest.approx((0.5867, 0.0027))


def test_one_repeat_has_no_deviation(tables: dict[str, ScoreTable]):
    assert all(row[2] is None or row[2].deviation is None for row in tables["table-2"].rows)


def test_the_mean_over_repeats_has_its_deviation(figure_4: Callable[[str], pd.DataFrame]):
    # The accuracies of (a) and (b) in Fig. 4 are 125 / 225 and 133 / 225.
    frames = [figure_4(letter).assign(model="raw", stage="classify", repeat=n) for n, letter in enumerate("ab", 1)]
    (table,) = tables_of(DESIGN, [results_of(pd.concat(frames))])
    accuracy = cells(table, "accuracy")["(a) raw CT"]
    assert accuracy.value == pytest.approx(129 / 225)
    assert accuracy.deviation == pytest.approx(8 / 225 / 2**0.5)


def test_labels_that_are_not_the_papers_have_no_paper_column(figure_4: Callable[[str], pd.DataFrame]):
    names = {"AAH+AIS": "1", "MIA": "2", "IAC": "3"}
    frame = figure_4("a").rename(columns={f"p_{old}": f"p_{new}" for old, new in names.items()})
    frame = frame.assign(label=frame["label"].map(names), model="raw", stage="classify")
    task = Task.parse("1,2,3")
    (table,) = tables_of(dataclasses.replace(DESIGN, tasks=(task,)), [results_of(frame, task)])
    assert table.heading == ("score", "task", "(a) raw CT")


def test_comparisons_name_both_systems_and_their_difference(tables: dict[str, ScoreTable]):
    row = cells(tables["comparisons-AAH+AIS_MIA_IAC-split1"], "(d) cascade, joint - (c) cascade, U-Net frozen")
    assert row["score"] == "accuracy"
    assert row["difference [95 %]"].value == pytest.approx(2 / 225)


def compared(frame: pd.DataFrame, **options: object) -> ScoreTable:
    """The table of the joint against the frozen cascade."""
    comparisons = compare_systems(frame, [(JOINT, FROZEN)], replicates=200, **options)
    result = TaskResults(INDOLENT_INVASIVE, frame, (), tuple(comparisons))
    return next(table for table in tables_of(DESIGN, [result]) if table.name.startswith("comparisons"))


@pytest.mark.parametrize("repeats", [1, 3])
def test_comparison_shows_the_interval_over_trainings_where_they_were_repeated(
    drawn_study: Callable[..., pd.DataFrame], repeats: int
):
    frame = drawn_study(systems=[FROZEN, JOINT], repeats=repeats)
    one = next(c for c in compare_systems(frame, [(JOINT, FROZEN)], replicates=200) if c.metric == "auc")
    row = next(row for row in compared(frame).rows if row[1] == "AUC")
    expected = (one.low, one.high) if repeats == 1 else (one.low_retrained, one.high_retrained)
    assert (row[2].low, row[2].high) == expected
    assert row[3] == ("patients" if repeats == 1 else "patients, trainings")
    assert row[4].p == (one.p if repeats == 1 else one.p_retrained)


def test_comparison_with_a_margin_says_inside_outside_or_undecided(drawn_study: Callable[..., pd.DataFrame]):
    table = compared(drawn_study(systems=[FROZEN, JOINT], gain=0.0, cases=30), margin=0.02, primary="auc")
    assert table.heading[-1] == "margin 0.02"
    assert {row[-1] for row in table.rows if row[1] == "accuracy"} == {"undecided"}
    assert [row[1] for row in table.rows if row[5] is not None] == ["AUC"]
    assert "the primary score, AUC" in table.caption


def test_scores_of_systems_have_the_interval_over_trainings_where_they_were_repeated(
    drawn_study: Callable[..., pd.DataFrame],
):
    frame = drawn_study(systems=[FROZEN, JOINT], repeats=3)
    scores = tuple(score_repeats(frame, replicates=200))
    one = next(s for s in scores if (s.metric, s.stage) == ("accuracy", "joint"))
    design = dataclasses.replace(DESIGN, tasks=(INDOLENT_INVASIVE,))
    (table,) = tables_of(design, [TaskResults(INDOLENT_INVASIVE, frame, scores, ())])
    cell = cells(table, "accuracy")["(d) cascade, joint"]
    assert (cell.low, cell.high) == (one.low_retrained, one.high_retrained)


def test_replicates_that_an_interval_leaves_out_are_in_the_caption(drawn_study: Callable[..., pd.DataFrame]):
    frame = drawn_study(systems=[JOINT], repeats=1)
    rare = sorted(frame["case"].unique())[:5]
    frame = frame.assign(patient=frame["case"], label=frame["case"].isin(rare).map({True: "MIA+IAC", False: "AAH+AIS"}))
    scores = tuple(score_repeats(frame, replicates=2000))
    (table,) = tables_of(DESIGN, [TaskResults(INDOLENT_INVASIVE, frame, scores, ())])
    count = next(score.left_out for score in scores if score.metric == "auc")
    assert count > 0
    assert f"AUC of (d) cascade, joint, task AAH+AIS,MIA+IAC, split 1: {count}" in table.caption


def test_selection_on_the_test_set_marks_every_table(figure_4: Callable[[str], pd.DataFrame]):
    design = dataclasses.replace(DESIGN, select_on="test")
    tables = tables_of(design, [results_of(figure_4("a").assign(model="raw", stage="classify"))])
    assert tables
    assert all(table.caption.startswith(OPTIMISTIC) for table in tables)


def test_selection_on_test_adds_the_best_of_the_repeats_beside_the_papers(figure_4: Callable[[str], pd.DataFrame]):
    # The accuracies of (a) and (b) in Fig. 4 are 125 / 225 and 133 / 225; the other scores are of the same training.
    frames = [figure_4(letter).assign(model="raw", stage="classify", repeat=n) for n, letter in enumerate("ab", 1)]
    results = [results_of(pd.concat(frames))]
    design = dataclasses.replace(DESIGN, select_on="test", repeats=2)
    (table,) = tables_of(design, results)
    row = cells(table, "accuracy")
    assert list(row)[2:] == ["(a) raw CT", "best of 2, selected on test", "paper: best of 5, selected on test"]
    assert row["(a) raw CT"].value == pytest.approx(129 / 225)
    assert row["best of 2, selected on test"].value == pytest.approx(133 / 225)
    expected = next(score.value for score in score_repeats(frames[1], ["test"], replicates=50) if score.metric == "mcc")
    assert cells(table, "MCC")["best of 2, selected on test"].value == pytest.approx(expected)
    assert "optimistic a second time" in table.caption
    for other in (dataclasses.replace(design, select_on="validation"), dataclasses.replace(design, repeats=1)):
        assert not any("best of 2" in str(name) for name in tables_of(other, results)[0].heading)


def test_the_best_repeat_is_the_first_of_equal_accuracies():
    values = {
        "accuracy": (np.array([0.5, 0.7, 0.7]), None),
        "auc": (np.array([0.9, 0.6, 0.8]), None),
        "dice": (None, "-"),
    }
    assert best_repeat(values) == {"accuracy": 0.7, "auc": 0.6}
    assert best_repeat({"dice": (np.array([0.5]), None)}) == {}


def test_ablations_are_below_the_system_that_they_vary(drawn_study: Callable[..., pd.DataFrame]):
    air = System("cascade-air", "joint")
    frame = drawn_study(systems=[JOINT, air], repeats=1)
    tables = {table.name: table for table in tables_of(DESIGN, [results_of(frame, INDOLENT_INVASIVE)])}
    assert [row[2] for row in tables["ablations"].rows] == [
        "(d) cascade, joint",
        "(d) cascade, joint: background -1024 HU",
    ]
    assert (air, JOINT) in AnalysisPlan().pairs_among({air, JOINT})
    assert "ablations" not in {
        table.name for table in tables_of(DESIGN, [results_of(drawn_study(systems=[JOINT]), INDOLENT_INVASIVE)])
    }


def test_markdown_escapes_what_would_end_a_cell():
    table = ScoreTable(("a|b", "c"), [("1", "2")], "Caption.", name="x", title="Title")
    assert markdown([table]) == "## Title\n\nCaption.\n\n| a\\|b | c |\n| --- | --- |\n| 1 | 2 |\n"
