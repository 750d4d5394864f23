"""The systems of the paper's Fig. 3: how the mask reaches the classifier.

(a) and (b) only classify, on the patch or its product with the reference; in the cascade (c, d) the soft predicted mask
multiplies the patch before the classifier sees it; (e) is a U-Net with a classification branch (section 2.3).
"""

import typing

import keras

from ggn_tf.models.blocks import make_blocks
from ggn_tf.models.cnn import build_cnn
from ggn_tf.models.names import CASCADE, CLASSIFICATION, MULTITASK, RAW, REFERENCE
from ggn_tf.models.unet import build_unet, contract, expand
from ggn_tf.protocol import Protocol


class Builder(typing.Protocol):
    """Builds a network with its initial weights."""

    def __call__(
        self, classes: int, protocol: Protocol, *, precision: str = "float32", seed: int = 0, stock: bool = False
    ) -> keras.Model:
        """Build the network for the task's number of classes, `float32` or `bfloat16`.

        The seed is of the initial weights and the dropout. `stock` Keras layers are for comparison; the weights are
        interchangeable.

        Returns:
            A functional model that takes the patch, [N, 32, 32, 32, 1] float32 (z, y, x) normalised to [-1, 1], and
            returns float32 outputs by name.
        """


def masked(patch: keras.KerasTensor, mask: keras.KerasTensor, background: float = 0.0) -> keras.KerasTensor:
    """Multiply patch [-1, 1] and mask [0, 1], both [N, S, S, S, 1], in float32 (eq. 3).

    What is outside the mask becomes `background`: p m + b (1 - m) = (p - b) m + b.
    """
    multiply = keras.layers.Multiply(dtype="float32", name="masked_patch")
    if background == 0:
        return multiply([patch, mask])
    raised = keras.layers.Rescaling(1.0, -background, dtype="float32", name="without_background")(patch)
    return keras.layers.Rescaling(1.0, background, dtype="float32", name="background")(multiply([raised, mask]))


def build_raw(
    classes: int, protocol: Protocol, *, precision: str = "float32", seed: int = 0, stock: bool = False
) -> keras.Model:
    """Build the classifier `classification` on the whole patch (Fig. 3 a) -> `probabilities` [N, classes]."""
    classification = build_cnn(classes, protocol, precision=precision, seed=seed, stock=stock)
    patch = keras.Input(classification.input_shape[1:], name="patch")
    return keras.Model(patch, {"probabilities": classification(patch)}, name=RAW)


def build_reference(
    classes: int, protocol: Protocol, *, precision: str = "float32", seed: int = 0, stock: bool = False
) -> keras.Model:
    """Build the classifier that sees what is inside the expert's mask (Fig. 3 b); its output is as (a)'s.

    It takes `patch`, and `mask` [N, 32, 32, 32, 1] in [0, 1]. With an automatic mask it is the system of the paper's
    Table 4.
    """
    classification = build_cnn(classes, protocol, precision=precision, seed=seed, stock=stock)
    shape = classification.input_shape[1:]
    patch, mask = keras.Input(shape, name="patch"), keras.Input(shape, name="mask")
    probabilities = classification(masked(patch, mask, protocol.masking.background))
    return keras.Model({"patch": patch, "mask": mask}, {"probabilities": probabilities}, name=REFERENCE)


def build_cascade(
    classes: int, protocol: Protocol, *, precision: str = "float32", seed: int = 0, stock: bool = False
) -> keras.Model:
    """Build one graph of `segmentation` and `classification` (Fig. 3 c, d) -> `mask` and `probabilities`."""
    segmentation = build_unet(protocol, precision=precision, seed=seed, stock=stock)
    classification = build_cnn(classes, protocol, precision=precision, seed=seed, stock=stock)
    patch = keras.Input(segmentation.input_shape[1:], name="patch")
    mask = segmentation(patch)
    probabilities = classification(masked(patch, mask, protocol.masking.background))
    return keras.Model(patch, {"mask": mask, "probabilities": probabilities}, name=CASCADE)


def build_multitask(
    classes: int, protocol: Protocol, *, precision: str = "float32", seed: int = 0, stock: bool = False
) -> keras.Model:
    """Build the U-Net with fully connected blocks on its 8th block's map (Fig. 3 e) -> as the cascade's."""
    blocks = make_blocks(MULTITASK, protocol, precision=precision, seed=seed, stock=stock)
    patch = keras.Input((protocol.patch.size,) * 3 + (1,), name="patch")
    bottleneck, skips = contract(patch, protocol.unet, blocks)
    features = blocks.plain(bottleneck)
    # A sub-model, so that the order of the weights does not depend on how deep the decoder beside it is.
    branch = keras.Input(features.shape[1:], dtype=features.dtype, name="features")
    classification = keras.Model(branch, blocks.classifier(branch, protocol.cnn.fc_units, classes), name=CLASSIFICATION)
    mask = expand(bottleneck, skips, protocol.unet, blocks)
    return keras.Model(patch, {"mask": mask, "probabilities": classification(features)}, name=MULTITASK)


BUILDERS: dict[str, Builder] = {
    RAW: build_raw,
    REFERENCE: build_reference,
    CASCADE: build_cascade,
    MULTITASK: build_multitask,
}
