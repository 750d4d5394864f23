"""The fast networks against the same networks of stock Keras layers."""

import dataclasses
from itertools import product

import keras
import numpy as np
import pytest
import tensorflow as tf

from ggn_tf.models.cnn import build_cnn
from ggn_tf.models.systems import build_cascade, build_multitask
from ggn_tf.models.unet import build_unet
from ggn_tf.protocol import PatchProtocol, Protocol

BUILDERS = {
    "cnn": lambda protocol, **options: build_cnn(3, protocol, **options),
    "unet": build_unet,
    "cascade": lambda protocol, **options: build_cascade(3, protocol, **options),
    "multitask": lambda protocol, **options: build_multitask(3, protocol, **options),
}
# They contain the others.
WHOLE = ["cascade", "multitask"]


def stock_and_fast(network, protocol, **options):
    """Both forms with the same weights, none of them at its initial special value, and without dropout."""
    protocol = dataclasses.replace(protocol, cnn=dataclasses.replace(protocol.cnn, dropout=0.0))
    stock = BUILDERS[network](protocol, stock=True, **options)
    fast = BUILDERS[network](protocol, **options)
    generator = np.random.default_rng(2)
    for variable in stock.variables:
        if variable.name in ("gamma", "moving_variance"):
            variable.assign(generator.uniform(0.5, 1.5, variable.shape))
        elif variable.name in ("beta", "bias", "moving_mean"):
            variable.assign(variable + 0.2 * generator.normal(size=variable.shape))
    fast.set_weights(stock.get_weights())
    return stock, fast


class _AveragePool(keras.layers.Layer):
    """Average pooling of scale 2 in any type; TensorFlow's has no float64 on a CPU."""

    def call(self, inputs):
        for axis in (1, 2, 3):
            even, odd = (tf.gather(inputs, range(first, inputs.shape[axis], 2), axis=axis) for first in (0, 1))
            inputs = (even + odd) / 2
        return inputs


def smoothed(model, dtype=None):
    """The network with softplus for ReLU and average for maximum pooling, its rewrites untouched.

    The jumps of ReLU's and max-pooling's gradients turn a difference in the last bit into one of a percent, so that no
    two float32 computations have equal gradients; smoothed, they have, and TensorFlow can compute them in float64.
    """

    def clone(layer):
        if not isinstance(layer, keras.layers.Layer):
            return layer
        config = {**layer.get_config(), **({"dtype": dtype} if dtype else {})}
        if isinstance(layer, keras.layers.ReLU):
            return keras.layers.Activation("softplus", name=layer.name, dtype=config["dtype"])
        if isinstance(layer, keras.layers.MaxPooling3D):
            return _AveragePool(name=layer.name, dtype=config["dtype"])
        if config.get("activation") == "relu":
            config["activation"] = "softplus"
        return type(layer).from_config(config)

    smooth = keras.models.clone_model(model, clone_function=clone, recursive=True)
    smooth.set_weights(model.get_weights())
    return smooth


def make_batch(size, count):
    generator = np.random.default_rng(3)
    patch = generator.uniform(-1, 1, (count, size, size, size, 1)).astype("float32")
    return tf.constant(patch), tf.constant((patch > 0.5).astype("float32")), np.arange(count) % 3


def training_step(model):
    """A function from a batch to the joint loss (eq. 4) and its gradients; the moving statistics move."""

    @tf.function
    def step(patch, reference, label):
        with tf.GradientTape() as tape:
            outputs = model(patch, training=True)
            outputs = (
                outputs if isinstance(outputs, dict) else {"mask" if outputs.shape.rank == 5 else "class": outputs}
            )
            loss = tf.add_n(model.losses)
            for output in outputs.values():
                if output.shape.rank == 5:
                    loss -= tf.reduce_mean(2 * output * reference / (1 + output**2))
                else:
                    loss -= tf.reduce_mean(tf.math.log(tf.gather(output, label, batch_dims=1)))
        return loss, tape.gradient(loss, model.trainable_variables)

    return step


def assert_close(actual, expected, what, tolerance=1e-4, floor=1e-7):
    """Relative to the tensor's own size."""
    difference = np.linalg.norm(np.subtract(actual, expected, dtype="float64"))
    assert difference <= tolerance * np.linalg.norm(expected) + floor, what


