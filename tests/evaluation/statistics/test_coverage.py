import pytest

from tests.support.clinic import Clinic, coverage, coverage_of_rare_share, false_alarms, false_alarms_of_trainings


@pytest.mark.slow
@pytest.mark.parametrize("clinic", [Clinic(60, 2, 1.2), Clinic(60, 3, 1.2)], ids=["two classes", "three classes"])
def test_interval_of_95_percent_covers_in_93_to_97(clinic):
    """60 patients with some 115 nodules, which depend on each other; 1000 studies tell a share to 0.7 %."""
    shares = coverage(clinic, studies=1000, replicates=200)
    shares.pop("auc, Obuchowski", None)
    assert shares.keys() == clinic.truth.keys()
    assert {name: share for name, share in shares.items() if not 0.93 <= share <= 0.97} == {}


@pytest.mark.slow
@pytest.mark.parametrize("share", [0.02, 0.1])
def test_the_interval_of_a_rare_share_covers_in_at_least_92_percent(share):
    """With few events it is conservative, which is no fault; 1000 studies tell a share to 0.7 %."""
    assert coverage_of_rare_share(50, share, studies=1000, replicates=200) >= 0.92


@pytest.mark.slow
def test_tests_find_a_difference_where_there_is_none_in_3_to_7_percent():
    """McNemar's exact test by patient is conservative, as every exact test of counts."""
    shares = false_alarms(Clinic(60, 2, 1.2), studies=1000, replicates=200)
    assert shares.pop("accuracy") < 0.06
    assert {name: share for name, share in shares.items() if not 0.03 <= share <= 0.07} == {}


@pytest.mark.slow
def test_p_over_trainings_is_right_where_p_over_patients_misleads():
    over_patients, over_both, ratio = false_alarms_of_trainings(80, repeats=3, luck=0.25, studies=600)
    assert ratio == pytest.approx(1, abs=0.1)
    assert over_patients > 0.14
    assert 0.03 <= over_both <= 0.08
