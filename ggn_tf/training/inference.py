"""A network's answers as a graph."""

from collections.abc import Callable
from typing import Any

import tensorflow as tf


def traced_inference(network: Callable[..., dict[str, tf.Tensor]], shape: tuple[int | None, ...]) -> Any:
    """Trace a network once, for any number of cases; the weights are read anew at every call.

    A concrete function: of others TensorFlow warns when a process makes several, as it does for stages and their sets.

    Args:
        network: `network(patch, mask, training=False)` answers `mask`, `probabilities` or both.
        shape: Of a batch of patches, [None, S, S, S, 1].

    Returns:
        Takes patches and reference masks, float32 of the shape; answers as the network. Its `graph` can be looked at.
    """
    patches = tf.TensorSpec(shape, tf.float32)
    traced = tf.function(lambda patch, mask: network(patch, mask, training=False))
    return traced.get_concrete_function(patches, patches)
