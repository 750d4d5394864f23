"""What was asked of a run: everything that decides its weights."""

import dataclasses
from dataclasses import dataclass
from typing import Any

from ggn_tf.json_records import from_json, to_json
from ggn_tf.protocol import Protocol
from ggn_tf.tasks import Task


@dataclass(frozen=True)
class RunDescription:
    """Everything that decides a run's weights.

    Attributes:
        task: The grouping of labels into classes.
        model: `raw`, `reference`, `cascade` or `multitask` (Fig. 3).
        split: Number of the dataset's split.
        seed: Of the initial weights, the order of the cases, augmentation and dropout.
        precision: `float32` or `bfloat16`, as resolved.
        select_on: The set whose score selects the weights: `validation`, or `test` as the paper did.
        protocol: All numbers.
        dataset_fingerprint: Of the dataset's content.
    """

    task: Task
    model: str
    split: int
    seed: int
    precision: str
    select_on: str
    protocol: Protocol
    dataset_fingerprint: str

    def to_dict(self) -> dict[str, Any]:
        """As JSON types."""
        parts = {part.name: getattr(self, part.name) for part in dataclasses.fields(self)}
        return {**parts, "task": str(self.task), "protocol": to_json(self.protocol)}

    @classmethod
    def from_dict(cls, stored: dict[str, Any]) -> "RunDescription":
        """Read what `to_dict` wrote."""
        names = [part.name for part in dataclasses.fields(cls)]
        parts = {name: stored[name] for name in names}
        return cls(**{**parts, "task": Task.parse(parts["task"]), "protocol": from_json(Protocol, parts["protocol"])})
