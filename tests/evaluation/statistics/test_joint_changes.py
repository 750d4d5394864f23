import numpy as np
import pandas as pd
import pytest

from ggn_tf.evaluation.statistics.cascade_changes import paired_stages

TWO = ("AAH+AIS", "MIA+IAC")


@pytest.fixture
def cascade(make_frame) -> pd.DataFrame:
    """Three nodules; the true classes' probabilities go 0.9 to 0.7, 0.6 to 0.8, 0.5 to 0.9."""
    before = np.array([[0.9, 0.1], [0.4, 0.6], [0.5, 0.5]])
    after = np.array([[0.7, 0.3], [0.2, 0.8], [0.1, 0.9]])
    classify = make_frame(TWO, [0, 1, 1], before, dice=[0.8, 0.7, 0.6], stage="classify")
    joint = make_frame(TWO, [0, 1, 1], after, dice=[0.9, 0.65, 0.5], stage="joint")
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
