import numpy as np
import pandas as pd
import pytest

from ggn_tf.evaluation.statistics.cascade_changes import ErrorBudget, error_budget

TWO = ("AAH+AIS", "MIA+IAC")


@pytest.fixture
def sides(make_frame) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Five nodules: right with both, twice right with the reference alone, right with the prediction alone, wrong."""
    label = [0, 0, 1, 1, 1]
    predicted = np.array([0.1, 0.6, 0.3, 0.8, 0.4])
    reference = np.array([0.2, 0.3, 0.9, 0.4, 0.1])
    frames = [make_frame(TWO, label, np.stack([1 - p, p], axis=1)) for p in (predicted, reference)]
    return frames[0], frames[1].assign(dice=1.0)


@pytest.fixture
def budget(sides) -> ErrorBudget:
    return error_budget(*sides, replicates=200, seed=0)


def test_every_nodule_is_in_one_of_four_cells(budget):
    assert (budget.both_right, budget.mask_fault, budget.mask_luck, budget.both_wrong) == (1, 2, 1, 1)


def test_accuracy_with_either_mask(budget):
    line = budget.lines[0]
    assert (line.name, line.predicted, line.reference) == ("accuracy", pytest.approx(0.4), pytest.approx(0.6))
    assert line.cost == pytest.approx(0.2)


def test_mean_probability_of_the_true_class(budget):
    line = budget.lines[1]
    assert line.predicted == pytest.approx(np.mean([0.9, 0.4, 0.3, 0.8, 0.4]))
    assert line.reference == pytest.approx(np.mean([0.8, 0.7, 0.9, 0.4, 0.1]))


def test_auc_with_either_mask(budget):
    # Pairs in the wrong order: with the predicted masks 0.3 and 0.4 are below 0.6, with the others 0.1 below 0.2, 0.3.
    line = budget.lines[2]
    assert (line.name, line.predicted, line.reference) == ("AUC", pytest.approx(4 / 6), pytest.approx(4 / 6))


def test_cases_are_matched_by_id(sides, budget):
    predicted, reference = sides
    again = error_budget(predicted, reference.iloc[::-1], replicates=200, seed=0)
    assert again.lines == budget.lines


def test_equal_answers_cost_nothing(drawn_frame):
    frame = drawn_frame()
    budget = error_budget(frame, frame, replicates=200, seed=0)
    assert [line.cost for line in budget.lines] == [0.0, 0.0, 0.0]
    assert [line.interval for line in budget.lines] == [(0.0, 0.0)] * 3


def test_auc_of_one_class_is_undefined(make_frame):
    frame = make_frame(TWO, [1, 1], np.array([[0.9, 0.1], [0.3, 0.7]]))
    assert error_budget(frame, frame, replicates=20, seed=0).lines[2][1:] == (None, None, None, None)


def test_three_classes_have_no_auc(drawn_frame):
    frame = drawn_frame(("AAH+AIS", "MIA", "IAC"))
    assert len(error_budget(frame, frame, replicates=20, seed=0).lines) == 2
