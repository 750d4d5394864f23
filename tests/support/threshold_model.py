"""A model with a known mask: everything denser than a threshold is the nodule."""

import dataclasses
from pathlib import Path

import keras

from ggn_tf.protocol import PatchProtocol
from ggn_tf.serving.export.version_writer import export_model
from ggn_tf.tasks import INDOLENT_INVASIVE
from tests.support.tiny_protocol import tiny_protocol

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


def export_threshold_model(folder: Path) -> Path:
    """Export it, as trained with centres up to 8 mm beside the nodule's, so that `predict` moves them."""
    tiny = tiny_protocol(size=32)
    segment = dataclasses.replace(tiny.training.segment, shift_mm=8.0)
    protocol = dataclasses.replace(tiny, training=dataclasses.replace(tiny.training, segment=segment))
    export_model(build_threshold_model(protocol.patch), INDOLENT_INVASIVE, protocol, folder)
    return folder
