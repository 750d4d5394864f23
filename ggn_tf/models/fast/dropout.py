"""Dropout that does not depend on the number of replicas that share a batch."""

import keras
import tensorflow as tf

from ggn_tf.models.fast.batch_share import current_share


@keras.saving.register_keras_serializable(package="ggn_tf")
class Dropout(keras.layers.Dropout):
    """Keras's dropout. A replica with a share of a batch draws for the whole batch and takes its own rows.

    All replicas' generators have the same state, so together they drop what one device would drop.
    """

    def call(self, inputs: tf.Tensor, training: bool = False) -> tf.Tensor:
        """Drop inputs at random.

        Args:
            inputs: [N, C].
            training: Whether to drop.
        """
        share = current_share()
        if share is None or not training or self.rate == 0:
            return super().call(inputs, training=training)
        whole = tf.ones([share.whole, inputs.shape[-1]], inputs.dtype)
        scale = keras.random.dropout(whole, self.rate, seed=self.seed_generator)
        return inputs * scale[share.start : share.start + tf.shape(inputs)[0]]
