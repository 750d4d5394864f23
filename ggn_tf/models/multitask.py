"""The multi-task baseline: a U-Net with a classification branch (paper section 2.3, Fig. 3 e)."""

import keras

from ggn_tf.models.blocks import make_blocks
from ggn_tf.models.names import CLASSIFICATION, MULTITASK
from ggn_tf.models.unet import contract, expand
from ggn_tf.protocol import Protocol


def build_multitask(
    classes: int,
    protocol: Protocol,
    *,
    precision: str = "float32",
    seed: int = 0,
    stock: bool = False,
    name: str = MULTITASK,
) -> keras.Model:
    """Build the U-Net with 3 fully connected blocks on its bottleneck, the 8th block's map.

    The arguments are those of a `Builder`; `name` is part of every layer's seed.

    Returns:
        Patch [N, 32, 32, 32, 1] float32, normalised to [-1, 1] -> `{"mask": [N, 32, 32, 32, 1], "probabilities":
        [N, classes]}`, both float32.
    """
    blocks = make_blocks(name, protocol, precision=precision, seed=seed, stock=stock)
    patch = keras.Input((protocol.patch.size,) * 3 + (1,), name="patch")
    bottleneck, skips = contract(patch, protocol.unet, blocks)
    features = blocks.plain(bottleneck)
    # A sub-model, so that the order of the weights does not depend on how deep the decoder beside it is.
    branch = keras.Input(features.shape[1:], dtype=features.dtype, name="features")
    classification = keras.Model(branch, blocks.classifier(branch, protocol.cnn.fc_units, classes), name=CLASSIFICATION)
    mask = expand(bottleneck, skips, protocol.unet, blocks)
    return keras.Model(patch, {"mask": mask, "probabilities": classification(features)}, name=name)
