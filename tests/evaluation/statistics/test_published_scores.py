import numpy as np
import pytest

from ggn_tf.evaluation.statistics.paper_systems import PUBLISHED, published_score
from ggn_tf.tasks import AIS_MIA, FOUR_CLASSES, INDOLENT_INVASIVE, NOT_IAC_IAC, THREE_CLASSES
from tests.support.described_run import scores_of_test

T1, T2, T3, T4 = map(str, (THREE_CLASSES, INDOLENT_INVASIVE, NOT_IAC_IAC, AIS_MIA))


@pytest.mark.parametrize(
    ("metric", "task", "split", "system", "value", "deviation"),
    [
        ("accuracy", T1, 1, "a", 0.5573, 0.0034),
        ("accuracy", T4, 1, "e", 0.6767, 0.0033),
        ("average_f1", T2, 1, "d", 0.7753, 0.0025),
        ("mcc", T1, 1, "d", 0.3430, 0.0035),
        ("auc", T2, 1, "b", 0.8140, 0.0038),
        ("auc", T4, 1, "e", 0.6809, 0.0048),
        ("accuracy", T1, 2, "d", 0.5467, 0.0021),
        ("average_f1", T3, 2, "e", 0.8210, 0.0036),
        ("mcc", T2, 2, "a", 0.3204, None),
        ("mcc", T4, 2, "e", 0.2281, 0.0031),
        ("auc", T3, 2, "b", 0.8106, 0.0044),
        ("accuracy", T1, 1, "automatic", 0.5767, 0.0031),
        ("auc", T4, 2, "automatic", 0.6574, 0.0031),
        ("mcc", T2, 1, "d, lambda 0.5", 0.4817, 0.0030),
        ("auc", T2, 1, "d, lambda 1.5", 0.8130, 0.0033),
        ("accuracy", str(FOUR_CLASSES), None, "svm", 0.709, None),
        ("accuracy", T4, None, "radiologists", 0.357, None),
        ("accuracy", T2, None, "d", 0.9133, 0.0033),
    ],
)
def test_number_is_the_papers(metric, task, split, system, value, deviation):
    found = published_score(metric, task=task, system=system, split=split)
    assert found.value == pytest.approx(value, abs=1e-12)
    assert found.deviation == (deviation if deviation is None else pytest.approx(deviation, abs=1e-12))


def test_every_number_of_the_tables_is_there():
    """Tables 2 and 3: 4 tasks x 5 systems x 4 scores without the three-class AUC; Table 4: one system, two splits."""
    count = {table: sum(score.table == table for score in PUBLISHED) for table in range(2, 7)}
    assert count == {2: 75, 3: 75, 4: 30, 5: 20, 6: 9}


def test_joint_cascade_is_lambda_one_of_table_5():
    for metric in ("accuracy", "average_f1", "mcc", "auc"):
        one = published_score(metric, task=T2, system="d", split=1)
        other = published_score(metric, task=T2, system="d, lambda 1.0", split=1)
        assert (one.table, other.table, one.value) == (2, 5, other.value)


@pytest.mark.parametrize(
    ("task", "split", "system"),
    [("1+2,4+5", 1, "a"), (T2, 3, "a"), (T2, 1, "diameter"), ("MIA+IAC,AAH+AIS", 1, "a")],
    ids=["other labels", "other split", "other system", "other order"],
)
def test_what_the_paper_does_not_have_is_none(task, split, system):
    assert published_score("accuracy", task=task, split=split, system=system) is None


def test_three_classes_have_no_auc():
    assert published_score("auc", task=T1, system="d", split=1) is None


@pytest.mark.parametrize("letter", "abcde")
def test_table_2_agrees_with_figure_4_but_for_model_a(figure_4, letter):
    """One nodule of 225 is 0.44 %; the table's row of model (a) is of 125.4 nodules, the others of whole ones."""
    accuracy = scores_of_test(figure_4(letter))["accuracy"].value
    printed = published_score("accuracy", task=T1, system=letter, split=1).value
    assert (abs(accuracy - printed) < 5e-5) == (letter != "a")
    assert np.isclose(accuracy, printed, atol=2e-3)
