"""The settings of a run: everything that decides its weights."""

from dataclasses import dataclass

from ggn_tf.protocol import Protocol
from ggn_tf.tasks import Task


@dataclass(frozen=True)
class RunDescription:
    """Everything that decides a run's weights; `run.json` contains it.

    Attributes:
        task: The grouping of labels into classes.
        model: `raw`, `reference`, `cascade` or `multitask` (Fig. 3).
        split: Number of the dataset's split.
        seed: Seed of the initial weights, the order of the cases, augmentation and dropout.
        precision: `float32` or `bfloat16`, as resolved.
        select_on: The set whose score selects the weights: `validation`, or `test` as in the paper.
        protocol: All numbers of the method.
        dataset_fingerprint: Fingerprint of the dataset's content.
    """

    task: Task
    model: str
    split: int
    seed: int
    precision: str
    select_on: str
    protocol: Protocol
    dataset_fingerprint: str
