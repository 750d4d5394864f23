"""The monitored set after an epoch: losses and scores over the whole set, never batch averages."""

from collections.abc import Callable
from dataclasses import dataclass

import keras
import numpy as np

from ggn_tf.dataset.pipeline import Batch, CaseStream
from ggn_tf.protocol import TrainingProtocol
from ggn_tf.runs.stages import Stage
from ggn_tf.training import metrics
from ggn_tf.training.inference import traced_inference
from ggn_tf.training.losses import joint_loss
from ggn_tf.training.replicas import ONE_REPLICA, Replicas
from ggn_tf.training.schedule import EpochScore


@dataclass(frozen=True)
class EpochResult:
    """What the network reached on the monitored set after an epoch.

    Attributes:
        loss: The stage's loss without the L2 term.
        dice: Mean of the cases' hard Dice, or None where the stage predicts no mask.
        accuracy: None where the stage does not classify.
        sample: The set's first batch, or None in a process that has no case of the set.
        sample_mask: The soft mask predicted on it [N, S, S, S, 1], or None where the stage predicts no mask.
    """

    loss: float
    dice: float | None
    accuracy: float | None
    sample: Batch | None
    sample_mask: np.ndarray | None

    def epoch_score(self, stage: Stage) -> EpochScore:
        """What selects the stage's weights."""
        score = self.dice if stage.monitored == "dice" else self.accuracy
        if score is None:
            raise ValueError(f"stage {stage.name} does not compute its {stage.monitored}")
        return EpochScore(score, self.loss)


def build_monitor(
    model: keras.Model, stage: Stage, stream: CaseStream, protocol: TrainingProtocol, replicas: Replicas = ONE_REPLICA
) -> Callable[[], EpochResult]:
    """Build the pass over the monitored set for one stage. No set of masks is ever in memory.

    Args:
        model: The whole model; its weights are read at every call.
        stage: Which part runs, and which losses count.
        stream: The monitored cases.
        protocol: Batch size, and lambda of eq. 4.
        replicas: Who trains. All processes call what is returned; each predicts its part of the cases.

    Returns:
        Computes the result, the same in every process.
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
        for batch in batches:
            outputs = {name: output.numpy() for name, output in infer(batch.patch, batch.mask).items()}
            _enter(values[row : row + len(batch.label)], batch.mask.numpy(), outputs)
            row += len(batch.label)
            if sample[0] is None:
                sample = (batch, outputs.get("mask"))
        values = replicas.sum(values)
        dice = float(np.mean(values[:, 0])) if network.segments else None
        loss, accuracy = _loss_and_accuracy(stage, values, stream.labels, protocol.joint_weight)
        return EpochResult(loss, dice, accuracy, *sample)

    return run


def _enter(rows: np.ndarray, reference: np.ndarray, outputs: dict[str, np.ndarray]) -> None:
    if "mask" in outputs:
        rows[:, 0] = metrics.dice_score(reference, outputs["mask"])
        rows[:, 1] = metrics.dice_loss(reference, outputs["mask"])
    if "probabilities" in outputs:
        rows[:, 2:] = outputs["probabilities"]


def _loss_and_accuracy(
    stage: Stage, values: np.ndarray, labels: np.ndarray, joint_weight: float
) -> tuple[float, float | None]:
    dice_loss, probabilities = float(np.mean(values[:, 1])), values[:, 2:]
    if "probabilities" not in stage.losses:
        return dice_loss, None
    entropy = metrics.cross_entropy(labels, probabilities)
    loss = joint_loss(entropy, dice_loss, joint_weight) if "mask" in stage.losses else entropy
    return loss, metrics.accuracy_score(labels, probabilities)
