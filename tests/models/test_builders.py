import dataclasses

import keras
import numpy as np
import pytest

from ggn_tf.models.cnn import build_cnn
from ggn_tf.models.systems import build_cascade, build_multitask
from ggn_tf.models.unet import build_unet
from ggn_tf.protocol import CnnProtocol, Protocol


def test_the_classifier_has_the_papers_weights():
    assert build_cnn(2, Protocol()).count_params() == 6_691_090


def test_the_segmenter_has_the_papers_weights():
    assert build_unet(Protocol()).count_params() == 3_233_170


def test_the_cascade_has_the_weights_of_both():
    assert build_cascade(2, Protocol()).count_params() == 6_691_090 + 3_233_170


def test_the_multitask_network_adds_three_fully_connected_blocks_to_the_bottleneck():
    branch = (4**3 * 256 * 256 + 256) + (256 * 256 + 256) + (256 * 3 + 3)
    assert build_multitask(3, Protocol()).count_params() == 3_233_170 + branch


@pytest.mark.parametrize("build", [build_cascade, build_multitask])
def test_mask_and_probabilities_are_named_and_float32(build, patches, small):
    outputs = build(3, small, precision="bfloat16")(patches)
    assert {name: (tuple(value.shape), value.dtype.name) for name, value in outputs.items()} == {
        "mask": ((2, 16, 16, 16, 1), "float32"),
        "probabilities": ((2, 3), "float32"),
    }


def test_the_input_is_named_patch(small):
    assert [tensor.name for tensor in build_cascade(2, small).inputs] == ["patch"]


def test_the_mask_multiplies_the_normalised_patch(patches, small):
    cascade = build_cascade(2, small)
    segmentation, classification = cascade.get_layer("segmentation"), cascade.get_layer("classification")
    expected = classification(patches * segmentation(patches).numpy())
    np.testing.assert_allclose(cascade(patches)["probabilities"], expected, rtol=1e-5)


def test_the_last_bias_starts_at_the_prior(small):
    bias = build_unet(small).get_layer("logits").get_weights()[1]
    np.testing.assert_allclose(np.exp(bias) / np.exp(bias).sum(), [0.99, 0.01], rtol=1e-5)


def test_without_evidence_the_mask_is_the_prior(patches, small):
    unet = build_unet(small)
    kernel, bias = unet.get_layer("logits").get_weights()
    unet.get_layer("logits").set_weights([np.zeros_like(kernel), bias])
    np.testing.assert_allclose(unet(patches), 0.01, rtol=1e-5)


def test_kernels_are_he_normal():
    kernel = build_cnn(2, Protocol()).get_layer("conv_8").get_weights()[0]
    assert np.std(kernel) == pytest.approx(np.sqrt(2 / (27 * 256)), rel=0.01)


def test_every_layer_draws_its_own_weights(small):
    model = build_unet(small)
    assert not np.array_equal(model.get_layer("conv_7").get_weights()[0], model.get_layer("conv_8").get_weights()[0])


def test_one_seed_gives_one_network(small):
    first, second, other = (build_cascade(2, small, seed=seed).get_weights() for seed in (5, 5, 6))
    assert all(np.array_equal(a, b) for a, b in zip(first, second, strict=True))
    assert not np.array_equal(first[0], other[0])


def test_every_kernel_and_nothing_else_is_regularised(small):
    model = build_multitask(2, small)
    regularised = {variable.path for variable in model.trainable_variables if variable.regularizer is not None}
    assert regularised == {variable.path for variable in model.trainable_variables if variable.name == "kernel"}
    squares = sum(float(np.sum(np.square(v))) for v in model.trainable_variables if v.name == "kernel")
    assert float(sum(model.losses)) == pytest.approx(1e-4 * squares, rel=1e-5)


def test_batch_norm_takes_the_protocols_momentum(small):
    norms = [x for x in build_cnn(2, small)._flatten_layers() if isinstance(x, keras.layers.BatchNormalization)]
    assert {norm.momentum for norm in norms} == {0.9}


def test_bfloat16_keeps_the_weights_in_float32(small):
    model = build_cascade(2, small, precision="bfloat16")
    assert {str(v.dtype) for v in model.variables if "seed_generator" not in v.path} == {"float32"}
    assert keras.config.dtype_policy().name == "float32"


def test_another_precision_is_refused(small):
    with pytest.raises(ValueError, match=r"float32, bfloat16\. Received: 'float16'"):
        build_cnn(2, small, precision="float16")


def test_an_odd_number_of_blocks_is_refused(small):
    odd = dataclasses.replace(small, cnn=CnnProtocol(channels=(4, 4, 6)))
    with pytest.raises(ValueError, match="even count of blocks"):
        build_cnn(2, odd)
