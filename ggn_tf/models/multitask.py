"""The multi-task baseline: a U-Net with a classification branch (paper section 2.3, Fig. 3 e)."""

import keras

from ggn_tf.models.blocks import StockBlocks
from ggn_tf.models.unet import contract, expand
from ggn_tf.protocol import Protocol


def build_multitask(
    classes: int, protocol: Protocol, *, precision: str = "float32", seed: int = 0, name: str = "multitask"
) -> keras.Model:
    """Build the U-Net with 3 fully connected blocks on its bottleneck, the 8th block's map.

    Args:
        classes: Classes of the task.
        protocol: The paper's numbers.
        precision: `float32` or `bfloat16`.
        seed: Draws the initial weights and the dropout.
        name: The model's name.

    Returns:
        Patch [N, 32, 32, 32, 1] float32, normalised to [-1, 1] -> `{"mask": [N, 32, 32, 32, 1], "probabilities":
        [N, classes]}`, both float32.
    """
    blocks = StockBlocks(name, protocol, precision=precision, seed=seed)
    patch = keras.Input((protocol.patch.size,) * 3 + (1,), name="patch")
    bottleneck, skips = contract(patch, protocol.unet, blocks)
    probabilities = blocks.classifier(bottleneck, protocol.cnn.fc_units, classes)
    mask = expand(bottleneck, skips, protocol.unet, blocks)
    return keras.Model(patch, {"mask": mask, "probabilities": probabilities}, name=name)
