"""The Hadamard product of patch and mask (paper eq. 3)."""

import keras


def masked(patch: keras.KerasTensor, mask: keras.KerasTensor) -> keras.KerasTensor:
    """Multiply the normalised patch by a mask in [0, 1], in float32: background becomes 0.

    Args:
        patch: [N, S, S, S, 1] in [-1, 1].
        mask: [N, S, S, S, 1] in [0, 1].
    """
    return keras.layers.Multiply(dtype="float32", name="masked_patch")([patch, mask])
