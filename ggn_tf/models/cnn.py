"""The classifier (paper section 2.1, Fig. 2a)."""

import keras

from ggn_tf.models.blocks import make_blocks, pairs
from ggn_tf.models.names import CLASSIFICATION
from ggn_tf.protocol import Protocol


def build_cnn(
    classes: int, protocol: Protocol, *, precision: str = "float32", seed: int = 0, stock: bool = False
) -> keras.Model:
    """Build the 3D CNN; a `Builder`'s patches -> probabilities [N, classes]."""
    blocks = make_blocks(CLASSIFICATION, protocol, precision=precision, seed=seed, stock=stock)
    patch = x = keras.Input((protocol.patch.size,) * 3 + (1,), name="patch")
    for level, (first, second) in enumerate(pairs(protocol.cnn.channels)):
        x = blocks.pool(x) if level else x
        x = blocks.convolution(x, first)
        x = blocks.convolution(x, second)
    return keras.Model(patch, blocks.classifier(x, protocol.cnn.fc_units, classes), name=CLASSIFICATION)
