"""The cascade: the segmenter's soft mask multiplies the patch before the classifier sees it (paper Fig. 3 c, d)."""

import keras

from ggn_tf.models.cnn import build_cnn
from ggn_tf.models.masking import masked
from ggn_tf.models.names import CASCADE
from ggn_tf.models.unet import build_unet
from ggn_tf.protocol import Protocol


def build_cascade(
    classes: int, protocol: Protocol, *, precision: str = "float32", seed: int = 0, stock: bool = False
) -> keras.Model:
    """Build one graph of both networks, its sub-models `segmentation` and `classification`; arguments as `Builder`.

    Returns:
        Patch [N, 32, 32, 32, 1] float32, normalised to [-1, 1] -> `{"mask": [N, 32, 32, 32, 1], "probabilities":
        [N, classes]}`, both float32.
    """
    segmentation = build_unet(protocol, precision=precision, seed=seed, stock=stock)
    classification = build_cnn(classes, protocol, precision=precision, seed=seed, stock=stock)
    patch = keras.Input(segmentation.input_shape[1:], name="patch")
    mask = segmentation(patch)
    return keras.Model(patch, {"mask": mask, "probabilities": classification(masked(patch, mask))}, name=CASCADE)
