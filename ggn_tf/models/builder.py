"""What builds a system of the paper's Fig. 3, described once."""

import typing

import keras

from ggn_tf.protocol import Protocol


class Builder(typing.Protocol):
    """Builds a network with its initial weights."""

    def __call__(
        self, classes: int, protocol: Protocol, *, precision: str = "float32", seed: int = 0, stock: bool = False
    ) -> keras.Model:
        """Build the network.

        Args:
            classes: Number of the task's classes.
            protocol: The paper's numbers.
            precision: `float32` or `bfloat16`.
            seed: Seed of the initial weights and the dropout.
            stock: Whether to use stock Keras layers, for comparison; the weights are interchangeable.

        Returns:
            A functional model that takes the patch, [N, 32, 32, 32, 1] float32 (z, y, x) normalised to [-1, 1], and
            returns float32 outputs by name.
        """
