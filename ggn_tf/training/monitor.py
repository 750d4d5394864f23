"""The monitored set after an epoch: losses and scores over whole sets, never batch averages."""

from collections.abc import Callable
from dataclasses import dataclass

import keras
import numpy as np

from ggn_tf.dataset.pipeline import Batch, CaseStream
from ggn_tf.protocol import TrainingProtocol
from ggn_tf.runs.stages import Network, Stage
from ggn_tf.training import metrics
from ggn_tf.training.distributed.replicas import ONE_REPLICA, Replicas
from ggn_tf.training.inference import traced_inference
from ggn_tf.training.losses import joint_loss
from ggn_tf.training.schedule import EpochScore


@dataclass(frozen=True)
class Monitored:
    """What the network reached on the monitored set.

    Attributes:
        loss: The stage's own, without the L2 term.
        dice: Mean hard Dice a case, or None where the stage makes no mask.
        accuracy: None where the stage does not classify.
        sample: The set's first batch, or None in a process that has no case of the set.
        sample_mask: The soft mask on it [N, S, S, S, 1], or None where the stage makes no mask.
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


def monitor_by(
    model: keras.Model, stage: Stage, stream: CaseStream, protocol: TrainingProtocol, replicas: Replicas = ONE_REPLICA
) -> Callable[[], Monitored]:
    """Build the pass over the monitored set for one stage; each process answers for its part of the cases.

    Args:
        model: The whole model; its weights are read at every call.
        stage: Which part runs, and which losses count.
        stream: The monitored cases.
        protocol: Batch size, lambda of eq. 4.
        replicas: Who trains; all processes call what is returned, and are told the same.
    """
    network = stage.network(model)
    infer = traced_inference(network, network.model.inputs[0].shape)
    # Rounded up: the chief, whose first batch is shown, has always some.
    start, stop = (-(-len(stream) * worker // replicas.workers) for worker in (replicas.worker, replicas.worker + 1))
    batches = stream.in_order(protocol.batch_size, start, stop)

    def run() -> Monitored:
        cases = _Cases(len(stream), network)
        sample: tuple[Batch, np.ndarray | None] | None = None
        row = start
        for batch in batches:
            outputs = {name: output.numpy() for name, output in infer(batch.patch, batch.mask).items()}
            cases.enter(row, batch.mask.numpy(), outputs)
            row += len(batch.label)
            sample = sample or (batch, outputs.get("mask"))
        cases.values = replicas.total(cases.values)
        return _monitored(stage, cases, stream.labels, protocol.joint_weight, sample or (None, None))

    return run


class _Cases:
    """What each case of the set comes to: Dice, eq. 2, probabilities. No set of masks is ever held.

    Attributes:
        values: float64 [cases, 2 + C]; 0 for cases that this process has not entered.
    """

    def __init__(self, cases: int, network: Network) -> None:
        self._segments = network.segments
        self.values = np.zeros([cases, 2 + (network.classes or 0)])

    def enter(self, row: int, reference: np.ndarray, outputs: dict[str, np.ndarray]) -> None:
        rows = self.values[row : row + len(reference)]
        if "mask" in outputs:
            rows[:, 0] = metrics.dice_score(reference, outputs["mask"])
            rows[:, 1] = metrics.dice_loss(reference, outputs["mask"])
        if "probabilities" in outputs:
            rows[:, 2:] = outputs["probabilities"]

    @property
    def dice(self) -> float | None:
        return float(np.mean(self.values[:, 0])) if self._segments else None

    @property
    def dice_loss(self) -> float:
        return float(np.mean(self.values[:, 1]))

    @property
    def probabilities(self) -> np.ndarray:
        return self.values[:, 2:]


def _monitored(
    stage: Stage,
    cases: _Cases,
    labels: np.ndarray,
    joint_weight: float,
    sample: tuple[Batch | None, np.ndarray | None],
) -> Monitored:
    if "probabilities" not in stage.losses:
        return Monitored(cases.dice_loss, cases.dice, None, *sample)
    entropy = metrics.cross_entropy(labels, cases.probabilities)
    loss = joint_loss(entropy, cases.dice_loss, joint_weight) if "mask" in stage.losses else entropy
    return Monitored(loss, cases.dice, metrics.accuracy_score(labels, cases.probabilities), *sample)
