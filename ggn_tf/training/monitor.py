"""The monitored set after an epoch, over all of it, and what follows from the scores so far (paper section 3.2).

Learning rate, best epoch and end of a stage are pure functions of these scores: a run that resumes after a kill
recomputes the same decisions from its history.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import keras
import numpy as np
import tensorflow as tf

from ggn_tf.dataset.pipeline import Batch, CaseStream, read_batches
from ggn_tf.protocol import Plateau, StageProtocol, TrainingProtocol
from ggn_tf.runs.ledger import StopReason
from ggn_tf.runs.stages import Stage
from ggn_tf.training import losses
from ggn_tf.training.replicas import ONE_REPLICA, Replicas


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
    """The epoch whose weights are kept: highest score, smallest loss (NaN being the largest), then earliest."""
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


def traced_inference(network: Callable[..., dict[str, tf.Tensor]], shape: tuple[int | None, ...]) -> Any:
    """Trace a network once, for any number of cases; the weights are read at every call.

    The result, which has a `graph`, takes patches and reference masks, float32 of the shape [None, S, S, S, 1]. It is a
    concrete function: TensorFlow warns if a process makes several of the other kind, as training does for stages and
    their sets.
    """
    patches = tf.TensorSpec(shape, tf.float32)
    traced = tf.function(lambda patch, mask: network(patch, mask, training=False), autograph=False)
    return traced.get_concrete_function(patches, patches)


@dataclass(frozen=True)
class EpochResult:
    """What the network reached on the monitored set after an epoch.

    Attributes:
        loss: The stage's loss without the L2 term.
        dice: Mean of the cases' hard Dice, or None where the stage predicts no mask.
        accuracy: None where the stage does not classify, like the following two.
        auc: As `losses.auc_score`.
        classification_loss: Cross-entropy (eq. 1).
        sample: The set's first batch, or None in a process that has no case of the set.
        sample_mask: The soft mask predicted on it [N, S, S, S, 1], or None where the stage predicts no mask.
    """

    loss: float
    dice: float | None
    accuracy: float | None
    auc: float | None
    classification_loss: float | None
    sample: Batch | None
    sample_mask: np.ndarray | None

    def epoch_score(self, selected_by: str) -> EpochScore:
        """What selects the weights, by its name in the history; a loss with the opposite sign, so that it rises."""
        score: float | None = getattr(self, selected_by)
        if score is None:
            raise ValueError(f"the stage does not compute its {selected_by}")
        rising = -score if selected_by == "classification_loss" else score
        return EpochScore(-math.inf if math.isnan(rising) else rising, self.loss)


def build_monitor(
    model: keras.Model, stage: Stage, stream: CaseStream, protocol: TrainingProtocol, replicas: Replicas = ONE_REPLICA
) -> Callable[[], EpochResult]:
    """Build the pass over the monitored set for one stage. No set of masks is ever in memory.

    The model's weights are read at every call. All processes call what is returned; each predicts its part of the
    cases, and the result is the same in every process.
    """
    network = stage.network(model)
    infer = traced_inference(network, network.model.inputs[0].shape)
    start, stop = replicas.part(len(stream))
    batches = stream.in_order(protocol.batch_size, start, stop)

    def run() -> EpochResult:
        # For each case hard Dice, Dice loss and probabilities; 0 for the cases of other processes.
        values = np.zeros([len(stream), 2 + (network.classes or 0)])
        sample: tuple[Batch | None, np.ndarray | None] = (None, None)
        row = start
        for batch in read_batches(batches, stream):
            outputs = {name: output.numpy() for name, output in infer(batch.patch, batch.mask).items()}
            _enter(values[row : row + len(batch.label)], batch.mask.numpy(), outputs)
            row += len(batch.label)
            if sample[0] is None:
                sample = (batch, outputs.get("mask"))
        values = replicas.sum(values)
        dice = float(np.mean(values[:, 0])) if network.segments else None
        dice_loss, labels, probabilities = float(np.mean(values[:, 1])), stream.labels, values[:, 2:]
        if "probabilities" not in stage.losses:
            return EpochResult(dice_loss, dice, None, None, None, *sample)
        entropy = losses.cross_entropy(labels, probabilities)
        loss = losses.joint_loss(entropy, dice_loss, protocol.joint_weight) if "mask" in stage.losses else entropy
        scores = losses.accuracy_score(labels, probabilities), losses.auc_score(labels, probabilities)
        return EpochResult(loss, dice, *scores, entropy, *sample)

    return run


def _enter(rows: np.ndarray, reference: np.ndarray, outputs: dict[str, np.ndarray]) -> None:
    if "mask" in outputs:
        rows[:, 0] = losses.dice_score(reference, outputs["mask"])
        rows[:, 1] = losses.dice_loss(reference, outputs["mask"])
    if "probabilities" in outputs:
        rows[:, 2:] = outputs["probabilities"]
