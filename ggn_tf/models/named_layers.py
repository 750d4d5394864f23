"""The layers of a network by name, the same whichever of the paper's systems they are in."""

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import keras

from ggn_tf.models.names import CLASSIFICATION, MULTITASK, SEGMENTATION

HEAD = "probabilities"
"""The last layer of a classifier, which has one unit per class."""
_BRANCH = "branch"
_WEIGHTED = ("Conv3D", "BatchNormalization", "Dense")


def named_layers(model: keras.Model) -> dict[str, keras.layers.Layer]:
    """The layers that have weights, in the order of the network, for example `segmentation/conv_1`.

    A multi-task network's U-Net is its `segmentation` too; its fully connected layers, which see other features than
    those of a `classification`, are its `branch`.
    """
    return {layer_name(model.name, path): layer for path, layer in _layers(model) if layer.weights}


def _layers(model: keras.Model, prefix: str = "") -> Iterator[tuple[str, keras.layers.Layer]]:
    for layer in model.layers:
        if isinstance(layer, keras.Model):
            yield from _layers(layer, f"{layer.name}/")
        else:
            yield prefix + layer.name, layer


def layer_name(model: str, path: str) -> str:
    """The name of a layer, of its path in a model of this kind."""
    if model != MULTITASK:
        return path
    return path.replace(CLASSIFICATION, _BRANCH, 1) if path.startswith(CLASSIFICATION) else f"{SEGMENTATION}/{path}"


def configured_layers(config: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Mapping[str, Any]]]:
    """Path and configuration of the layers that have weights, from a functional model's configuration.

    Raises:
        KeyError, TypeError: It is not one.
    """
    for layer in config["layers"]:
        inner = layer["config"]
        if "layers" in inner:
            yield from configured_layers(inner, f"{layer['name']}/")
        elif layer["class_name"] in _WEIGHTED:
            yield f"{prefix}{layer['name']}", inner


def first_blocks(names: Iterable[str], count: int) -> tuple[str, ...]:
    """The layers of the first `count` convolution blocks, from the input, of each part of a network."""
    blocks = {f"{kind}_{number}" for kind in ("conv", "norm") for number in range(1, count + 1)}
    return tuple(name for name in names if name.rsplit("/", 1)[-1] in blocks)


def part_of(name: str) -> str:
    """The part of the network that a layer is in: `segmentation`, `classification` or `branch`."""
    return name.split("/", 1)[0]
