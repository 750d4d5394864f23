"""One training step of a stage: forward, loss, gradients, Adam (paper section 3.2)."""

from collections.abc import Iterable, Sequence
from typing import Any

import keras
import tensorflow as tf

from ggn_tf.dataset.pipeline import Batch
from ggn_tf.models.fast.batch_layers import sum_over_replicas
from ggn_tf.models.named_layers import named_layers
from ggn_tf.protocol import TrainingProtocol
from ggn_tf.runs.stages import Stage, set_trainable
from ggn_tf.training.losses import DiceLoss, classification_loss, joint_loss
from ggn_tf.training.replicas import ONE_REPLICA, Replicas


class FusedAdam(keras.optimizers.Adam):
    """Keras's Adam with the same numbers and variables, but each step reads and writes every weight once.

    Keras's passes over a weight and its two moments a dozen times, each with one elementwise operation. TensorFlow's
    fused operation evaluates the same formula,

        m <- m + (1 - beta_1) (g - m),  v <- v + (1 - beta_2) (g^2 - v),
        w <- w - learning_rate sqrt(1 - beta_2^t) / (1 - beta_1^t) m / (sqrt(v) + epsilon).

    All but the learning rate has Keras's default. AMSGrad and Keras's preprocessing of gradients (clipping, for
    example) are not supported.
    """

    def __init__(self, learning_rate: float) -> None:
        super().__init__(learning_rate)

    def get_config(self) -> dict[str, Any]:
        """The constructor's arguments."""
        return {"learning_rate": super().get_config()["learning_rate"]}

    def apply(self, grads: Sequence[tf.Tensor], trainable_variables: Sequence[keras.Variable] | None = None) -> None:
        """Take a step with gradients of the whole batch, which Keras's own method would sum over the replicas again."""
        variables = self._trainable_variables if trainable_variables is None else trainable_variables
        for gradient, variable in zip(grads, variables, strict=True):
            self.update_step(gradient, variable.value, self.learning_rate)
        self.iterations.assign_add(1)

    def update_step(self, gradient: tf.Tensor, variable: tf.Variable, learning_rate: tf.Tensor) -> None:
        """Update one variable and its moments."""
        index = self._get_variable_index(variable)
        step = tf.cast(self.iterations + 1, variable.dtype)
        tf.raw_ops.ResourceApplyAdam(
            var=variable.handle,
            m=self._momentums[index].value.handle,
            v=self._velocities[index].value.handle,
            beta1_power=tf.cast(self.beta_1, variable.dtype) ** step,
            beta2_power=tf.cast(self.beta_2, variable.dtype) ** step,
            lr=tf.cast(learning_rate, variable.dtype),
            beta1=self.beta_1,
            beta2=self.beta_2,
            epsilon=self.epsilon,
            grad=gradient,
        )


class TrainStep:
    """A stage's training step, traced once. Freezes what the stage does not train, and the `frozen` layers."""

    def __init__(
        self,
        model: keras.Model,
        stage: Stage,
        protocol: TrainingProtocol,
        replicas: Replicas = ONE_REPLICA,
        frozen: Iterable[str] = (),
    ) -> None:
        set_trainable(model, stage)
        layers = named_layers(model)
        for name in frozen:
            layers[name].trainable = False
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
        """Take the step. Returns three averages over the batch, with the weights before the step.

        They are the stage's loss without the L2 term, cross-entropy, and Dice loss (0 where the stage has no such
        loss).
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
