"""The baselines that only classify: on the patch as it is, or masked by the reference (paper Fig. 3 a and b)."""

import keras

from ggn_tf.models.cnn import build_cnn
from ggn_tf.models.masking import masked
from ggn_tf.models.names import RAW, REFERENCE
from ggn_tf.protocol import Protocol


def build_raw(
    classes: int, protocol: Protocol, *, precision: str = "float32", seed: int = 0, stock: bool = False
) -> keras.Model:
    """Build the classifier that sees the whole patch (Fig. 3 a); arguments as `Builder`.

    Returns:
        Patch [N, 32, 32, 32, 1] float32, normalised to [-1, 1] -> `{"probabilities": [N, classes]}` float32. The
        network is the sub-model `classification`, the same as the cascade's.
    """
    classification = build_cnn(classes, protocol, precision=precision, seed=seed, stock=stock)
    patch = keras.Input(classification.input_shape[1:], name="patch")
    return keras.Model(patch, {"probabilities": classification(patch)}, name=RAW)


def build_reference(
    classes: int, protocol: Protocol, *, precision: str = "float32", seed: int = 0, stock: bool = False
) -> keras.Model:
    """Build the classifier that sees what is inside the expert's mask (Fig. 3 b); arguments as `Builder`.

    Returns:
        `{"patch": [N, 32, 32, 32, 1] in [-1, 1], "mask": [N, 32, 32, 32, 1] in [0, 1]}` float32 ->
        `{"probabilities": [N, classes]}` float32. With an automatic mask it is the system of the paper's Table 4.
    """
    classification = build_cnn(classes, protocol, precision=precision, seed=seed, stock=stock)
    shape = classification.input_shape[1:]
    patch, mask = keras.Input(shape, name="patch"), keras.Input(shape, name="mask")
    probabilities = classification(masked(patch, mask))
    return keras.Model({"patch": patch, "mask": mask}, {"probabilities": probabilities}, name=REFERENCE)