def assert_gradients_close(variables, actual, expected):
    """Each relative to its own size; a millionth of the whole gradient is rounding."""
    rounding = 1e-6 * float(tf.linalg.global_norm(expected))
    for variable, a, e in zip(variables, actual, expected, strict=True):
        if not is_bias_before_norm(variable):
            assert_close(a, e, variable.path, floor=rounding)


@pytest.mark.parametrize("network", BUILDERS)
def test_both_forms_start_from_the_same_weights_in_the_same_order(network, small):
    stock, fast = BUILDERS[network](small, stock=True, seed=4), BUILDERS[network](small, seed=4)
    assert [v.name for v in fast.variables] == [v.name for v in stock.variables]
    for a, b in zip(stock.get_weights(), fast.get_weights(), strict=True):
        np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize("network", WHOLE)
@pytest.mark.parametrize("count", [1, 3])
def test_predictions_are_equal(network, count, small):
    stock, fast = stock_and_fast(network, small)
    patch, *_ = make_batch(16, count)
    for a, e in zip(tf.nest.flatten(fast(patch)), tf.nest.flatten(stock(patch)), strict=True):
        assert_close(a, e, network, 1e-5)


# The parts of the others, each at one size of a batch.
EVERY_RUN = {("cnn", 1), ("unet", 3)}


@pytest.mark.parametrize(
    ("network", "count"),
    [
        pytest.param(network, count, marks=[] if (network, count) in EVERY_RUN else pytest.mark.nightly)
        for network, count in product(BUILDERS, (1, 3))
    ],
)
def test_gradients_of_every_variable_and_ten_steps_of_statistics_are_equal(network, count, small):
    stock, fast = map(smoothed, stock_and_fast(network, small))
    batch = make_batch(16, count)
    steps = training_step(stock), training_step(fast)
    for number in range(10):
        (loss, expected), (fast_loss, gradients) = (step(*batch) for step in steps)
        assert_close(fast_loss, loss, f"loss {number}")
        if number == 0:
            assert_gradients_close(stock.trainable_variables, gradients, expected)
        for model, gradient in ((stock, expected), (fast, gradients)):
            for variable, g in zip(model.trainable_variables, gradient, strict=True):
                variable.assign_sub(1e-3 * g)
    for a, e in zip(fast.non_trainable_variables, stock.non_trainable_variables, strict=True):
        assert_close(a, e, e.path)


def is_bias_before_norm(variable):
    """Its gradient is 0 but for rounding."""
    return variable.name == "bias" and variable.path.split("/")[-2].startswith("conv_")


@pytest.mark.parametrize("network", ["cnn", "unet"])
def test_the_bias_before_a_norm_has_gradient_zero(network, small):
    _, fast = stock_and_fast(network, small)
    _, gradients = training_step(fast)(*make_batch(16, 2))
    biases = [g for v, g in zip(fast.trainable_variables, gradients, strict=True) if is_bias_before_norm(v)]
    assert len(biases) == {"cnn": 8, "unet": 14}[network]
    assert all(not np.any(g) for g in biases)


# 24: sub-lattices of odd size; 40: a bottleneck of 5^3 that dilation 4 does not divide; 64: of 8^3, in lattice 4.
@pytest.mark.parametrize("size", [24, 40, 64])
def test_a_patch_of_another_size_falls_back_where_it_has_to(size, small):
    stock, fast = stock_and_fast("unet", dataclasses.replace(small, patch=PatchProtocol(size=size)))
    patch, *_ = make_batch(size, 1)
    assert_close(fast(patch), stock(patch), "mask", 1e-5)


@pytest.mark.nightly
@pytest.mark.parametrize("dilations", [(4, 2, 1, 2, 2, 1), (3, 3, 3, 3, 3, 3), (2, 1, 1, 2, 2, 3)])
def test_other_dilations_are_equal(dilations, small):
    unet = dataclasses.replace(small.unet, dilations_up=dilations, dilations_down=(1, 2, 2, 3, 4, 2, 2, 1))
    stock, fast = map(smoothed, stock_and_fast("unet", dataclasses.replace(small, unet=unet)))
    batch = make_batch(16, 2)
    (_, expected), (_, gradients) = training_step(stock)(*batch), training_step(fast)(*batch)
    assert_gradients_close(stock.trainable_variables, gradients, expected)


