import keras
import numpy as np
import pytest
import tensorflow as tf

from ggn_tf.evaluation.report_inputs import class_activation, enlarge, explain_patches
from ggn_tf.models.systems import build_cascade, build_multitask, build_raw, build_reference
from tests.support.tiny_protocol import SIZE, tiny_protocol

GRID = 4


def _classifier(weights: np.ndarray) -> keras.Model:
    """Maps: what is brighter than 0, what is darker; `weights` [4, 4, 4, 2, classes] read them place by place."""
    patch = keras.Input((GRID, GRID, GRID, 1))
    convolution = keras.layers.Conv3D(2, 1, activation="relu")
    maps = convolution(patch)
    convolution.set_weights([np.array([1.0, -1.0]).reshape(1, 1, 1, 1, 2), np.zeros(2)])
    head = keras.layers.Dense(weights.shape[-1], activation="softmax")
    outputs = head(keras.layers.Flatten()(maps))
    head.set_weights([weights.reshape(-1, weights.shape[-1]), np.zeros(weights.shape[-1])])
    return keras.Model(patch, outputs)


@pytest.fixture
def patch() -> np.ndarray:
    """One bright voxel, one dark voxel, one bright voxel elsewhere."""
    patch = np.zeros((1, GRID, GRID, GRID, 1), np.float32)
    patch[0, 0, 1, 2], patch[0, 3, 0, 1], patch[0, 2, 3, 3] = 1.0, -1.0, 1.0
    return patch


def _peak(heat: np.ndarray) -> tuple[int, ...]:
    return tuple(int(place) for place in np.unravel_index(heat.argmax(), heat.shape))


@pytest.fixture
def bright_or_dark() -> keras.Model:
    """Darkness anywhere speaks for class 0, brightness anywhere for class 1, like global average pooling."""
    weights = np.zeros((GRID, GRID, GRID, 2, 2), np.float32)
    weights[..., 1, 0] = weights[..., 0, 1] = 1.0
    return _classifier(weights)


@pytest.mark.parametrize(("target", "place"), [(0, (3, 0, 1)), (1, (0, 1, 2))])
def test_map_peaks_at_what_speaks_for_the_class(bright_or_dark, patch, target, place):
    heat = class_activation(bright_or_dark, patch, np.array([target]))[0]
    assert heat[place] == heat.max() == 1.0


def test_map_peaks_where_the_classifier_looks_and_not_where_it_does_not(patch):
    """Two equal voxels; only the second place is read. Gradients averaged over the map could not tell them apart."""
    weights = np.zeros((GRID, GRID, GRID, 2, 2), np.float32)
    weights[2, 3, 3, 0, 1] = 1.0
    heat = class_activation(_classifier(weights), patch, np.array([1]))[0]
    assert _peak(heat) == (2, 3, 3)
    assert np.count_nonzero(heat) == 1


def test_of_a_pooling_classifier_it_is_grad_cam_by_its_formula(bright_or_dark, patch):
    """Selvaraju et al.: ReLU of the maps, weighed by their gradients' means."""
    maps = tf.nn.relu(tf.concat([patch, -patch], axis=-1))
    with tf.GradientTape() as tape:
        tape.watch(maps)
        logits = tf.reduce_sum(maps, axis=(1, 2, 3))
        score = logits[:, 0] - logits[:, 1]
    mean = tf.reduce_mean(tape.gradient(score, maps), axis=(1, 2, 3), keepdims=True)
    slow = tf.nn.relu(tf.reduce_sum(mean * maps, axis=-1)).numpy()
    heat = class_activation(bright_or_dark, patch, np.array([1]))
    np.testing.assert_allclose(heat, slow / slow.max(), atol=1e-6)


