"""The paper's losses: eq. 1, 2 and 4. Computed in float32 whatever the network's precision."""

import keras
import tensorflow as tf


@keras.saving.register_keras_serializable(package="ggn_tf")
class DiceLoss(keras.losses.Loss):
    """Dice loss with a squared denominator, one value per sample, averaged over the batch (eq. 2).

    L = -1/N sum_N  2 sum_i s_gt s_pre / (sum_i s_gt^2 + sum_i s_pre^2 + n)

    The sums run over a sample's voxels, so a small nodule weighs as much as a large one. The value is in [-1, 0]: a
    perfect mask reaches -1, lower is better. If neither the reference nor the prediction has a nodule voxel, it is 0:
    `epsilon` keeps the quotient defined, but does not reward an empty prediction.

    Args:
        epsilon: The paper's n, "a small value" that it does not give.
        name: Name of the loss.
        reduction: By default the average over the batch; None for one value per sample.
    """

    def __init__(
        self, epsilon: float = 1e-6, name: str = "dice_loss", reduction: str | None = "sum_over_batch_size"
    ) -> None:
        super().__init__(name=name, reduction=reduction)
        self.epsilon = epsilon

    def call(self, y_true: tf.Tensor, y_pred: tf.Tensor) -> tf.Tensor:
        """One loss per sample.

        Args:
            y_true: Reference mask [N, D, H, W, 1], 0 or 1.
            y_pred: Soft nodule mask [N, D, H, W, 1] in [0, 1].

        Returns:
            float32 [N].
        """
        reference, predicted = tf.cast(y_true, tf.float32), tf.cast(y_pred, tf.float32)
        voxels = list(range(1, reference.shape.rank))
        overlap = tf.reduce_sum(reference * predicted, voxels)
        size = tf.reduce_sum(tf.square(reference), voxels) + tf.reduce_sum(tf.square(predicted), voxels)
        return -2.0 * overlap / (size + self.epsilon)

    def get_config(self) -> dict[str, object]:
        """The constructor's arguments."""
        return {"name": self.name, "reduction": self.reduction, "epsilon": self.epsilon}


def classification_loss(reduction: str | None = "sum_over_batch_size") -> keras.losses.Loss:
    """Cross-entropy between class probabilities and the true class (eq. 1).

    Takes class indices [N] and probabilities [N, C].

    Args:
        reduction: By default the average over the batch; None for one value per case.
    """
    return keras.losses.SparseCategoricalCrossentropy(from_logits=False, dtype="float32", reduction=reduction)


def joint_loss(classification: tf.Tensor, segmentation: tf.Tensor, weight: float) -> tf.Tensor:
    """L = L_cla + lambda L_seg (eq. 4)."""
    return classification + weight * segmentation
