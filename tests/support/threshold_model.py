"""A model with a known mask: everything denser than a threshold is the nodule."""

import keras

from ggn_tf.protocol import PatchProtocol

THRESHOLD_HU = -675.0


def build_threshold_model(patch: PatchProtocol) -> keras.Model:
    """Patch in [-1, 1] -> mask near 1 above THRESHOLD_HU and near 0 below; two classes, the first with p 0.73."""
    low, high = patch.window_hu
    level = 2 * (THRESHOLD_HU - low) / (high - low) - 1
    inputs = keras.Input((patch.size,) * 3 + (1,), name="patch")
    mask = keras.layers.Rescaling(200.0, -200.0 * level)(inputs)
    mask = keras.layers.Activation("sigmoid", name="mask")(mask)
    pooled = keras.layers.GlobalAveragePooling3D()(mask)
    dense = keras.layers.Dense(2, "softmax", kernel_initializer="zeros")
    classes = dense(pooled)
    dense.bias.assign([1.0, 0.0])
    return keras.Model(inputs, {"mask": mask, "probabilities": classes})
