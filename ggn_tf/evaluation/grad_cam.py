"""3D Grad-CAM: which parts of a patch speak for a class in the last convolution of `classification`."""

import keras
import numpy as np
import tensorflow as tf
from scipy.ndimage import zoom

from ggn_tf.models.names import CLASSIFICATION


def class_activation(classifier: keras.Model, inputs: np.ndarray, target: np.ndarray) -> np.ndarray:
    """Grad-CAM (Selvaraju et al. 2017) of a classifier that flattens its last maps.

    What is explained is the target's logit minus the mean of the others: softmax depends on nothing else of the logits,
    and the gradient of the probability itself would vanish for confident predictions. The gradient is taken voxel by
    voxel instead of averaged over the map (HiResCAM, Draelos and Carin 2020): this classifier weighs every location
    separately, and an average would show locations that it never read. With global average pooling both are the same.

    Args:
        classifier: Ends in Flatten, fully connected blocks and a softmax layer.
        inputs: float32 [N, ...], the classifier's inputs: the patch, the masked patch, or a network's maps.
        target: Class index [N].

    Returns:
        float32 [N, D, H, W] on the grid of the last maps, positive contributions only (ReLU), each map scaled to a
        maximum of 1; all zero where no voxel speaks for the target.

    Raises:
        ValueError: The classifier has another form.
    """
    layers = list(classifier.layers)
    flatten = next((index for index, layer in enumerate(layers) if isinstance(layer, keras.layers.Flatten)), None)
    if flatten is None or not isinstance(layers[-1], keras.layers.Dense) or layers[-1].units < 2:
        raise ValueError(f"Expected a classifier of Flatten and Dense layers. Received: {classifier.name}.")
    maps = tf.cast(keras.Model(classifier.input, layers[flatten].input)(inputs, training=False), tf.float32)
    with tf.GradientTape() as tape:
        tape.watch(maps)
        logits = _logits(maps, layers[flatten:])
        chosen = tf.one_hot(target, logits.shape[1])
        others = (1 - chosen) / (logits.shape[1] - 1)
        difference = tf.reduce_sum(logits * (chosen - others), axis=1)
    gradient = tape.gradient(difference, maps)
    heat = tf.nn.relu(tf.reduce_sum(gradient * maps, axis=-1)).numpy()
    largest = heat.reshape(len(heat), -1).max(axis=1)
    scaled: np.ndarray = heat / np.where(largest > 0, largest, 1).reshape(-1, 1, 1, 1)
    return scaled.astype(np.float32)


def enlarge(heat: np.ndarray, size: int) -> np.ndarray:
    """Interpolate maps linearly between voxel centres onto the patch's grid.

    Args:
        heat: float32 [N, D, H, W].
        size: Number of voxels of the patch along each axis.

    Returns:
        float32 [N, size, size, size].
    """
    factors = (1, *(size / voxels for voxels in heat.shape[1:]))
    enlarged: np.ndarray = zoom(heat, factors, order=1, mode="nearest", grid_mode=True)
    return enlarged


def explain_patches(model: keras.Model, patch: np.ndarray, reference: np.ndarray, target: np.ndarray) -> np.ndarray:
    """Grad-CAM of a run's model on whole patches.

    Args:
        model: A functional model with a sub-model `classification`.
        patch: float32 [N, S, S, S, 1], normalised to [-1, 1].
        reference: Reference masks of the same shape; only the model `reference` uses them.
        target: Class index [N].

    Returns:
        float32 [N, S, S, S] in [0, 1].
    """
    classifier = model.get_layer(CLASSIFICATION)
    # The classifier's input where the model calls it: for a cascade the masked patch.
    before = keras.Model(model.input, classifier._inbound_nodes[-1].arguments.keras_tensors[0])
    inputs = before({"patch": patch, "mask": reference} if len(model.inputs) == 2 else patch, training=False)
    return enlarge(class_activation(classifier, inputs, target), patch.shape[1])


def _logits(maps: tf.Tensor, layers: list[keras.layers.Layer]) -> tf.Tensor:
    """The input of the softmax."""
    x = maps
    for layer in layers[:-1]:
        x = layer(x, training=False)
    last = layers[-1]
    return tf.matmul(tf.cast(x, tf.float32), tf.cast(last.kernel, tf.float32)) + tf.cast(last.bias, tf.float32)
