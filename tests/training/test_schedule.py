import dataclasses
import math

import pytest

from ggn_tf.protocol import Protocol
from ggn_tf.runs.ledger import StopReason
from ggn_tf.training.monitor import EpochResult, EpochScore, best_epoch, learning_rate, stop_reason

TRAINING = Protocol().training


def epochs(*scores: float) -> list[EpochScore]:
    return [EpochScore(score, 0.0) for score in scores]


def test_plateau_keeps_the_rate_while_the_score_rises():
    assert learning_rate(TRAINING.segment, epochs(*(i / 100 for i in range(50)))) == 1e-4


@pytest.mark.parametrize(("flat_epochs", "expected"), [(9, 1e-4), (10, 0.8e-4), (19, 0.8e-4), (20, 0.64e-4)])
def test_plateau_multiplies_by_0_8_after_every_ten_epochs_without_a_rise(flat_epochs: int, expected: float):
    assert learning_rate(TRAINING.classify, epochs(0.7, *[0.7] * flat_epochs)) == pytest.approx(expected, rel=1e-12)


def test_plateau_counts_anew_after_a_rise():
    assert learning_rate(TRAINING.segment, epochs(0.5, *[0.4] * 9, 0.6, *[0.6] * 9)) == 1e-4


@pytest.mark.parametrize(
    ("done", "expected"), [(0, 1e-5), (29, 1e-5), (30, 5e-6), (59, 5e-6), (60, 2.5e-6), (119, 1.25e-6)]
)
def test_joint_rate_halves_every_thirty_epochs(done: int, expected: float):
    assert learning_rate(TRAINING.joint, epochs(*[0.5] * done)) == pytest.approx(expected, rel=1e-12)


def test_the_smaller_loss_breaks_ties_and_then_the_earlier_epoch():
    past = [
        EpochScore(0.7, 0.9),
        EpochScore(0.8, 0.6),
        EpochScore(0.8, 0.5),
        EpochScore(0.8, 0.5),
        EpochScore(0.7, 0.1),
    ]
    assert best_epoch(past) == 2


def test_a_loss_that_is_not_a_number_loses_every_tie():
    assert best_epoch([EpochScore(0.5, math.nan), EpochScore(0.5, 0.3), EpochScore(0.5, math.nan)]) == 1


def test_what_selects_rises_and_a_loss_that_is_not_a_number_is_the_worst():
    result = EpochResult(0.9, 0.7, 0.75, 0.8, 0.4, None, None)
    scores = {name: result.epoch_score(name).score for name in ("dice", "accuracy", "auc", "classification_loss")}
    assert scores == {"dice": 0.7, "accuracy": 0.75, "auc": 0.8, "classification_loss": -0.4}
    diverged = dataclasses.replace(result, classification_loss=math.nan)
    assert diverged.epoch_score("classification_loss").score == -math.inf


def test_a_stage_ends_after_its_last_epoch():
    numbers = dataclasses.replace(TRAINING.segment, max_epochs=3)
    assert stop_reason(numbers, epochs(0.1, 0.2)) is None
    assert stop_reason(numbers, epochs(0.1, 0.2, 0.3)) is StopReason.ALL_EPOCHS


def test_a_stage_ends_after_fifty_epochs_without_a_better_score():
    assert stop_reason(TRAINING.segment, epochs(0.9, *[0.5] * 49)) is None
    assert stop_reason(TRAINING.segment, epochs(0.9, *[0.5] * 50)) is StopReason.NO_BETTER_SCORE


def test_lengths_are_the_papers():
    assert (TRAINING.segment.max_epochs, TRAINING.classify.max_epochs, TRAINING.joint.max_epochs) == (150, 120, 120)
    assert TRAINING.segment.patience == TRAINING.classify.patience == TRAINING.joint.patience == 50
