"""The inference-only form of a trained network."""

from collections.abc import Iterator
from typing import Any

import keras
import numpy as np

from ggn_tf.models.fast.convolution import Conv3D


def fold(model: keras.Model) -> keras.Model:
    """Fold every batch normalisation into the preceding convolution, and leave out dropout.

    In inference, batch normalisation of a convolution with kernel k and bias b is a linear function of each channel,

        gamma (k * x + b - mean) / sqrt(variance + epsilon) + beta  =  (s k) * x + (s (b - mean) + beta)

    with s = gamma / sqrt(variance + epsilon): a convolution with kernel s k. TensorFlow computes a convolution with the
    following bias and ReLU as one operation on a CPU. In a bfloat16 network these kernels are stored rounded; the
    trainable network rounds them at each call. The lattice layout (see `space_to_batch`) is the one along the batch,
    which every device computes.

    The model may have sub-models, as a cascade, of fast or stock layers. The result shares nothing with it, has the
    same name, inputs and outputs, and equal predictions, whatever `training` is.
    """
    norms = dict(_norms_behind_convolutions(model))
    folded_norms = {id(norm) for norm in norms.values()}
    copies: list[tuple[keras.layers.Layer, list[np.ndarray]]] = []

    def clone(layer: Any) -> Any:
        if not isinstance(layer, keras.layers.Layer):
            return layer
        if id(layer) in folded_norms or isinstance(layer, keras.layers.Dropout):
            return _Nothing(name=layer.name)
        norm = norms.get(id(layer))
        copy = _folded_convolution(layer, norm) if norm else type(layer).from_config(_inference_config(layer))
        copies.append((copy, _folded_weights(layer, norm) if norm else layer.get_weights()))
        return copy

    folded = keras.models.clone_model(model, clone_function=clone, call_function=_call, recursive=True)
    folded.trainable = False
    for copy, weights in copies:
        copy.set_weights(weights)
    return folded


class _Nothing(keras.layers.Layer):
    """Placeholder for a layer that is left out while the graph is cloned; `_call` does not call it."""


def _call(layer: keras.layers.Layer, *inputs: Any, **options: Any) -> Any:
    if isinstance(layer, _Nothing):
        return inputs[0]
    outputs = layer(*inputs, **options)
    if isinstance(layer, Conv3D) and not layer.contrast:
        # The second takes the place of the bias that the convolution returned separately; it is unused.
        return outputs, outputs
    return outputs


def _norms_behind_convolutions(model: keras.Model) -> Iterator[tuple[int, keras.layers.BatchNormalization]]:
    """The id of each convolution that a batch normalisation follows, and that normalisation; in sub-models too."""
    sources = {id(tensor): layer for layer in model.layers for tensor in keras.tree.flatten(layer.output)}
    for layer in model.layers:
        if isinstance(layer, keras.Model):
            yield from _norms_behind_convolutions(layer)
        elif isinstance(layer, keras.layers.BatchNormalization):
            source = sources.get(id(keras.tree.flatten(layer.input)[0]))
            if isinstance(source, keras.layers.Conv3D):
                yield id(source), layer


def _folded_convolution(convolution: keras.layers.Conv3D, norm: keras.layers.BatchNormalization) -> Conv3D:
    config = {**_inference_config(convolution), "bias_apart": False}
    config["activation"] = norm.get_config().get("activation", "linear")
    return Conv3D.from_config({**config, "dtype": convolution.compute_dtype})


def _folded_weights(convolution: keras.layers.Conv3D, norm: keras.layers.BatchNormalization) -> list[np.ndarray]:
    kernel, bias = (weight.astype("float64") for weight in convolution.get_weights())
    statistics = {weight.name: weight.numpy().astype("float64") for weight in norm.weights}
    scale = statistics.get("gamma", 1.0) / np.sqrt(statistics["moving_variance"] + norm.epsilon)
    offset = scale * (bias - statistics["moving_mean"]) + statistics.get("beta", 0.0)
    return [kernel * scale, offset]


def _inference_config(layer: keras.layers.Layer) -> dict[str, Any]:
    config = dict(layer.get_config())
    if "kernel_regularizer" in config:
        config["kernel_regularizer"] = None
    if "interleaved" in config:
        config["interleaved"] = False
    if isinstance(layer, keras.layers.Dense):
        config["dtype"] = layer.compute_dtype
    return config
