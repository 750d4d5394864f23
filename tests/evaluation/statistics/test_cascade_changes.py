import numpy as np
import pandas as pd
import pytest

from ggn_tf.evaluation.statistics.cascade_changes import ErrorBudget, error_budget, paired_stages

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


TWO_CLASSES = ("AAH+AIS", "MIA+IAC")


@pytest.fixture
def cascade(make_frame) -> pd.DataFrame:
    """Three nodules; the true classes' probabilities go 0.9 to 0.7, 0.6 to 0.8, 0.5 to 0.9."""
    before = np.array([[0.9, 0.1], [0.4, 0.6], [0.5, 0.5]])
    after = np.array([[0.7, 0.3], [0.2, 0.8], [0.1, 0.9]])
    classify = make_frame(TWO_CLASSES, [0, 1, 1], before, dice=[0.8, 0.7, 0.6], stage="classify")
    joint = make_frame(TWO_CLASSES, [0, 1, 1], after, dice=[0.9, 0.65, 0.5], stage="joint")
    return pd.concat([classify, joint], ignore_index=True)


def test_change_is_after_minus_before(cascade):
    changes = paired_stages(cascade).changes
    np.testing.assert_allclose(changes["score_change"], [-0.2, 0.2, 0.4])
    np.testing.assert_allclose(changes["dice_change"], [0.1, -0.05, -0.1])


def test_cases_are_matched_by_id_and_not_by_place(cascade):
    mixed = cascade.iloc[[0, 1, 2, 5, 3, 4]]
    pd.testing.assert_frame_equal(paired_stages(mixed).changes, paired_stages(cascade).changes)


def test_quadrants_count_every_nodule(cascade):
    quadrants = paired_stages(cascade).quadrants
    assert quadrants.loc["fell", "rose"] == 2
    assert quadrants.loc["rose", "fell"] == 1
    assert quadrants.to_numpy().sum() == 3


def test_correlation_is_of_ranks(cascade):
    assert paired_stages(cascade).correlation == pytest.approx(-1.0)


def test_correlation_of_a_constant_is_undefined(cascade):
    assert paired_stages(cascade.assign(dice=0.5)).correlation is None


def test_model_without_both_stages_has_no_change(cascade):
    assert paired_stages(cascade[cascade["stage"] == "joint"]) is None


def test_other_models_do_not_take_part(cascade):
    raw = cascade[cascade["stage"] == "classify"].assign(model="raw", dice=np.nan)
    with_raw = paired_stages(pd.concat([cascade, raw], ignore_index=True))
    pd.testing.assert_frame_equal(with_raw.changes, paired_stages(cascade).changes)


def test_repeats_are_matched_with_their_own(cascade):
    both = pd.concat([cascade, cascade.assign(repeat=2)], ignore_index=True)
    assert len(paired_stages(both).changes) == 6
