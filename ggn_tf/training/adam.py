"""Adam with one fused operation per variable."""

from collections.abc import Sequence
from typing import Any

import keras
import tensorflow as tf


class FusedAdam(keras.optimizers.Adam):
    """Keras's Adam with the same numbers and variables, but each step reads and writes every weight once.

    Keras's passes over a weight and its two moments a dozen times, each with one elementwise operation. TensorFlow's
    fused operation evaluates the same formula,

        m <- m + (1 - beta_1) (g - m),  v <- v + (1 - beta_2) (g^2 - v),
        w <- w - learning_rate sqrt(1 - beta_2^t) / (1 - beta_1^t) m / (sqrt(v) + epsilon).

    AMSGrad and Keras's preprocessing of gradients (clipping, for example) are not supported.

    Args:
        learning_rate: The learning rate; all else has Keras's default.
    """

    def __init__(self, learning_rate: float) -> None:
        super().__init__(learning_rate)

    def get_config(self) -> dict[str, Any]:
        """The constructor's arguments."""
        return {"learning_rate": super().get_config()["learning_rate"]}

    def apply(self, grads: Sequence[tf.Tensor], trainable_variables: Sequence[keras.Variable] | None = None) -> None:
        """Take a step. If several replicas train, each updates its own copy.

        Args:
            grads: One per variable, of the whole batch: Keras's own method would sum them over the replicas again.
            trainable_variables: None for the variables that the optimizer was built with.
        """
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
