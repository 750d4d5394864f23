"""A network's predictions as a traced graph."""

from collections.abc import Callable
from typing import Any

import tensorflow as tf


def traced_inference(network: Callable[..., dict[str, tf.Tensor]], shape: tuple[int | None, ...]) -> Any:
    """Trace a network once, for any number of cases; the weights are read at every call.

    The result is a concrete function: TensorFlow warns if a process makes several of the other kind, as training does
    for stages and their sets.

    Args:
        network: `network(patch, mask, training=False)` returns `mask`, `probabilities` or both.
        shape: Shape of a batch of patches, [None, S, S, S, 1].

    Returns:
        Takes patches and reference masks, float32 of the shape; returns what the network does. Has a `graph`.
    """
    patches = tf.TensorSpec(shape, tf.float32)
    traced = tf.function(lambda patch, mask: network(patch, mask, training=False))
    return traced.get_concrete_function(patches, patches)
