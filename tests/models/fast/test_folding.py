import keras
import numpy as np
import pytest
import tensorflow as tf

from ggn_tf.models import fast as layers
from ggn_tf.models.cnn import build_cnn
from ggn_tf.models.fast.folding import fold
from ggn_tf.models.systems import build_cascade, build_multitask

BUILDERS = {
    "cnn": lambda protocol, **options: build_cnn(3, protocol, **options),
    "cascade": lambda protocol, **options: build_cascade(3, protocol, **options),
    "multitask": lambda protocol, **options: build_multitask(3, protocol, **options),
}
# They contain U-Net and CNN.
WHOLE = ["cascade", "multitask"]


def trained(network, protocol, **options):
    """A network whose statistics and offsets are as far from their initial values as training could take them."""
    model = BUILDERS[network](protocol, **options)
    generator = np.random.default_rng(5)
    for variable in model.variables:
        if variable.name in ("gamma", "moving_variance"):
            variable.assign(generator.uniform(0.3, 2, variable.shape) * generator.choice([-1, 1], variable.shape))
        if variable.name == "moving_variance":
            variable.assign(abs(variable))
        elif variable.name in ("beta", "bias", "moving_mean"):
            variable.assign(variable + 0.3 * generator.normal(size=variable.shape))
    return model


def assert_outputs_close(actual, expected, tolerance):
    tf.nest.assert_same_structure(actual, expected)
    for a, e in zip(tf.nest.flatten(actual), tf.nest.flatten(expected), strict=True):
        assert a.dtype == tf.float32
        np.testing.assert_allclose(a, e, atol=tolerance)


@pytest.mark.parametrize("stock", [False, True], ids=["fast", "stock"])
@pytest.mark.parametrize("network", WHOLE)
def test_a_folded_network_predicts_the_same(network, stock, small, patches):
    model = trained(network, small, stock=stock)
    assert_outputs_close(fold(model)(patches), model(patches), 1e-5)


@pytest.mark.parametrize("network", WHOLE)
def test_a_folded_bfloat16_network_predicts_nearly_the_same(network, small, patches):
    model = trained(network, small, precision="bfloat16")
    assert_outputs_close(fold(model)(patches), trained(network, small)(patches), 0.05)


@pytest.mark.slow
def test_at_full_size_a_folded_cascade_predicts_the_same(protocol):
    model = trained("cascade", protocol)
    patch = np.random.default_rng(1).uniform(-1, 1, (3, 32, 32, 32, 1)).astype("float32")
    assert_outputs_close(fold(model)(patch), model(patch), 1e-4)


def test_folding_one_channel_by_hand():
    patch = keras.Input((1, 1, 1, 1))
    convolution, norm = layers.Conv3D(1, 1, bias_apart=True), layers.BatchNormalization(epsilon=1.0)
    x, bias = convolution(patch)
    model = keras.Model(patch, norm(x, bias=bias))
    convolution.set_weights([np.full((1, 1, 1, 1, 1), 5.0), np.array([7.0])])
    norm.set_weights([np.array([value]) for value in (6.0, 11.0, 1.0, 3.0)])  # gamma, beta, mean, variance
    kernel, offset = fold(model).get_weights()
    # s = 6 / sqrt(3 + 1) = 3; kernel 3 * 5; offset 3 * (7 - 1) + 11
    assert (kernel.item(), offset.item()) == (15, 29)


@pytest.mark.parametrize("network", WHOLE)
def test_nothing_of_training_is_left(network, small):
    folded = fold(trained(network, small))
    kinds = {type(layer) for layer in folded._flatten_layers()}
    assert not any(issubclass(kind, (keras.layers.BatchNormalization, keras.layers.Dropout)) for kind in kinds)
    assert folded.losses == []
    assert folded.trainable_variables == []


def test_names_of_model_input_and_sub_models_stay(small):
    folded = fold(trained("cascade", small))
    assert (folded.name, [x.name for x in folded.inputs]) == ("cascade", ["patch"])
    assert folded.get_layer("segmentation").output.shape == (None, 16, 16, 16, 1)
    assert folded.get_layer("classification").output.shape == (None, 3)


def test_the_trained_network_is_left_as_it_was(small):
    model = trained("cascade", small)
    before = model.get_weights()
    folded = fold(model)
    for weight in folded.weights:
        weight.assign(tf.zeros_like(weight))
    assert all(np.array_equal(a, b) for a, b in zip(before, model.get_weights(), strict=True))
    assert model.trainable


def test_bfloat16_kernels_are_stored_rounded(small):
    folded = fold(trained("cnn", small, precision="bfloat16"))
    assert {w.dtype for w in folded.get_layer("conv_2").weights + folded.get_layer("fc_1").weights} == {"bfloat16"}
    assert {w.dtype for w in folded.get_layer("probabilities").weights} == {"float32"}


@pytest.mark.parametrize(("precision", "tolerance"), [("float32", 1e-5), ("bfloat16", 1e-2)])
def test_a_folded_network_exports_to_standard_operations(precision, tolerance, small, patches, tmp_path):
    folded = fold(trained("cascade", small, precision=precision))
    folded.export(tmp_path / "1", verbose=False)
    served = tf.saved_model.load(tmp_path / "1").signatures["serving_default"]
    answer = served(patch=tf.constant(patches))
    assert_outputs_close({name: answer[name] for name in ("mask", "probabilities")}, folded(patches), tolerance)
    operations = {node.op for function in served.graph.as_graph_def().library.function for node in function.node_def}
    assert operations & {"Conv3D"}
    assert not {op for op in operations if "Py" in op or "Mkl" in op or "Custom" in op}


def test_a_folded_network_comes_back_from_a_file(small, patches, tmp_path):
    folded = fold(trained("cascade", small))
    folded.save(tmp_path / "folded.keras")
    loaded = keras.models.load_model(tmp_path / "folded.keras")
    assert_outputs_close(loaded(patches), folded(patches), 0)
