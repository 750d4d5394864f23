"""The fast layers against Keras's own: the same weights, the same numbers, the same gradients."""

from unittest import mock

import keras
import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given, settings
from hypothesis import strategies as st

from ggn_tf.models import blocks
from ggn_tf.models import fast as layers
from ggn_tf.models.fast import special_convolutions as rows
from ggn_tf.models.fast.space_to_batch import fitting_lattice, from_lattice, plain_grid, to_lattice
from ggn_tf.models.fast.special_convolutions import convolve_upsampled
from ggn_tf.models.unet import build_unet
from ggn_tf.protocol import Protocol

quick = settings(max_examples=25, deadline=None, derandomize=True)
grids = st.tuples(*[st.integers(1, 9)] * 3)


def normal(*shape, seed=0):
    return tf.constant(np.random.default_rng((seed, *shape)).normal(size=shape), tf.float32)


def results_and_gradients(layer, inputs, **call):
    """The result, and the gradients of a fixed linear function of it for the inputs and the trainable weights."""
    with tf.GradientTape() as tape:
        tape.watch(inputs)
        result = layer(inputs, **call)
        value = tf.reduce_sum(result * normal(*result.shape, seed=7))
    return [result, *tf.nest.flatten(tape.gradient(value, [inputs, layer.trainable_variables]))]


def assert_equal(actual, expected):
    for a, e in zip(actual, expected, strict=True):
        np.testing.assert_allclose(a, e, rtol=1e-4, atol=2e-5 * max(1, float(np.abs(e).max())))


def stock_of(fast, shape):
    """Keras's convolution with the weights of a fast one, which is built if it was not."""
    stock = keras.layers.Conv3D(fast.filters, fast.kernel_size, dilation_rate=fast.dilation_rate, padding="same")
    if not fast.built:
        fast.build(shape)
    stock.build(shape)
    stock.set_weights(fast.get_weights())
    return stock


def assert_equals_kerass(fast, x):
    stock = stock_of(fast, x.shape)
    assert_equal(results_and_gradients(fast, x), results_and_gradients(stock, x))


def assert_equals_kerass_in_its_lattice(inside, x, lattice, interleaved):
    result = inside(to_lattice(x, lattice, interleaved))
    expected = stock_of(inside, x.shape)(x)
    np.testing.assert_allclose(from_lattice(result, lattice, interleaved), expected, rtol=1e-4, atol=1e-5)


def test_scattering_puts_each_sub_lattice_side_by_side():
    x = normal(2, 4, 6, 8, 3)
    scattered = tf.reshape(to_lattice(x, 2), [2, 2, 2, 2, 2, 3, 4, 3])
    for p in np.ndindex(2, 2, 2):
        np.testing.assert_array_equal(scattered[:, *p], x[:, p[0] :: 2, p[1] :: 2, p[2] :: 2])


def test_the_interleaved_layout_takes_a_voxel_of_each_sub_lattice_in_turn():
    x = normal(2, 4, 6, 8, 3)
    scattered = to_lattice(x, 2, interleaved=True)
    assert scattered.shape == (2, 2, 3, 4 * 8, 3)
    for i, p in enumerate(np.ndindex(2, 2, 2)):
        np.testing.assert_array_equal(scattered[:, :, :, i::8], x[:, p[0] :: 2, p[1] :: 2, p[2] :: 2])


@quick
@given(
    grid=st.tuples(*[st.integers(1, 3)] * 3),
    lattice=st.integers(1, 4),
    batch=st.integers(1, 3),
    interleaved=st.booleans(),
)
def test_gathering_undoes_scattering(grid, lattice, batch, interleaved):
    x = normal(batch, *(extent * lattice for extent in grid), 2)
    scattered = to_lattice(x, lattice, interleaved)
    assert plain_grid(scattered.shape[1:4], lattice, interleaved) == x.shape[1:4]
    np.testing.assert_array_equal(from_lattice(scattered, lattice, interleaved), x)


@pytest.mark.parametrize(
    ("grid", "dilation", "lattice"),
    [
        ((8, 8, 8), 2, 2),
        ((8, 8, 8), 4, 4),
        ((8, 8, 8), 1, 1),
        ((4, 4, 4), 4, 1),
        ((2, 4, 4), 4, 1),
        ((4, 4, 8), 4, 4),
        ((6, 8, 8), 4, 1),
        ((9, 8, 8), 2, 1),
        ((None, 8, 8), 2, 1),
    ],
)
def test_the_lattice_falls_back_to_the_plain_layout(grid, dilation, lattice):
    assert fitting_lattice(grid, dilation) == lattice


