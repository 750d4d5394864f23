"""The stages of training as data: what is trained, by which loss, and what selects the weights (Fig. 3).

Reading them does not import TensorFlow.
"""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from ggn_tf.errors import RunError
from ggn_tf.models import names
from ggn_tf.protocol import StageProtocol, TrainingProtocol

if TYPE_CHECKING:
    import keras
    import tensorflow as tf


@dataclass(frozen=True)
class Stage:
    """One stage of training.

    Attributes:
        name: Also the name of its numbers in `TrainingProtocol`.
        trains: The parts of the model whose weights and batch-norm statistics change; the others are frozen.
        losses: Which of eq. 2 (`mask`) and eq. 1 (`probabilities`) are minimised; both together are eq. 4.
    """

    name: Literal["segment", "classify", "joint"]
    trains: tuple[str, ...]
    losses: tuple[str, ...]

    def selected_by(self, protocol: TrainingProtocol) -> Literal["dice", "accuracy", "auc", "classification_loss"]:
        """What selects this stage's weights on the monitored set, by its name in the history."""
        if "probabilities" not in self.losses:
            return "dice"
        return "classification_loss" if protocol.select_by == "loss" else protocol.select_by

    def numbers(self, protocol: TrainingProtocol) -> StageProtocol:
        """This stage's learning rate, length and schedule."""
        numbers: StageProtocol = getattr(protocol, self.name)
        return numbers

    def network(self, model: "keras.Model") -> "Network":
        """The part of the model that this stage runs: the segmenter alone where only the mask counts."""
        return Network(model if "probabilities" in self.losses else model.get_layer(names.SEGMENTATION))


class Network:
    """A model, or its segmenter alone, with one way to call it, whatever its inputs and outputs are."""

    def __init__(self, model: "keras.Model") -> None:
        self.model = model

    @property
    def classes(self) -> int | None:
        """Number of classes, or None if it does not classify."""
        output = self.model.output
        return output["probabilities"].shape[-1] if isinstance(output, dict) and "probabilities" in output else None

    @property
    def segments(self) -> bool:
        """Whether it predicts a mask."""
        output = self.model.output
        return not isinstance(output, dict) or "mask" in output

    def __call__(self, patch: "tf.Tensor", reference: "tf.Tensor", *, training: bool) -> "dict[str, tf.Tensor]":
        """Run the network on patches in [-1, 1], float32 [N, S, S, S, 1].

        The expert's mask has the same shape; only the model `reference` uses it. In training dropout is on and batch
        normalisation uses the batch's statistics.

        Returns:
            `mask` [N, S, S, S, 1] if the network segments, `probabilities` [N, C] if it classifies.
        """
        wants_mask = len(self.model.inputs) == 2
        outputs = self.model({"patch": patch, "mask": reference} if wants_mask else patch, training=training)
        return outputs if isinstance(outputs, dict) else {"mask": outputs}


SEGMENT = Stage("segment", (names.SEGMENTATION,), ("mask",))
CLASSIFY = Stage("classify", (names.CLASSIFICATION,), ("probabilities",))
JOINT = Stage("joint", (names.SEGMENTATION, names.CLASSIFICATION), ("mask", "probabilities"))

# An ablation: the classifier trains on for as long behind the frozen U-Net.
_JOINT_FROZEN = Stage("joint", CLASSIFY.trains, CLASSIFY.losses)

# The paper gives no numbers for the multi-task model: it is trained from scratch, like a classifier.
MULTITASK = Stage("classify", (names.MULTITASK,), ("mask", "probabilities"))

STAGES: dict[str, tuple[Stage, ...]] = {
    names.RAW: (CLASSIFY,),
    names.REFERENCE: (CLASSIFY,),
    names.CASCADE: (SEGMENT, CLASSIFY, JOINT),
    names.MULTITASK: (MULTITASK,),
}
"""The models that can be trained, and the stages of each."""

STAGE_NAMES = tuple(stage.name for stage in STAGES[names.CASCADE])
"""The stages of the cascade, for which a training has numbers of its own."""


def stages_up_to(model: str, last: str | None) -> tuple[Stage, ...]:
    """The stages of a model in order, up to the named one; all of them if none is named.

    Raises:
        RunError: The model has no such stage.
    """
    stages = STAGES[model]
    if last is None:
        return stages
    names = [stage.name for stage in stages]
    if last not in names:
        raise RunError(
            f"The model {model} has no stage {last}.",
            found=last,
            expected=" or ".join(names),
            remedy="Name one of its stages.",
            arguments=("stage",),
        )
    return stages[: [str(name) for name in names].index(last) + 1]


def trained_stages(model: str, last: str | None, protocol: TrainingProtocol) -> tuple[Stage, ...]:
    """As `stages_up_to`, with what the protocol trains in stage joint."""
    stages = stages_up_to(model, last)
    return stages if protocol.joint_trains_unet else tuple(_JOINT_FROZEN if each == JOINT else each for each in stages)


def set_trainable(model: "keras.Model", stage: Stage) -> None:
    """Freeze every part of the model except those that the stage trains.

    A function traced before this call keeps the former state: trace it again afterwards.
    """
    for name, part in parts_of(model).items():
        part.trainable = name in stage.trains


def parts_of(model: "keras.Model") -> "dict[str, keras.Model]":
    """The parts that stages train or freeze, by name: the cascade's two sub-models, the whole multi-task model."""
    names = dict.fromkeys(name for stage in STAGES[model.name] for name in stage.trains)
    return {name: model if name == model.name else model.get_layer(name) for name in names}
