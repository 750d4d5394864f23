"""Batch normalisation in one fused operation."""

from typing import Any

import keras
import tensorflow as tf

from ggn_tf.models.fast.batch_share import current_share, sum_over_replicas

# TensorFlow's fused operation silently replaces a smaller epsilon by this one.
_LEAST_EPSILON = 1.001e-5


@keras.saving.register_keras_serializable(package="ggn_tf")
class BatchNormalization(keras.layers.BatchNormalization):
    """Keras's batch normalisation with its weights, statistics and class name, but computed by one fused operation.

    Keras normalises maps with more than two spatial axes by a mean, a variance and elementwise operations, each of
    which reads the whole map. The statistics do not depend on the order of the voxels, so the map is a [N, V, 1, C]
    image to the fused operation, in bfloat16 too, with float32 statistics.

    Two corrections make the moving statistics those of Keras's layer. The fused operation returns the unbiased
    variance, n/(n-1) times the one that Keras keeps; it is multiplied back. And the bias of the preceding convolution,
    which shifts the map and its mean alike, is not added to the map at all: in training it cancels, so its gradient
    is exactly 0, and only the moving mean sees it; in inference it moves the offset by bias * gamma / sqrt(variance +
    epsilon).

    Where several replicas share a batch, its statistics are gathered over all of them, so that the result is that of
    one device.

    Renormalisation, masks, synchronised replicas, another axis than the last, types other than floats of at most 32
    bits and an epsilon below 1.001e-5 use Keras's implementation, which sees a replica's share only.

    Args:
        activation: Applied to the result, so that it can be fused: None or `relu`.
        **config: As Keras's layer.
    """

    def __init__(self, *, activation: str | None = None, **config: Any) -> None:
        super().__init__(**config)
        # The preceding bias is float32; Keras would round it to the compute type.
        self.autocast = False
        self.activation = keras.activations.get(activation)

    def call(
        self,
        inputs: tf.Tensor,
        bias: tf.Tensor | None = None,
        training: bool | None = None,
        mask: tf.Tensor | None = None,
    ) -> tf.Tensor:
        """Normalise a map.

        Args:
            inputs: [N, ..., C].
            bias: float32 [C], to be understood as added to the map.
            training: By the batch's statistics, and move the moving ones; else by the moving ones. A layer that is not
                trainable does the latter always.
            mask: As Keras's layer.
        """
        x = tf.cast(inputs, self.compute_dtype)
        if not self._is_fusable(x, mask):
            shifted = x if bias is None else x + tf.cast(bias, x.dtype)
            return self.activation(super().call(shifted, training=training, mask=mask))
        gamma = tf.convert_to_tensor(self.gamma) if self.scale else tf.ones_like(self.moving_mean)
        beta = tf.convert_to_tensor(self.beta) if self.center else tf.zeros_like(self.moving_mean)
        bias = tf.zeros_like(beta) if bias is None else bias
        by_batch = self._by_batch if current_share() is None else self._by_shared_batch
        normalise = by_batch if training and self.trainable else self._normalise_by_moving_statistics
        image = tf.reshape(x, [tf.shape(x)[0], -1, 1, x.shape[-1]])
        result = self.activation(normalise(image, gamma, beta, bias))
        return tf.ensure_shape(tf.reshape(result, tf.shape(x)), x.shape)

    def get_config(self) -> dict[str, Any]:
        """What the constructor needs to build an equal layer."""
        return {**super().get_config(), "activation": keras.activations.serialize(self.activation)}

    def _by_batch(self, image: tf.Tensor, gamma: tf.Tensor, beta: tf.Tensor, bias: tf.Tensor) -> tf.Tensor:
        result, mean, variance = tf.compat.v1.nn.fused_batch_norm(
            image, gamma, _with_zero_gradient(beta, bias), epsilon=self.epsilon, is_training=True
        )
        count = tf.cast(tf.size(image) // image.shape[-1], variance.dtype)
        self._remember(mean + bias, variance * tf.maximum(count - 1, 1) / count)
        return result

    def _by_shared_batch(self, image: tf.Tensor, gamma: tf.Tensor, beta: tf.Tensor, bias: tf.Tensor) -> tf.Tensor:
        x = tf.cast(image, gamma.dtype)
        mean, variance = _moments_over_replicas(x)
        self._remember(mean + bias, variance)
        offset = _with_zero_gradient(beta, bias)
        return tf.cast(tf.nn.batch_normalization(x, mean, variance, offset, gamma, self.epsilon), image.dtype)

    def _remember(self, mean: tf.Tensor, variance: tf.Tensor) -> None:
        for moving, value in ((self.moving_mean, mean), (self.moving_variance, variance)):
            moving.assign(moving * self.momentum + tf.stop_gradient(value) * (1.0 - self.momentum))

    def _normalise_by_moving_statistics(
        self, image: tf.Tensor, gamma: tf.Tensor, beta: tf.Tensor, bias: tf.Tensor
    ) -> tf.Tensor:
        mean, variance = tf.convert_to_tensor(self.moving_mean), tf.convert_to_tensor(self.moving_variance)
        offset = beta + bias * gamma * tf.math.rsqrt(variance + self.epsilon)
        return tf.compat.v1.nn.fused_batch_norm(
            image, gamma, offset, mean=mean, variance=variance, epsilon=self.epsilon, is_training=False
        )[0]

    def _is_fusable(self, x: tf.Tensor, mask: tf.Tensor | None) -> bool:
        return (
            mask is None
            and not self.renorm
            and not self.synchronized
            and self.axis in (-1, x.shape.rank - 1)
            and x.shape[-1] is not None
            and self.epsilon >= _LEAST_EPSILON
            and x.dtype in (tf.float32, tf.bfloat16, tf.float16)
        )


def _moments_over_replicas(x: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
    """Mean and variance of each channel of [N, V, 1, C] over the shares of all replicas.

    Each replica's moments are exact. Their sums are a few numbers per channel, in float64 because the variance is then
    a difference of two large numbers.
    """
    mean, variance = tf.nn.moments(x, [0, 1, 2])
    mean, variance = tf.cast(mean, tf.float64), tf.cast(variance, tf.float64)
    count = tf.cast(tf.size(x) // x.shape[-1], tf.float64)
    sums = sum_over_replicas([count * tf.stack([tf.ones_like(mean), mean, variance + tf.square(mean)])])[0]
    whole_mean, whole_square = sums[1] / sums[0], sums[2] / sums[0]
    return tf.cast(whole_mean, x.dtype), tf.cast(whole_square - tf.square(whole_mean), x.dtype)


@tf.custom_gradient
def _with_zero_gradient(x: tf.Tensor, unused: tf.Tensor) -> tuple[tf.Tensor, Any]:
    """The first tensor; the second gets the gradient 0, not None, which an optimizer would warn about."""
    return x, lambda upstream: (upstream, tf.zeros_like(unused))