@quick
@given(grid=grids, dilation=st.integers(1, 5), size=st.sampled_from([1, 3, 5]), batch=st.integers(1, 2))
def test_a_dilated_convolution_equals_kerass(grid, dilation, size, batch):
    fast = layers.Conv3D(3, size, dilation_rate=dilation, bias_initializer="ones")
    assert_equals_kerass(fast, normal(batch, *grid, 2))


@quick
@given(blocks=st.tuples(*[st.integers(1, 3)] * 3), odd=st.booleans(), batch=st.integers(1, 2))
def test_a_convolution_of_one_channel_equals_kerass(blocks, odd, batch):
    grid = (size * count + odd for size, count in zip((4, 2, 2), blocks, strict=True))
    assert_equals_kerass(layers.Conv3D(3), normal(batch, *grid, 1))


@quick
@given(
    grid=st.tuples(*[st.integers(1, 4)] * 3),
    lattice=st.integers(2, 3),
    factor=st.integers(1, 2),
    interleaved=st.booleans(),
)
def test_a_convolution_in_its_lattice_equals_the_dilated_one(grid, lattice, factor, interleaved):
    x = normal(2, *(extent * lattice for extent in grid), 2)
    inside = layers.Conv3D(3, dilation_rate=lattice * factor, lattice=lattice, interleaved=interleaved)
    assert_equals_kerass_in_its_lattice(inside, x, lattice, interleaved)


@pytest.mark.parametrize("lattice", [2, 3])
def test_a_device_without_dilation_convolves_the_interleaved_layout_too(lattice, without_dilation):
    x = normal(2, *[2 * lattice] * 3, 2)
    inside = layers.Conv3D(3, dilation_rate=lattice, lattice=lattice, interleaved=True)
    assert_equals_kerass_in_its_lattice(inside, x, lattice, interleaved=True)


def test_a_device_without_dilation_gets_the_layout_along_the_batch(without_dilation):
    model = build_unet(Protocol())
    assert not any(layer.interleaved for layer in model.layers if isinstance(layer, layers.Conv3D))


@pytest.fixture
def without_dilation(monkeypatch):
    for module in (rows, blocks):
        monkeypatch.setattr(module, "dilates_natively", lambda dtype: False)


@quick
@given(grid=st.tuples(*[st.integers(1, 4)] * 3), batch=st.integers(1, 9))
def test_a_convolution_of_short_rows_equals_kerass(grid, batch):
    assert_equals_kerass(layers.Conv3D(3), normal(batch, *grid, 2))


def test_taps_that_reach_across_the_grid_keep_their_weights_and_get_no_gradient():
    layer = layers.Conv3D(3, dilation_rate=4)
    kernel = results_and_gradients(layer, normal(2, 4, 4, 4, 2))[2].numpy()
    assert layer.get_weights()[0].shape == (3, 3, 3, 2, 3)
    assert np.abs(kernel[1, 1, 1]).min() > 0
    kernel[1, 1, 1] = 0
    assert not kernel.any()


def test_only_the_taps_along_a_short_axis_are_left_out():
    kernel = results_and_gradients(layers.Conv3D(1, dilation_rate=3), normal(1, 3, 4, 5, 1))[2].numpy()
    assert np.abs(kernel[1]).min() > 0
    assert not kernel[[0, 2]].any()


@pytest.mark.parametrize("grid", [(None, None, None), (4, None, 6)])
@pytest.mark.parametrize("dilation", [1, 2, 4])
def test_an_unknown_grid_takes_the_general_way(grid, dilation):
    layer, symbolic, x = layers.Conv3D(3, dilation_rate=dilation), keras.Input((*grid, 2)), normal(2, 4, 5, 6, 2)
    model = keras.Model(symbolic, layer(symbolic))
    np.testing.assert_allclose(model(x), stock_of(layer, x.shape)(x), rtol=1e-4, atol=1e-5)


