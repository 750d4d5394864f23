"""The fused Adam and the L2 term against Keras's own."""

import dataclasses

import keras
import numpy as np
import pytest
import tensorflow as tf

from ggn_tf.dataset.pipeline import Batch
from ggn_tf.models.systems import build_multitask
from ggn_tf.protocol import CnnProtocol, Protocol, UnetProtocol
from ggn_tf.runs.stages import MULTITASK
from ggn_tf.training.step import FusedAdam, TrainStep


def test_ten_steps_equal_kerass():
    generator = np.random.default_rng(0)
    start = [generator.normal(size=shape).astype("float32") for shape in [(3, 4), (5,)]]
    weights = {kind: [keras.Variable(array) for array in start] for kind in (FusedAdam, keras.optimizers.Adam)}
    optimizers = {kind: kind(3e-3) for kind in weights}
    for kind, optimizer in optimizers.items():
        optimizer.build(weights[kind])
    for step in range(10):
        gradients = [tf.constant(generator.normal(size=array.shape), tf.float32) for array in start]
        for optimizer in optimizers.values():
            optimizer.learning_rate.assign(3e-3 / (1 + step))
            tf.function(optimizer.apply)(gradients)
    fused, stock = (optimizers[kind].variables + weights[kind] for kind in (FusedAdam, keras.optimizers.Adam))
    for a, b in zip(fused, stock, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-7, err_msg=b.path)


def test_its_variables_are_kerass():
    variable = keras.Variable(np.ones(3))
    fused, stock = FusedAdam(1e-3), keras.optimizers.Adam(1e-3)
    for optimizer in (fused, stock):
        optimizer.build([variable])
    assert [v.name for v in fused.variables] == [v.name for v in stock.variables]


def test_its_configuration_builds_an_equal_one():
    config = FusedAdam(3e-3).get_config()
    assert config == {"learning_rate": pytest.approx(3e-3)}
    assert FusedAdam.from_config(config).get_config() == config


def first_momenta(l2):
    """Adam's first moments after a step, and the weights before it, by the path of the variable."""
    paper = Protocol()
    protocol = dataclasses.replace(
        paper,
        unet=UnetProtocol((2,) * 8, (2,) * 6),
        cnn=CnnProtocol(fc_units=(4,), dropout=0.0),
        training=dataclasses.replace(paper.training, l2=l2),
    )
    model = build_multitask(2, protocol)
    weights = {variable.path: variable.numpy() for variable in model.trainable_variables}
    step = TrainStep(model, MULTITASK, protocol.training)
    patch = tf.constant(np.random.default_rng(1).uniform(-1, 1, (2, 32, 32, 32, 1)), tf.float32)
    step(Batch(patch, tf.cast(patch > 0.5, tf.float32), tf.constant([0, 1])))
    momenta = [variable.numpy() for variable in step.optimizer.variables if variable.path.endswith("momentum")]
    return weights, dict(zip(weights, momenta, strict=True))


def test_each_kernel_is_drawn_to_zero_by_the_l2_term():
    # d/dw l2 sum(w^2) = 2 l2 w, of which the first moment takes 1 - beta_1.
    l2 = 50.0
    weights, momenta = first_momenta(l2)
    _, without = first_momenta(0.0)
    for path, weight in weights.items():
        expected = 0.1 * 2 * l2 * weight if path.endswith("kernel") else np.zeros_like(weight)
        np.testing.assert_allclose(momenta[path] - without[path], expected, rtol=1e-3, atol=2e-2, err_msg=path)
