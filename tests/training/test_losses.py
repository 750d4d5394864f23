import math

import numpy as np
import pytest
import sklearn.metrics
import tensorflow as tf

from ggn_tf.training import losses
from ggn_tf.training.losses import DiceLoss, classification_loss, joint_loss


def volume(*voxels: float) -> np.ndarray:
    return np.array(voxels, np.float32).reshape(1, 1, 1, -1, 1)


# Eq. 2 by hand: 2 (0.8 + 0.4) / (2 + 0.64 + 0.16 + 0.04) = 2.4 / 2.84.
BY_HAND = -2.4 / 2.84
REFERENCE, PREDICTED = volume(1, 1, 0, 0), volume(0.8, 0.4, 0.2, 0.0)


def test_dice_loss_equals_eq_2_computed_by_hand():
    assert float(DiceLoss()(REFERENCE, PREDICTED)) == pytest.approx(BY_HAND, abs=1e-6)
    assert losses.dice_loss(REFERENCE, PREDICTED) == pytest.approx(BY_HAND, abs=1e-6)


def test_dice_loss_is_averaged_over_samples_not_over_voxels():
    reference = np.concatenate([REFERENCE, volume(0, 0, 0, 1)])
    predicted = np.concatenate([PREDICTED, volume(0, 0, 0, 1)])
    assert float(DiceLoss()(reference, predicted)) == pytest.approx((BY_HAND - 1) / 2, abs=1e-6)


@pytest.mark.parametrize(
    ("reference", "predicted", "expected"),
    [
        (volume(1, 1, 0, 0), volume(1, 1, 0, 0), -1.0),
        (volume(1, 1, 0, 0), volume(0, 0, 1, 1), 0.0),
        (volume(0, 0, 0, 0), volume(0, 0, 0, 0), 0.0),
        (volume(0, 0, 0, 0), volume(1, 1, 1, 1), 0.0),
    ],
)
def test_dice_loss_at_its_ends(reference: np.ndarray, predicted: np.ndarray, expected: float):
    assert float(DiceLoss()(reference, predicted)) == pytest.approx(expected, abs=1e-5)


def test_dice_loss_is_finite_for_bfloat16_and_a_whole_patch():
    full = tf.ones((1, 32, 32, 32, 1), tf.bfloat16)
    assert float(DiceLoss()(full, full)) == pytest.approx(-1.0, abs=1e-6)


def test_the_gradient_of_the_dice_loss_falls_towards_the_reference():
    predicted = tf.Variable(PREDICTED)
    with tf.GradientTape() as tape:
        loss = DiceLoss()(REFERENCE, predicted)
    gradient = tape.gradient(loss, predicted).numpy().ravel()
    assert (gradient[:2] < 0).all() and gradient[2] > 0


def test_cross_entropy_equals_eq_1_computed_by_hand():
    probabilities = np.array([[0.7, 0.2, 0.1], [0.1, 0.3, 0.6]], np.float32)
    labels = np.array([0, 1])
    expected = -(math.log(0.7) + math.log(0.3)) / 2
    assert float(classification_loss()(labels, probabilities)) == pytest.approx(expected, abs=1e-6)
    assert losses.cross_entropy(labels, probabilities) == pytest.approx(expected, abs=1e-6)


@pytest.mark.parametrize(("weight", "expected"), [(0.5, 0.3), (1.0, -0.1), (1.5, -0.5)])
def test_joint_loss_equals_eq_4_computed_by_hand(weight: float, expected: float):
    assert joint_loss(0.7, -0.8, weight) == pytest.approx(expected)


def test_dice_loss_survives_its_configuration():
    again = DiceLoss.from_config(DiceLoss(epsilon=0.5).get_config())
    assert float(again(REFERENCE, PREDICTED)) == pytest.approx(-2.4 / 3.34, abs=1e-6)


def test_dice_score_thresholds_at_one_half_and_counts_each_case():
    reference = np.concatenate([REFERENCE, volume(0, 0, 0, 0), volume(1, 0, 0, 0)])
    predicted = np.concatenate([volume(0.9, 0.49, 0.5, 0), volume(0, 0, 0, 0), volume(0, 1, 0, 0)])
    np.testing.assert_allclose(losses.dice_score(reference, predicted), [0.5, 1.0, 0.0])


def test_accuracy_counts_the_most_probable_class():
    assert (
        losses.accuracy_score(np.array([0, 1, 1, 0]), np.array([[0.6, 0.4], [0.4, 0.6], [0.9, 0.1], [0.8, 0.2]]))
        == 0.75
    )


def test_auc_by_hand_counts_ties_half():
    # Of four pairs one is in the wrong order and one is tied: 2.5 of 4.
    label, second = np.array([0, 1, 0, 1]), np.array([0.2, 0.5, 0.5, 0.3])
    assert losses.auc_score(label, np.stack([1 - second, second], axis=1)) == 0.625


@pytest.mark.parametrize("classes", [2, 3])
def test_auc_equals_scikit_learns(classes: int):
    generator = np.random.default_rng(classes)
    label, drawn = generator.integers(0, classes, 60), generator.dirichlet(np.ones(classes), 60).round(2)
    probabilities = drawn / drawn.sum(axis=1, keepdims=True)
    scores = probabilities[:, 1] if classes == 2 else probabilities
    expected = sklearn.metrics.roc_auc_score(label, scores, multi_class="ovr", average="macro")
    assert losses.auc_score(label, probabilities) == pytest.approx(expected, abs=1e-12)