def up_convolution(grid, dilation, lattice, size=3, batch=2, interleaved=False):
    """The fast layer on a pair and Keras's on the concatenation: their results and gradients of the weights."""
    coarse, fine = normal(batch, *grid, 3), normal(batch, *(2 * extent for extent in grid), 2)
    stock = keras.layers.Conv3D(4, size, dilation_rate=dilation, padding="same")
    fast = layers.Conv3D(4, size, dilation_rate=dilation, lattice=lattice, interleaved=interleaved)
    both = keras.layers.Concatenate()([keras.layers.UpSampling3D(2)(coarse), fine])
    stock.build(both.shape)
    fast.build([coarse.shape, to_lattice(fine, lattice, interleaved).shape])
    fast.set_weights(stock.get_weights())
    cotangent = normal(*both.shape[:-1], 4, seed=3)

    def run(layer, assemble, disassemble):
        with tf.GradientTape() as tape:
            tape.watch([coarse, fine])
            result = disassemble(layer(assemble()))
            value = tf.reduce_sum(result * cotangent)
        return [result, *tf.nest.flatten(tape.gradient(value, [coarse, fine, layer.trainable_variables]))]

    concatenate = lambda: keras.layers.Concatenate()([keras.layers.UpSampling3D(2)(coarse), fine])  # noqa: E731
    expected = run(stock, concatenate, lambda y: y)
    scattered = lambda: [coarse, to_lattice(fine, lattice, interleaved)]  # noqa: E731
    return run(fast, scattered, lambda y: from_lattice(y, lattice, interleaved)), expected


@quick
@given(grid=st.tuples(*[st.integers(1, 5)] * 3), batch=st.integers(1, 3), fast_columns=st.sampled_from([0, 10**9]))
def test_an_up_convolution_of_dilation_1_needs_no_up_sampled_map(grid, batch, fast_columns):
    with mock.patch.object(rows, "_FAST_COLUMNS", fast_columns):
        assert_equal(*up_convolution(grid, 1, 1, batch=batch))


@quick
@given(grid=st.tuples(*[st.integers(1, 4)] * 3), batch=st.integers(1, 2), interleaved=st.booleans())
def test_an_up_convolution_of_dilation_2_works_in_the_lattice(grid, batch, interleaved):
    assert_equal(*up_convolution(grid, 2, 2, batch=batch, interleaved=interleaved))


@pytest.mark.parametrize(("dilation", "size"), [(2, 3), (3, 3), (4, 3), (1, 5), (1, 1), (2, 1)])
def test_any_other_up_convolution_takes_the_general_way(dilation, size):
    assert_equal(*up_convolution((2, 3, 4), dilation, 1, size))


def test_an_up_convolution_by_hand():
    # One coarse voxel becomes two; taps 2, 3, 5 along x alone: f0 reads (0, 1, 1), f1 (1, 1, 0).
    kernel = np.zeros((3, 3, 3, 1, 1), "float32")
    kernel[1, 1, :, 0, 0] = [2, 3, 5]
    result = convolve_upsampled(tf.ones((1, 1, 1, 1, 1)), tf.constant(kernel))
    np.testing.assert_array_equal(np.squeeze(result), np.tile([3 + 5, 2 + 3], (2, 2, 1)))


@pytest.mark.parametrize("fast_columns", [0, 10**9])
def test_an_upsampled_map_is_convolved_sample_by_sample(monkeypatch, fast_columns):
    monkeypatch.setattr("ggn_tf.models.fast.special_convolutions._FAST_COLUMNS", fast_columns)
    coarse, kernel = normal(3, 2, 3, 4, 5), normal(3, 3, 3, 5, 2)
    alone = tf.concat([convolve_upsampled(coarse[n : n + 1], kernel) for n in range(3)], 0)
    assert_equal([convolve_upsampled(coarse, kernel)], [alone])
    assert convolve_upsampled(coarse[:0], kernel).shape == (0, 4, 6, 8, 2)


def test_maps_that_do_not_fit_are_refused():
    with pytest.raises(ValueError, match=r"twice its extents.*\(1, 4, 4, 4, 1\) and \(1, 7, 8, 8, 1\)"):
        layers.Conv3D(2).build([(1, 4, 4, 4, 1), (1, 7, 8, 8, 1)])


