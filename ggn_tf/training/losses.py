"""The paper's losses (eq. 1, 2 and 4), in float32 whatever the network's precision, and the scores of cases.

The scores, in NumPy, select a stage's weights.
"""

import keras
import numpy as np
import tensorflow as tf

from ggn_tf.protocol import MASK_THRESHOLD


@keras.saving.register_keras_serializable(package="ggn_tf")
class DiceLoss(keras.losses.Loss):
    """Dice loss with a squared denominator, one value per sample, averaged over the batch (eq. 2).

        L = -1/N sum_N  2 sum_i s_gt s_pre / (sum_i s_gt^2 + sum_i s_pre^2 + n)

    The sums run over a sample's voxels, so a small nodule weighs as much as a large one. The value is in [-1, 0]: a
    perfect mask reaches -1, lower is better. If neither the reference nor the prediction has a nodule voxel, it is 0:
    `epsilon`, the paper's n, "a small value" that it does not give, keeps the quotient defined, but does not reward an
    empty prediction. Without a reduction there is one value per sample.
    """

    def __init__(
        self, epsilon: float = 1e-6, name: str = "dice_loss", reduction: str | None = "sum_over_batch_size"
    ) -> None:
        super().__init__(name=name, reduction=reduction)
        self.epsilon = epsilon

    def call(self, y_true: tf.Tensor, y_pred: tf.Tensor) -> tf.Tensor:
        """One loss per sample, float32 [N], of reference and soft masks in [0, 1], both [N, D, H, W, 1]."""
        reference, predicted = tf.cast(y_true, tf.float32), tf.cast(y_pred, tf.float32)
        voxels = list(range(1, reference.shape.rank))
        overlap = tf.reduce_sum(reference * predicted, voxels)
        size = tf.reduce_sum(tf.square(reference), voxels) + tf.reduce_sum(tf.square(predicted), voxels)
        return -2.0 * overlap / (size + self.epsilon)

    def get_config(self) -> dict[str, object]:
        """The constructor's arguments."""
        return {"name": self.name, "reduction": self.reduction, "epsilon": self.epsilon}


def classification_loss(reduction: str | None = "sum_over_batch_size") -> keras.losses.Loss:
    """Cross-entropy (eq. 1) of probabilities [N, C] and true class [N]; without a reduction one value per case."""
    return keras.losses.SparseCategoricalCrossentropy(from_logits=False, dtype="float32", reduction=reduction)


def joint_loss(classification: tf.Tensor, segmentation: tf.Tensor, weight: float) -> tf.Tensor:
    """L = L_cla + lambda L_seg (eq. 4)."""
    return classification + weight * segmentation


def dice_score(reference: np.ndarray, predicted: np.ndarray) -> np.ndarray:
    """Dice 2 |A and B| / (|A| + |B|) of a reference and a thresholded soft mask [N, ...]; 1 if both are empty."""
    cases = len(reference)
    truth = np.asarray(reference).reshape(cases, -1) > 0
    found = np.asarray(predicted).reshape(cases, -1) >= MASK_THRESHOLD
    size = truth.sum(axis=1) + found.sum(axis=1)
    overlap = np.logical_and(truth, found).sum(axis=1)
    return np.where(size == 0, 1.0, 2.0 * overlap / np.maximum(size, 1))


def accuracy_score(label: np.ndarray, probabilities: np.ndarray) -> float:
    """Share of cases whose most probable class, of probabilities [N, C], is the true one [N]."""
    return float(np.mean(np.argmax(probabilities, axis=1) == label))


def auc_score(label: np.ndarray, probabilities: np.ndarray) -> float:
    """Area under the ROC curve of probabilities [N, C] for the true classes [N], each of which must occur.

    Of two classes it is the second one's; of more the mean over the classes, each against the rest. Ties count half.
    """
    classes = range(1 if probabilities.shape[1] == 2 else 0, probabilities.shape[1])
    return float(np.mean([_area(probabilities[label == c, c], probabilities[label != c, c]) for c in classes]))


def _area(positive: np.ndarray, negative: np.ndarray) -> np.floating:
    above, equal = positive[:, None] > negative, positive[:, None] == negative
    return np.mean(above + 0.5 * equal)


def cross_entropy(label: np.ndarray, probabilities: np.ndarray) -> float:
    """Mean negative log-probability of the true class (eq. 1), with Keras's clipping at 1e-7."""
    chosen = np.asarray(probabilities, np.float64)[np.arange(len(label)), label]
    return float(np.mean(-np.log(np.clip(chosen, 1e-7, 1.0))))


def dice_loss(reference: np.ndarray, predicted: np.ndarray, epsilon: float = 1e-6) -> np.ndarray:
    """Eq. 2, one value per case: the negative soft Dice, float64 [N]; arguments as in `dice_score`."""
    cases = len(reference)
    truth = np.asarray(reference, np.float64).reshape(cases, -1)
    found = np.asarray(predicted, np.float64).reshape(cases, -1)
    size = (truth**2).sum(axis=1) + (found**2).sum(axis=1)
    return -2.0 * (truth * found).sum(axis=1) / (size + epsilon)
