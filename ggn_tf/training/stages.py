"""The stages of training as data: what moves, by which loss, and which score selects the weights (Fig. 3)."""

from dataclasses import dataclass
from typing import Literal

import keras

from ggn_tf.errors import RunError
from ggn_tf.protocol import StageProtocol, TrainingProtocol


@dataclass(frozen=True)
class Stage:
    """One stage of training.

    Attributes:
        name: Also the name of its numbers in `TrainingProtocol`.
        trains: The sub-models whose weights and batch-norm statistics move; the others stand still.
        losses: Which of eq. 2 (`mask`) and eq. 1 (`probabilities`) are minimised; both together are eq. 4.
        monitored: The score that selects the weights.
    """

    name: Literal["segment", "classify", "joint"]
    trains: tuple[str, ...]
    losses: tuple[str, ...]
    monitored: Literal["dice", "accuracy"]

    def numbers(self, protocol: TrainingProtocol) -> StageProtocol:
        """This stage's learning rate, length and schedule."""
        numbers: StageProtocol = getattr(protocol, self.name)
        return numbers

    def network(self, model: keras.Model) -> keras.Model:
        """The part of the model that this stage runs: without the classifier where only the mask counts."""
        return model if "probabilities" in self.losses else model.get_layer("segmentation")


SEGMENT = Stage("segment", ("segmentation",), ("mask",), "dice")
CLASSIFY = Stage("classify", ("classification",), ("probabilities",), "accuracy")
JOINT = Stage("joint", ("segmentation", "classification"), ("mask", "probabilities"), "accuracy")

STAGES: dict[str, tuple[Stage, ...]] = {"cascade": (SEGMENT, CLASSIFY, JOINT)}


def stages_up_to(model: str, last: str) -> tuple[Stage, ...]:
    """The stages that a model passes through, in order, up to the named one.

    Raises:
        RunError: The model has no such stage.
    """
    stages = STAGES[model]
    names = [stage.name for stage in stages]
    if last not in names:
        raise RunError(
            f"The model {model} has no stage {last}.",
            found=last,
            expected=" or ".join(names),
            remedy=f"Name one of its stages: --stage {names[-1]}.",
        )
    return stages[: [str(name) for name in names].index(last) + 1]


def set_trainable(model: keras.Model, stage: Stage) -> None:
    """Freeze every sub-model but those that the stage trains.

    A function traced before this call keeps what it was traced with: trace anew afterwards.
    """
    for part in ("segmentation", "classification"):
        model.get_layer(part).trainable = part in stage.trains