def test_a_pair_in_another_lattice_is_refused():
    with pytest.raises(ValueError, match="lattice 1, or 2 at dilation 2"):
        layers.Conv3D(2, dilation_rate=4, lattice=4).build([(1, 4, 4, 4, 1), (64, 2, 2, 2, 1)])


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"padding": "valid"}, "'same' convolution"),
        ({"strides": 2}, "stride 1"),
        ({"groups": 2}, "one group"),
        ({"use_bias": False}, "a bias"),
        ({"activation": "relu", "bias_apart": True}, "activation only behind"),
        ({"kernel_size": 2}, "odd kernel"),
        ({"dilation_rate": 3, "lattice": 2}, r"divides the dilation \(3, 3, 3\)\. Received: 2"),
        ({"filters": 3, "contrast": True}, "contrast of 2 filters"),
        ({"bias_apart": True, "contrast": True}, "its bias added"),
    ],
)
def test_a_convolution_of_another_kind_is_refused(options, message):
    with pytest.raises(ValueError, match=message):
        layers.Conv3D(**{"filters": 2, "kernel_size": 3, **options})


@pytest.mark.parametrize("size", [1, 3])
def test_the_sigmoid_of_the_contrast_is_the_softmax(size):
    x = normal(2, 3, 4, 5, 6)
    stock = keras.Sequential(
        [keras.layers.Conv3D(2, size, padding="same", bias_initializer="ones"), keras.layers.Softmax()]
    )
    contrast = layers.Conv3D(2, size, contrast=True, bias_initializer="zeros")
    fast = keras.Sequential([contrast, keras.layers.Activation("sigmoid")])
    stock.build(x.shape)
    fast.build(x.shape)
    stock.layers[0].bias.assign([0.3, -0.4])
    fast.set_weights(stock.get_weights())
    channel = keras.Sequential([stock, keras.layers.Lambda(lambda y: y[..., 1:])])
    assert_equal(results_and_gradients(fast, x), results_and_gradients(channel, x))


def test_in_bfloat16_a_bias_gradient_is_summed_in_float32():
    # 2^15 voxels of gradient 1: a bfloat16 sum of ones stops at 256.
    x = tf.zeros((1, 32, 32, 32, 1))
    layer = layers.Conv3D(1, dtype="mixed_bfloat16")
    with tf.GradientTape() as tape:
        value = tf.reduce_sum(tf.cast(layer(x), tf.float32))
    assert float(tape.gradient(value, layer.bias.value)[0]) == 2**15


def test_the_kernel_is_summed_in_float32_before_it_is_rounded():
    # 1 + 2^-7 + 2^-7 rounds to 1 + 2^-6 in bfloat16, but twice rounding 1 + 2^-9 + 2^-9 + ... to 1.
    kernel = np.full((3, 3, 3, 1, 1), 2**-9, "float32")
    kernel[1, 1, 1] = 1
    layer = layers.Conv3D(1, dtype="mixed_bfloat16")
    coarse, fine = tf.ones((1, 4, 4, 4, 1)), tf.zeros((1, 8, 8, 8, 1))
    layer.build([coarse.shape, fine.shape])
    layer.set_weights([np.concatenate([kernel, kernel], 3), np.zeros(1)])
    inner = np.float32(layer([coarse, fine])[0, 3, 3, 3, 0])
    assert inner == pytest.approx(1 + 26 * 2**-9, abs=2**-8)


def stock_and_fast_norm(rank=3, channels=5, **config):
    stock = keras.layers.BatchNormalization(momentum=0.9, **config)
    fast = layers.BatchNormalization(momentum=0.9, **config)
    generator = np.random.default_rng(4)
    for layer in (stock, fast):
        layer.build((*[channels] * rank,))
    weights = [generator.uniform(0.5, 2, channels) for _ in stock.get_weights()]
    stock.set_weights(weights)
    fast.set_weights(weights)
    return stock, fast


shapes = st.lists(st.integers(1, 5), min_size=1, max_size=4).filter(lambda shape: np.prod(shape) > 1)


@quick
@given(shape=shapes, training=st.booleans(), epsilon=st.sampled_from([1e-3, 1e-5, 1e-6]))
def test_batch_normalisation_equals_kerass(shape, training, epsilon):
    stock, fast = stock_and_fast_norm(len(shape) + 1, epsilon=epsilon)
    x = 3 * normal(*shape, 5) + 1
    assert_equal(results_and_gradients(fast, x, training=training), results_and_gradients(stock, x, training=training))
    assert_equal(fast.get_weights(), stock.get_weights())


@pytest.mark.parametrize("config", [{"scale": False}, {"center": False}, {"scale": False, "center": False}])
def test_batch_normalisation_without_scale_or_centre_equals_kerass(config):
    stock, fast = stock_and_fast_norm(**config)
    x = normal(3, 4, 5)
    assert_equal(results_and_gradients(fast, x, training=True), results_and_gradients(stock, x, training=True))
    assert_equal(fast.get_weights(), stock.get_weights())


