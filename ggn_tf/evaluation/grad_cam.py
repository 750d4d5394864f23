"""Where in a patch the classifier finds its evidence: 3D Grad-CAM of the last convolution of `classification`."""

import keras
import numpy as np
import tensorflow as tf

from ggn_tf.models.names import CLASSIFICATION


def class_activation(classifier: keras.Model, seen: np.ndarray, target: np.ndarray) -> np.ndarray:
    """Grad-CAM (Selvaraju et al. 2017) of a classifier that flattens its last maps.

    The evidence is the target's logit minus the mean of the others': softmax sees nothing else of the logits, and the
    probability's own gradient would vanish for sure answers. The gradient is taken voxel by voxel instead of averaged
    over the map (HiResCAM, Draelos and Carin 2020): our classifier weighs every place by itself, and an average would
    show places that it never read. For a classifier with global average pooling both are the same.

    Args:
        classifier: Ends in Flatten, fully connected blocks and a softmax layer.
        seen: float32 [N, ...], what the classifier is given: the patch, the masked patch, or a network's maps.
        target: Class index [N], whose evidence is shown.

    Returns:
        float32 [N, D, H, W] on the grid of the last maps, evidence for the target only (ReLU), each scaled so that its
        largest value is 1; all zero where no voxel speaks for it.

    Raises:
        ValueError: The classifier has another form.
    """
    layers = list(classifier.layers)
    flatten = next((index for index, layer in enumerate(layers) if isinstance(layer, keras.layers.Flatten)), None)
    if flatten is None or not isinstance(layers[-1], keras.layers.Dense) or layers[-1].units < 2:
        raise ValueError(f"Expected a classifier of Flatten and Dense layers. Received: {classifier.name}.")
    maps = tf.cast(keras.Model(classifier.input, layers[flatten].input)(seen, training=False), tf.float32)
    with tf.GradientTape() as tape:
        tape.watch(maps)
        logits = _logits(maps, layers[flatten:])
        chosen = tf.one_hot(target, logits.shape[1])
        others = (1 - chosen) / (logits.shape[1] - 1)
        data = tf.reduce_sum(logits * (chosen - others), axis=1)
    gradient = tape.gradient(data, maps)
    heat = tf.nn.relu(tf.reduce_sum(gradient * maps, axis=-1)).numpy()
    largest = heat.reshape(len(heat), -1).max(axis=1)
    scaled: np.ndarray = heat / np.where(largest > 0, largest, 1).reshape(-1, 1, 1, 1)
    return scaled.astype(np.float32)


def enlarge(heat: np.ndarray, size: int) -> np.ndarray:
    """Bring maps to the patch's grid by linear interpolation between voxel centres.

    Args:
        heat: float32 [N, D, H, W].
        size: Voxels of the patch along each axis.

    Returns:
        float32 [N, size, size, size].
    """
    for axis in (1, 2, 3):
        voxels = heat.shape[axis]
        # Voxel centres of the patch in the map's own index, kept inside it.
        places = np.clip((np.arange(size) + 0.5) * voxels / size - 0.5, 0, voxels - 1)
        low = np.minimum(places.astype(int), max(voxels - 2, 0))
        share = (places - low).reshape([-1 if each == axis else 1 for each in range(4)])
        high = np.minimum(low + 1, voxels - 1)
        heat = heat.take(low, axis=axis) * (1 - share) + heat.take(high, axis=axis) * share
    return heat.astype(np.float32)


def explain_patches(model: keras.Model, patch: np.ndarray, reference: np.ndarray, target: np.ndarray) -> np.ndarray:
    """Grad-CAM of a run's model on whole patches.

    Args:
        model: A functional model with a sub-model `classification`.
        patch: float32 [N, S, S, S, 1], normalised to [-1, 1].
        reference: The expert's masks, the same shape; only the model `reference` sees them.
        target: Class index [N].

    Returns:
        float32 [N, S, S, S] in [0, 1].
    """
    classifier = model.get_layer(CLASSIFICATION)
    # What the classifier is given where the model calls it: for a cascade the masked patch.
    before = keras.Model(model.input, classifier._inbound_nodes[-1].arguments.keras_tensors[0])
    given = {"patch": patch, "mask": reference} if len(model.inputs) == 2 else patch
    seen = before(given, training=False)
    return enlarge(class_activation(classifier, seen, target), patch.shape[1])


def _logits(maps: tf.Tensor, layers: list[keras.layers.Layer]) -> tf.Tensor:
    """The softmax layer's input: what its weights make of what the layers before it give."""
    x = maps
    for layer in layers[:-1]:
        x = layer(x, training=False)
    last = layers[-1]
    return tf.matmul(tf.cast(x, tf.float32), tf.cast(last.kernel, tf.float32)) + tf.cast(last.bias, tf.float32)
