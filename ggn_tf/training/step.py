"""One training step of a stage: forward, loss, gradients, Adam (paper section 3.2)."""

import keras
import tensorflow as tf

from ggn_tf.dataset.pipeline import Batch
from ggn_tf.models.fast.batch_share import sum_over_replicas
from ggn_tf.protocol import TrainingProtocol
from ggn_tf.runs.stages import Stage, set_trainable
from ggn_tf.training.adam import FusedAdam
from ggn_tf.training.losses import DiceLoss, classification_loss, joint_loss
from ggn_tf.training.replicas import ONE_REPLICA, Replicas


class TrainStep:
    """A stage's training step, traced once. Freezes the parts of the model that the stage does not train.

    Args:
        model: The whole model.
        stage: Which parts are trained, by which losses.
        protocol: Learning rate, and lambda of eq. 4.
        replicas: Who trains.

    Attributes:
        optimizer: Adam, with moments for every trainable variable.
    """

    def __init__(
        self, model: keras.Model, stage: Stage, protocol: TrainingProtocol, replicas: Replicas = ONE_REPLICA
    ) -> None:
        set_trainable(model, stage)
        self._network = stage.network(model)
        self._losses = stage.losses
        self._joint_weight = protocol.joint_weight if len(stage.losses) == 2 else 1.0
        # One value per case: Keras's averages are over a replica's share, and divided by the number of replicas.
        self._dice_loss, self._classification_loss = DiceLoss(reduction=None), classification_loss(reduction=None)
        with replicas.scope():
            self.optimizer = FusedAdam(stage.numbers(protocol).learning_rate)
            self.optimizer.build(self._network.model.trainable_variables)
        self._traced = replicas.traced(self._step)

    def __call__(self, batch: Batch) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
        """Take the step.

        Args:
            batch: As the replicas' `epoch` yields it.

        Returns:
            Three scalars, averaged over the batch, with the weights before the step: the stage's loss without the L2
            term, cross-entropy, and Dice loss (0 where the stage has no such loss).
        """
        return self._traced(batch)

    def _step(self, batch: Batch) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
        zero = tf.constant(0.0)
        with tf.GradientTape() as tape:
            outputs = self._network(batch.patch, batch.mask, training=True)
            dice = _mean(self._dice_loss(batch.mask, outputs["mask"])) if "mask" in self._losses else zero
            classifies = "probabilities" in self._losses
            entropy = _mean(self._classification_loss(batch.label, outputs["probabilities"])) if classifies else zero
            loss = joint_loss(entropy, dice, self._joint_weight)
        variables = self._network.model.trainable_variables
        gradients = sum_over_replicas(tape.gradient(loss, variables))
        self.optimizer.apply(list(map(_with_l2, gradients, variables)), variables)
        loss, entropy, dice = sum_over_replicas([loss, entropy, dice])
        return loss, entropy, dice


def _mean(values: tf.Tensor) -> tf.Tensor:
    """The mean over the batch, or what the cases of a share contribute to that mean."""
    cases = tf.cast(tf.size(values), tf.float32)
    return tf.reduce_sum(values) / sum_over_replicas([cases])[0]


def _with_l2(gradient: tf.Tensor, variable: keras.Variable) -> tf.Tensor:
    # The gradient of the term l2 * sum(w^2). The sum itself is not computed, as nothing uses it.
    regularizer = variable.regularizer
    return gradient if regularizer is None else gradient + 2.0 * float(regularizer.l2) * variable