@pytest.mark.parametrize("config", [{"axis": 1}, {"renorm": True}])
def test_another_kind_of_batch_normalisation_takes_kerass_way(config):
    x = normal(3, 5, 5)
    stock, fast = stock_and_fast_norm(**config)
    assert_equal([fast(x, training=True)], [stock(x, training=True)])
    assert_equal(fast.get_weights(), stock.get_weights())


def test_a_mask_takes_kerass_way():
    x, mask = normal(3, 4, 5), tf.constant([[1, 1, 0, 1], [1, 0, 0, 1], [1, 1, 1, 1]]) > 0
    stock, fast = stock_and_fast_norm()
    assert_equal([fast(x, training=True, mask=mask)], [stock(x, training=True, mask=mask)])
    assert_equal(fast.get_weights(), stock.get_weights())


def test_float64_takes_kerass_way():
    x = tf.constant(np.random.default_rng(0).normal(1e6, 1e-2, (50, 2)))
    norm = layers.BatchNormalization(dtype="float64")
    np.testing.assert_allclose(np.mean(norm(x, training=True), 0), 0, atol=1e-3)


@pytest.mark.parametrize("training", [True, False])
def test_a_bias_in_front_acts_as_if_it_was_added(training):
    stock, fast = stock_and_fast_norm()
    x, bias = normal(4, 3, 5), 2 * normal(5)
    with tf.GradientTape(persistent=True) as tape:
        tape.watch([x, bias])
        expected = stock(x + bias, training=training)
        actual = fast(x, bias=bias, training=training)
        values = [tf.reduce_sum(y * normal(4, 3, 5, seed=1)) for y in (actual, expected)]
    assert_equal([actual, *fast.get_weights()], [expected, *stock.get_weights()])
    assert_equal(tape.gradient(values[0], [x, bias]), tape.gradient(values[1], [x, bias]))


def test_in_training_the_gradient_of_a_bias_in_front_is_exactly_zero():
    _, fast = stock_and_fast_norm()
    bias = tf.ones(5)
    with tf.GradientTape() as tape:
        tape.watch(bias)
        value = tf.reduce_sum(fast(normal(4, 3, 5), bias=bias, training=True) ** 3)
    np.testing.assert_array_equal(tape.gradient(value, bias), np.zeros(5))


@pytest.mark.parametrize("training", [True, False])
def test_the_activation_follows(training):
    plain, rectified = (layers.BatchNormalization(activation=a) for a in (None, "relu"))
    x = normal(2, 3, 4)
    expected = np.maximum(plain(x, training=training), 0)
    np.testing.assert_allclose(rectified(x, training=training), expected, atol=1e-6)


def test_a_frozen_layer_keeps_its_statistics_and_uses_them():
    stock, fast = stock_and_fast_norm()
    before = fast.get_weights()
    fast.trainable = False
    x = normal(4, 3, 5)
    np.testing.assert_allclose(fast(x, training=True), stock(x, training=False), rtol=1e-4, atol=1e-5)
    assert all(np.array_equal(a, b) for a, b in zip(before, fast.get_weights(), strict=True))


def test_bfloat16_maps_have_float32_statistics():
    stock, fast = stock_and_fast_norm(dtype="mixed_bfloat16")
    x = 100 + normal(50, 40, 5)
    result = fast(x, training=True)
    stock(x, training=True)
    assert result.dtype == tf.bfloat16
    assert_equal(fast.get_weights(), stock.get_weights())


@pytest.mark.parametrize(
    "layer",
    [
        layers.Conv3D(2, (3, 1, 3), dilation_rate=2, lattice=2, name="a", dtype="mixed_bfloat16"),
        layers.Conv3D(2, bias_apart=True, kernel_regularizer=keras.regularizers.L2(1e-4)),
        layers.Conv3D(2, 1, contrast=True),
        layers.BatchNormalization(momentum=0.7, activation="relu"),
        layers.ToLattice(2),
        layers.FromLattice(3, interleaved=True),
    ],
)
def test_a_layer_comes_back_from_its_configuration(layer):
    stored = keras.saving.serialize_keras_object(layer)
    again = keras.saving.deserialize_keras_object(stored)
    assert stored["registered_name"].startswith("ggn_tf>")
    assert type(again) is type(layer)
    assert again.get_config() == layer.get_config()
