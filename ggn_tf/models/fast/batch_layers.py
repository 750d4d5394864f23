"""Batch normalisation in one fused operation, and dropout, which look beyond a single case.

Several devices can share a batch (tf.distribute). The training loop states by `in_share` which rows a replica
has; the layers then compute what they would on the whole batch. Outside `in_share`, a map is the whole batch.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any, NamedTuple

import keras
import tensorflow as tf


class BatchShare(NamedTuple):
    """The rows of a batch that a replica has: from `start`, as many as its maps have, of `whole`; int32 [] both."""

    start: tf.Tensor
    whole: tf.Tensor


_CURRENT: ContextVar[BatchShare | None] = ContextVar("share", default=None)


@contextmanager
def in_share(share: BatchShare) -> Iterator[None]:
    """Treat maps as this share of a batch within the block, which runs in a replica's context."""
    token = _CURRENT.set(share)
    try:
        yield
    finally:
        _CURRENT.reset(token)


def current_share() -> BatchShare | None:
    """The current share; None where maps are the whole batch."""
    return _CURRENT.get()


def sum_over_replicas(values: Sequence[tf.Tensor]) -> list[tf.Tensor]:
    """Every value's sum over all replicas, and of its gradient; unchanged where maps are the whole batch."""
    if current_share() is None:
        return list(values)
    total = tf.distribute.get_replica_context().all_reduce(tf.distribute.ReduceOp.SUM, list(values))
    return list(total)


@keras.saving.register_keras_serializable(package="ggn_tf")
class Dropout(keras.layers.Dropout):
    """Keras's dropout. A replica with a share of a batch draws for the whole batch and takes its own rows.

    All replicas' generators have the same state, so together they drop what one device would drop.
    """

    def call(self, inputs: tf.Tensor, training: bool = False) -> tf.Tensor:
        """Drop inputs [N, C] at random, in training."""
        share = current_share()
        if share is None or not training or self.rate == 0:
            return super().call(inputs, training=training)
        whole = tf.ones([share.whole, inputs.shape[-1]], inputs.dtype)
        scale = keras.random.dropout(whole, self.rate, seed=self.seed_generator)
        return inputs * scale[share.start : share.start + tf.shape(inputs)[0]]


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
        """Normalise a map [N, ..., C], to which the bias, float32 [C], is to be understood as added.

        In training it is normalised by the batch's statistics, which move the moving ones; else, and always where the
        layer is not trainable, by the moving ones.
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
