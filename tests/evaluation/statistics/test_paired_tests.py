import itertools

import numpy as np
import pandas as pd
import pytest
from scipy.stats import binomtest

from ggn_tf.evaluation.statistics.comparison import compare_systems
from ggn_tf.evaluation.statistics.paired_tests import swap_p_value
from ggn_tf.evaluation.statistics.system_predictions import System


@pytest.mark.parametrize(("won", "lost"), [(5, 0), (8, 2), (3, 3), (59, 33), (1, 0), (0, 0)])
def test_swaps_of_single_nodules_are_mcnemars_exact_test(won, lost):
    differences = np.array([1] * won + [-1] * lost + [0] * 7)
    expected = binomtest(won, won + lost).pvalue if won + lost else 1.0
    assert swap_p_value(differences) == pytest.approx(expected, abs=1e-12)


def test_mcnemar_of_a_published_table():
    """Agresti's approval ratings, 150 against 86 changed; the p as R's exact2x2 prints it for mcnemar.exact."""
    assert swap_p_value(np.array([1] * 150 + [-1] * 86)) == pytest.approx(3.716e-05, abs=5e-9)


@pytest.mark.parametrize("seed", range(5))
def test_swaps_are_those_of_a_list_of_all(seed):
    differences = np.random.default_rng(seed).integers(-3, 4, 10)
    sums = [np.dot(signs, differences) for signs in itertools.product([-1, 1], repeat=10)]
    assert swap_p_value(differences) == pytest.approx(np.mean(np.abs(sums) >= abs(differences.sum())), abs=1e-12)


def test_accuracy_of_single_nodules_is_compared_by_mcnemar(drawn_study):
    frame = drawn_study(repeats=1)
    frame = frame.assign(patient=frame["case"])
    one = next(c for c in compare_systems(frame, replicates=10) if c.metric == "accuracy")
    taken = np.where(frame["p_MIA+IAC"] > frame["p_AAH+AIS"], "MIA+IAC", "AAH+AIS")
    right = (frame["label"] == taken).groupby(frame["model"]).apply(list)
    won = sum(a and not b for a, b in zip(right["cascade"], right["raw"], strict=True))
    lost = sum(b and not a for a, b in zip(right["cascade"], right["raw"], strict=True))
    assert one.p == pytest.approx(binomtest(won, won + lost).pvalue, abs=1e-12)


def test_patients_swap_with_all_their_nodules_and_repeats(make_frame):
    """A is right twice more often in the first patient, once in the second: sums 3, 1, -1, -3. Others do not differ."""
    right, wrong = [0.9, 0.1], [0.2, 0.8]
    patients = ["p", "p", "q", *(f"r{number}" for number in range(8))]
    a = make_frame(("x", "y"), [0] * 11, np.array([right] * 3 + [wrong] * 8), patients=patients)
    b = make_frame(("x", "y"), [0] * 11, np.array([wrong] * 11), patients=patients)
    frame = pd.concat([a, b.assign(model="other")])
    one = next(
        c
        for c in compare_systems(frame, [(System("cascade", "joint"), System("other", "joint"))], replicates=10)
        if c.metric == "accuracy"
    )
    assert one.p == pytest.approx(2 / 4)
