import numpy as np
import pytest

from ggn_tf.errors import SplitError
from ggn_tf.evaluation.baselines import grouped_folds

CLASSES = ("a", "b", "c")


def drawn(cases: int = 90, patients: int = 30, seed: int = 0) -> tuple[np.ndarray, list[str]]:
    generator = np.random.default_rng(seed)
    return generator.integers(0, 3, cases), [f"p{number}" for number in generator.integers(0, patients, cases)]


@pytest.mark.parametrize("seed", range(5))
def test_no_patient_is_on_both_sides_of_a_fold(seed: int) -> None:
    label, patients = drawn(seed=seed)
    for training, fold in grouped_folds(label, patients, seed, CLASSES):
        assert not {patients[case] for case in training} & {patients[case] for case in fold}


@pytest.mark.parametrize("seed", range(5))
def test_every_case_is_in_one_fold_and_every_class_in_every_training_part(seed: int) -> None:
    label, patients = drawn(seed=seed)
    folds = grouped_folds(label, patients, seed, CLASSES)
    assert len(folds) == 5
    assert sorted(np.concatenate([fold for _, fold in folds])) == list(range(90))
    assert all(set(label[training]) == {0, 1, 2} for training, _ in folds)


def test_the_seed_decides() -> None:
    label, patients = drawn()
    first, same, other = (grouped_folds(label, patients, seed, CLASSES) for seed in (1, 1, 2))
    np.testing.assert_array_equal(first[0][1], same[0][1])
    assert any(not np.array_equal(one[1], two[1]) for one, two in zip(first, other, strict=True))


def test_a_class_of_three_patients_gives_three_folds() -> None:
    label = np.array([0] * 20 + [1] * 20 + [2] * 3)
    patients = [f"p{number}" for number in range(43)]
    folds = grouped_folds(label, patients, 0, CLASSES)
    assert len(folds) == 3
    assert all(2 in label[training] for training, _ in folds)


def test_a_class_of_one_patient_is_refused_by_name() -> None:
    label = np.array([0] * 20 + [1] * 20 + [2] * 4)
    patients = [f"p{number}" for number in range(40)] + ["last"] * 4
    with pytest.raises(SplitError, match=r"too few patients of a class(?s:.*)20 of a, 20 of b, 1 of c"):
        grouped_folds(label, patients, 0, CLASSES)
