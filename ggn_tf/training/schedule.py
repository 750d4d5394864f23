"""Learning rate, best epoch and end of a stage, each a pure function of the scores so far (paper section 3.2).

Nothing here has a state: a run that resumes after a kill recomputes the same decisions from its history.
"""

import math
from collections.abc import Sequence
from typing import NamedTuple

from ggn_tf.protocol import Plateau, StageProtocol
from ggn_tf.runs.stop_reason import StopReason


class EpochScore(NamedTuple):
    """What an epoch reached on the monitored set: a score that should rise, and a loss that breaks ties."""

    score: float
    loss: float


def learning_rate(numbers: StageProtocol, past: Sequence[EpochScore]) -> float:
    """The learning rate of the epoch that follows `past`.

    `Plateau`: multiplied whenever the score has not risen above its best for `patience` epochs, counted from the last
    rise or multiplication. `Steps`: multiplied after every `every` epochs.
    """
    if not isinstance(numbers.schedule, Plateau):
        return numbers.learning_rate * numbers.schedule.factor ** (len(past) // numbers.schedule.every)
    rate, best, waited = numbers.learning_rate, float("-inf"), 0
    for epoch in past:
        waited = 0 if epoch.score > best else waited + 1
        best = max(best, epoch.score)
        if waited == numbers.schedule.patience:
            rate, waited = rate * numbers.schedule.factor, 0
    return rate


def best_epoch(past: Sequence[EpochScore]) -> int:
    """The index of the epoch whose weights are kept: the highest score, then the smallest loss, then the earliest.

    A loss that is not a number counts as the largest.
    """
    losses = [math.inf if math.isnan(epoch.loss) else epoch.loss for epoch in past]
    return max(range(len(past)), key=lambda index: (past[index].score, -losses[index], -index))


def stop_reason(numbers: StageProtocol, past: Sequence[EpochScore]) -> StopReason | None:
    """Why the stage ends after the epochs in `past`, or None if it continues."""
    if len(past) >= numbers.max_epochs:
        return StopReason.ALL_EPOCHS
    scores = [epoch.score for epoch in past]
    if scores and len(scores) - 1 - scores.index(max(scores)) >= numbers.patience:
        return StopReason.NO_BETTER_SCORE
    return None
