"""Not our network but with its inputs and outputs, because loading and exporting ours takes ten times as long."""

import keras

from tests.support.tiny_protocol import TINY


def build_small_model(policy: str = "float32", *, classes: int = 3, seed: int = 1) -> keras.Model:
    """All outputs are in float32. The weights are random: a swapped weight would show."""
    keras.utils.set_random_seed(seed)
    patch = keras.Input((TINY.patch.size,) * 3 + (1,), name="patch")
    convolution = keras.layers.Conv3D(
        2, 3, padding="same", bias_initializer="random_normal", activation="relu", dtype=policy
    )
    features = convolution(patch)
    mask = keras.layers.Conv3D(1, 1, activation="sigmoid", dtype="float32", name="mask")(features)
    pooled = keras.layers.GlobalAveragePooling3D()(keras.layers.Multiply()([features, mask]))
    dense = keras.layers.Dense(classes, "softmax", kernel_initializer=keras.initializers.RandomNormal(stddev=8.0))
    return keras.Model(patch, {"mask": mask, "probabilities": dense(pooled)})