@pytest.mark.parametrize("network", WHOLE)
@pytest.mark.parametrize("direction", ["stock to fast", "fast to stock"])
def test_weights_in_a_file_are_interchangeable(network, direction, small, tmp_path):
    source, target = stock_and_fast(network, small)
    if direction == "fast to stock":
        source, target = target, source
    target.set_weights([np.zeros_like(w) for w in target.get_weights()])
    source.save_weights(tmp_path / "model.weights.h5")
    target.load_weights(tmp_path / "model.weights.h5")
    for a, b in zip(source.get_weights(), target.get_weights(), strict=True):
        np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize("network", WHOLE)
def test_a_saved_network_predicts_the_same(network, small, tmp_path):
    _, fast = stock_and_fast(network, small, precision="bfloat16")
    fast.save(tmp_path / "model.keras")
    loaded = keras.models.load_model(tmp_path / "model.keras")
    patch, *_ = make_batch(16, 2)
    for a, e in zip(tf.nest.flatten(loaded(patch)), tf.nest.flatten(fast(patch)), strict=True):
        np.testing.assert_array_equal(a, e)


def test_a_frozen_segmenter_gives_the_mask_of_inference(small):
    _, cascade = stock_and_fast("cascade", small)
    cascade.get_layer("segmentation").trainable = False
    patch, *_ = make_batch(16, 2)
    assert_close(cascade(patch, training=True)["mask"], cascade(patch, training=False)["mask"], "mask", 1e-6)


@pytest.mark.parametrize("network", WHOLE)
def test_bfloat16_predicts_nearly_the_same(network, small):
    _, exact = stock_and_fast(network, small)
    _, rounded = stock_and_fast(network, small, precision="bfloat16")
    patch, *_ = make_batch(16, 3)
    for a, e in zip(tf.nest.flatten(rounded(patch)), tf.nest.flatten(exact(patch)), strict=True):
        np.testing.assert_allclose(a, e, atol=0.03)


def test_in_bfloat16_the_last_bias_gradient_is_right(small):
    gradients = []
    for precision in ("float32", "bfloat16"):
        _, unet = stock_and_fast("unet", dataclasses.replace(small, patch=PatchProtocol(size=32)), precision=precision)
        _, all_gradients = training_step(unet)(*make_batch(32, 3))
        gradients.append(all_gradients[-1])
    np.testing.assert_allclose(gradients[1], gradients[0], rtol=0.05)


def all_gradients(model, batch):
    _, gradients = training_step(model)(*batch)
    return np.concatenate([np.ravel(g).astype("float64") for g in gradients])


@pytest.mark.nightly
@pytest.mark.parametrize("network", BUILDERS)
def test_at_full_size_the_gradients_are_those_of_float64(network):
    stock, fast = stock_and_fast(network, Protocol())
    patch, reference, label = make_batch(32, 3)
    reference_model = smoothed(stock, "float64")
    containers = (keras.Model, keras.layers.InputLayer)
    computing = [layer for layer in reference_model._flatten_layers() if not isinstance(layer, containers)]
    assert {layer.compute_dtype for layer in computing} == {"float64"}
    exact = all_gradients(reference_model, (patch, tf.cast(reference, "float64"), label))
    gradients = all_gradients(smoothed(fast), (patch, reference, label))
    assert_close(gradients, exact, network)


@pytest.mark.nightly
def test_a_full_batch_moves_the_statistics_equally():
    stock, fast = stock_and_fast("cascade", Protocol())
    batch = make_batch(32, 24)
    (expected, _), (loss, _) = training_step(stock)(*batch), training_step(fast)(*batch)
    assert_close(loss, expected, "loss")
    for a, e in zip(fast.non_trainable_variables, stock.non_trainable_variables, strict=True):
        # Both sum 786,432 voxels in float32: the variance of either is off by up to 1.4e-4 of its float64 value.
        assert_close(a, e, e.path, 5e-4)
