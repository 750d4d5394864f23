"""The monitored set after an epoch: losses and scores over whole sets, never batch averages."""

from collections.abc import Callable
from dataclasses import dataclass

import keras
import numpy as np
import tensorflow as tf

from ggn_tf.dataset.pipeline import Batch
from ggn_tf.training import metrics
from ggn_tf.training.losses import joint_loss
from ggn_tf.training.schedule import EpochScore
from ggn_tf.training.stages import Stage


@dataclass(frozen=True)
class Monitored:
    """What the network reached on the monitored set.

    Attributes:
        loss: The stage's own, without the L2 term.
        dice: Mean hard Dice a case, or None where the stage makes no mask.
        accuracy: None where the stage does not classify.
        sample: The set's first batch.
        sample_mask: The soft mask on it [N, S, S, S, 1], or None where the stage makes no mask.
    """

    loss: float
    dice: float | None
    accuracy: float | None
    sample: Batch
    sample_mask: np.ndarray | None

    def epoch_score(self, stage: Stage) -> EpochScore:
        """What selects the stage's weights."""
        score = self.dice if stage.monitored == "dice" else self.accuracy
        if score is None:
            raise ValueError(f"stage {stage.name} does not compute its {stage.monitored}")
        return EpochScore(score, self.loss)


def monitor_by(
    model: keras.Model, stage: Stage, batches: tf.data.Dataset, joint_weight: float
) -> Callable[[], Monitored]:
    """Build the pass over the monitored set for one stage.

    Args:
        model: The whole model; its weights are read at every call.
        stage: Which part runs, and which losses count.
        batches: Of `Batch`, in order, not augmented.
        joint_weight: Lambda of eq. 4.
    """
    network = stage.network(model)
    infer = tf.function(lambda patch, mask: network(patch, mask, training=False), reduce_retracing=True)

    def run() -> Monitored:
        masks, answers, labels = _Masks(), [], []
        samples: list[tuple[Batch, np.ndarray | None]] = []
        for batch in batches:
            outputs = {name: output.numpy() for name, output in infer(batch.patch, batch.mask).items()}
            mask = outputs.get("mask")
            if mask is not None:
                masks.add(batch.mask.numpy(), mask)
            labels.append(batch.label.numpy())
            answers.append(outputs.get("probabilities"))
            samples = samples or [(batch, mask)]
        return _monitored(stage, masks, np.concatenate(labels), answers, joint_weight, samples[0])

    return run


class _Masks:
    """Dice and eq. 2 of every case, gathered batch by batch so that no set of masks is ever held."""

    def __init__(self) -> None:
        self.dice: list[np.ndarray] = []
        self.losses: list[tuple[float, int]] = []

    def add(self, reference: np.ndarray, predicted: np.ndarray) -> None:
        self.dice.append(metrics.dice_score(reference, predicted))
        self.losses.append((metrics.dice_loss(reference, predicted), len(reference)))

    def loss(self) -> float:
        return sum(loss * cases for loss, cases in self.losses) / sum(cases for _, cases in self.losses)


def _monitored(
    stage: Stage,
    masks: _Masks,
    labels: np.ndarray,
    answers: list[np.ndarray | None],
    joint_weight: float,
    first: tuple[Batch, np.ndarray | None],
) -> Monitored:
    dice = float(np.mean(np.concatenate(masks.dice))) if masks.dice else None
    if "probabilities" not in stage.losses:
        return Monitored(masks.loss(), dice, None, *first)
    probabilities = np.concatenate([answer for answer in answers if answer is not None])
    entropy = metrics.cross_entropy(labels, probabilities)
    loss = joint_loss(entropy, masks.loss(), joint_weight) if "mask" in stage.losses else entropy
    return Monitored(loss, dice, metrics.accuracy_score(labels, probabilities), *first)