def test_what_speaks_for_every_class_alike_is_no_evidence(patch):
    """Softmax does not see what is added to all logits."""
    weights = np.zeros((GRID, GRID, GRID, 2, 2), np.float32)
    weights[0, 1, 2, 0, 1] = 1.0
    common = weights.copy()
    common[2, 3, 3, 0] += 5.0
    alone, both = (class_activation(_classifier(each), patch, np.array([1])) for each in (weights, common))
    np.testing.assert_allclose(both, alone, atol=1e-6)


def test_every_patch_has_its_own_target(bright_or_dark, patch):
    both = class_activation(bright_or_dark, np.concatenate([patch, patch]), np.array([0, 1]))
    for index in (0, 1):
        alone = class_activation(bright_or_dark, patch, np.array([index]))
        np.testing.assert_array_equal(both[index], alone[0])


def test_sure_answer_still_has_a_map(bright_or_dark, patch):
    heat = class_activation(bright_or_dark, patch * 1000, np.array([1]))
    assert heat.max() == 1.0


def test_patch_without_evidence_has_an_empty_map(bright_or_dark, patch):
    np.testing.assert_array_equal(class_activation(bright_or_dark, 0 * patch, np.array([1])), 0)


def test_classifier_of_another_form_is_refused():
    patch = keras.Input((GRID, GRID, GRID, 1))
    model = keras.Model(patch, keras.layers.GlobalAveragePooling3D()(patch))
    with pytest.raises(ValueError, match="Expected a classifier of Flatten and Dense layers"):
        class_activation(model, np.zeros((1, GRID, GRID, GRID, 1)), np.array([0]))


def _enlarge_by_hand(heat: np.ndarray, size: int) -> np.ndarray:
    """Linear interpolation between voxel centres, one axis after the other."""
    for axis in (1, 2, 3):
        voxels = heat.shape[axis]
        position = np.clip((np.arange(size) + 0.5) * voxels / size - 0.5, 0, voxels - 1)
        low = np.minimum(position.astype(int), max(voxels - 2, 0))
        share = (position - low).reshape([-1 if each == axis else 1 for each in range(4)])
        high = np.minimum(low + 1, voxels - 1)
        heat = heat.take(low, axis=axis) * (1 - share) + heat.take(high, axis=axis) * share
    return heat.astype(np.float32)


@pytest.mark.parametrize(("voxels", "size"), [(1, 8), (2, 16), (4, 32), (3, 32), (4, 4)])
def test_enlarged_map_is_linear_interpolation_to_the_last_bit(voxels, size):
    heat = np.random.default_rng(voxels).random((2, voxels, voxels, voxels)).astype(np.float32)
    np.testing.assert_array_equal(enlarge(heat, size), _enlarge_by_hand(heat, size))


@pytest.mark.parametrize("voxels", [1, 2, 4])
def test_enlarged_map_keeps_a_constant(voxels):
    heat = np.full((1, voxels, voxels, voxels), 0.5, np.float32)
    np.testing.assert_allclose(enlarge(heat, 8), 0.5)


def test_enlarged_map_is_linear_between_voxel_centres():
    heat = np.zeros((1, 2, 1, 1), np.float32)
    heat[0, 1] = 1.0
    # Centres of the two voxels are at 0.5 and 2.5 of four; outside them the value stays.
    np.testing.assert_allclose(enlarge(heat, 4)[0, :, 0, 0], [0, 0.25, 0.75, 1])


@pytest.mark.parametrize("build", [build_raw, build_reference, build_cascade, build_multitask])
def test_every_system_can_be_explained(build):
    model = build(2, tiny_protocol(prior=0.5), seed=3)
    generator = np.random.default_rng(0)
    patch = generator.normal(0, 0.5, (2, SIZE, SIZE, SIZE, 1)).astype(np.float32)
    mask = (generator.uniform(size=patch.shape) < 0.5).astype(np.float32)
    heat = explain_patches(model, patch, mask, np.array([0, 1]))
    assert heat.shape == (2, SIZE, SIZE, SIZE)
    assert heat.max() > 0
    assert heat.min() >= 0
