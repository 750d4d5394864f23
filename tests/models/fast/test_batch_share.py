"""The layers that look beyond a single case, on a share of a batch: what they do on the whole of it."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from ggn_tf.models import fast as layers
from ggn_tf.models.fast.batch_layers import BatchShare, current_share, in_share, sum_over_replicas

# TensorFlow's default strategy has one replica: sums over it are its own values, so one share can be the whole batch.
WHOLE = BatchShare(tf.constant(0), tf.constant(6))
MAP = np.random.default_rng(0).normal(3, 2, (6, 4, 4, 4, 5)).astype("float32")


def share(start, whole):
    return BatchShare(tf.constant(start), tf.constant(whole))


def test_a_map_is_the_whole_batch_unless_said_otherwise():
    assert current_share() is None
    with in_share(WHOLE):
        assert current_share() is WHOLE
    assert current_share() is None


def test_what_is_whole_is_not_summed():
    assert sum_over_replicas(["untouched"]) == ["untouched"]


@pytest.mark.parametrize("shares", [1, 2, 4, 6])
def test_shares_drop_together_what_one_device_drops(shares):
    maps = tf.constant(np.random.default_rng(1).normal(size=(6, 40)), tf.float32)
    whole = layers.Dropout(0.5, seed=3)(maps, training=True)
    parts = []
    for index in range(shares):
        start, stop = 6 * index // shares, 6 * (index + 1) // shares
        with in_share(share(start, 6)):
            # Every replica's own copy of the layer: its generator is in the state of the others'.
            parts.append(layers.Dropout(0.5, seed=3)(maps[start:stop], training=True))
    np.testing.assert_array_equal(tf.concat(parts, 0), whole)
    assert 0 < np.mean(np.asarray(whole) == 0) < 1


def test_dropout_of_a_share_moves_its_generator_as_ever():
    ours, keras_own = layers.Dropout(0.5, seed=3), keras.layers.Dropout(0.5, seed=3)
    with in_share(share(0, 2)):
        first, second = (ours(tf.ones([2, 40]), training=True) for _ in range(2))
    keras_own(tf.ones([2, 40]), training=True)
    np.testing.assert_array_equal(second, keras_own(tf.ones([2, 40]), training=True))
    assert not np.array_equal(first, second)


def test_nothing_drops_in_inference():
    with in_share(share(0, 2)):
        np.testing.assert_array_equal(layers.Dropout(0.5)(tf.ones([2, 8]), training=False), np.ones([2, 8]))


@pytest.mark.parametrize("bias", [None, 0.5])
def test_batch_normalisation_over_shares_is_the_fused_one(bias):
    """Forward, gradients and moving statistics of the two ways to compute one function."""
    results = []
    for shared in (False, True):
        layer = layers.BatchNormalization(momentum=0.9, activation="relu")
        layer.build(MAP.shape)
        layer.gamma.assign(np.linspace(0.5, 2, 5))
        layer.beta.assign(np.linspace(-1, 1, 5))
        x, shift = tf.constant(MAP), None if bias is None else tf.fill([5], bias)
        with tf.GradientTape() as tape:
            tape.watch(x)
            if shared:
                with in_share(WHOLE):
                    result = layer(x, bias=shift, training=True)
            else:
                result = layer(x, bias=shift, training=True)
            loss = tf.reduce_sum(result * tf.sin(x))
        gradients = tape.gradient(loss, [x, layer.gamma.value, layer.beta.value])
        results.append([result, *gradients, layer.moving_mean.numpy(), layer.moving_variance.numpy()])
    for fused, over_shares in zip(*results, strict=True):
        np.testing.assert_allclose(over_shares, fused, rtol=2e-5, atol=2e-5)


def test_a_frozen_layer_takes_its_history_in_a_share_too():
    layer = layers.BatchNormalization()
    layer.build(MAP.shape)
    layer.trainable = False
    with in_share(WHOLE):
        result = layer(tf.constant(MAP), training=True)
    np.testing.assert_allclose(result, MAP / np.sqrt(1 + layer.epsilon), rtol=1e-5)
    np.testing.assert_array_equal(layer.moving_mean.numpy(), np.zeros(5))
