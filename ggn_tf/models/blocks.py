"""The blocks of the paper's Fig. 2, made of stock Keras layers or of ours, which are exact and faster."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import keras
import numpy as np

from ggn_tf.models import fast as layers
from ggn_tf.models.fast.space_to_batch import fitting_lattice, plain_grid
from ggn_tf.models.fast.special_convolutions import dilates_natively
from ggn_tf.protocol import Protocol

PRECISIONS = {"float32": "float32", "bfloat16": "mixed_bfloat16"}


class StockBlocks:
    """Makes the blocks of one network, numbers them and draws each layer's seed, of which the network's name is a part.

    A block takes a map and returns the next one, so that a builder reads like the figure. With the precision `bfloat16`
    convolutions and maps are in bfloat16; weights, batch-norm statistics, the last layers and all outputs in float32.

    Raises:
        ValueError: The precision is neither `float32` nor `bfloat16`.
    """

    _dropout_layer: type[keras.layers.Dropout] = keras.layers.Dropout

    def __init__(self, network: str, protocol: Protocol, *, precision: str = "float32", seed: int = 0) -> None:
        if precision not in PRECISIONS:
            raise ValueError(f"Expected a precision among {', '.join(PRECISIONS)}. Received: {precision!r}.")
        self.protocol = protocol
        self.network = network
        self.seed = seed
        self.policy = keras.DTypePolicy(PRECISIONS[precision])
        self._counts: dict[str, int] = {}

    def convolution(self, x: keras.KerasTensor, channels: int, dilation: int = 1) -> keras.KerasTensor:
        """A convolution block on [N, D, H, W, C]: Conv3D 3^3, dilated, batch normalisation, ReLU (section 2.1)."""
        name = self._next("conv")
        x = keras.layers.Conv3D(
            channels, 3, padding="same", dilation_rate=dilation, dtype=self.policy, name=name, **self._weights(name)
        )(x)
        return self._normalise(x)

    def pool(self, x: keras.KerasTensor) -> keras.KerasTensor:
        """Max-pooling of scale 2."""
        return keras.layers.MaxPooling3D(2, dtype=self.policy, name=self._next("pool"))(x)

    def up_convolution(
        self, x: keras.KerasTensor, skip: keras.KerasTensor, channels: int, dilation: int = 1
    ) -> keras.KerasTensor:
        """Up-sampling of scale 2 (nearest), concatenation with the skipped map, and a convolution block.

        The map is [N, D/2, H/2, W/2, C]; the skipped one, from before the matching max-pooling, [N, D, H, W, S].
        """
        name = self._next("up")
        x = keras.layers.UpSampling3D(2, dtype=self.policy, name=name)(x)
        x = keras.layers.Concatenate(dtype=self.policy, name=f"{name}_skip")([x, skip])
        return self.convolution(x, channels, dilation)

    def plain(self, x: keras.KerasTensor) -> keras.KerasTensor:
        """The map in the plain layout, as other layers need it."""
        return x

    def nodule_mask(self, x: keras.KerasTensor) -> keras.KerasTensor:
        """The U-Net's last block: 1^3 convolution to {background, nodule}, softmax; its nodule channel [N, D, H, W, 1].

        The bias starts where softmax gives the nodule `protocol.unet.prior` (Lin et al. 2017).
        """
        logits = keras.layers.Conv3D(2, 1, dtype=self.policy, name="logits", **self._prior_weights("logits"))(x)
        return keras.layers.Softmax(dtype="float32", name="softmax")(logits)[..., 1:]

    def classifier(self, x: keras.KerasTensor, units: Sequence[int], classes: int) -> keras.KerasTensor:
        """Fully connected blocks on [N, D, H, W, C], the last one softmax [N, classes] (section 2.1)."""
        x = keras.layers.Flatten(dtype=self.policy, name="flatten")(x)
        for size in units:
            name = self._next("fc")
            x = keras.layers.Dense(size, activation="relu", dtype=self.policy, name=name, **self._weights(name))(x)
            x = self._drop(x, f"{name}_dropout")
        weights = self._weights("probabilities")
        return keras.layers.Dense(classes, activation="softmax", dtype="float32", name="probabilities", **weights)(x)

    def _normalise(self, x: keras.KerasTensor) -> keras.KerasTensor:
        momentum = self.protocol.training.batch_norm_momentum
        x = keras.layers.BatchNormalization(momentum=momentum, dtype=self.policy, name=self._next("norm"))(x)
        return keras.layers.ReLU(dtype=self.policy, name=self._next("relu"))(x)

    def _drop(self, x: keras.KerasTensor, name: str) -> keras.KerasTensor:
        rate = self.protocol.cnn.dropout
        return self._dropout_layer(rate, seed=self._seed(name), dtype=self.policy, name=name)(x)

    def _prior_weights(self, layer: str) -> dict[str, Any]:
        prior = self.protocol.unet.prior
        bias = keras.initializers.Constant(np.log([1 - prior, prior]).tolist())
        return {**self._weights(layer), "bias_initializer": bias}

    def _weights(self, layer: str) -> dict[str, Any]:
        return {
            "kernel_initializer": keras.initializers.HeNormal(seed=self._seed(layer)),
            "kernel_regularizer": keras.regularizers.L2(self.protocol.training.l2),
        }

    def _next(self, kind: str) -> str:
        self._counts[kind] = self._counts.get(kind, 0) + 1
        return f"{kind}_{self._counts[kind]}"

    def _seed(self, layer: str) -> int:
        # A hash instead of a counter: a layer keeps its initial weights when another one is added before it.
        digest = hashlib.sha256(f"{self.seed}/{self.network}/{layer}".encode()).digest()
        return int.from_bytes(digest[:4], "little") >> 1


@dataclass(frozen=True)
class LatticeMap:
    """A map in a lattice layout of `space_to_batch`; lattice 1 is the plain layout."""

    values: keras.KerasTensor
    lattice: int


class FastBlocks(StockBlocks):
    """The same blocks, weights and results with the layers of `fast`.

    The maps between blocks carry their layout. A block converts its input only if it needs another layout, so that a
    conversion happens only where the dilation changes.
    """

    _dropout_layer = layers.Dropout

    def __init__(self, network: str, protocol: Protocol, *, precision: str = "float32", seed: int = 0) -> None:
        super().__init__(network, protocol, precision=precision, seed=seed)
        self._layout = {"interleaved": dilates_natively(self.policy.compute_dtype), "dtype": self.policy}

    def convolution(self, x: LatticeMap | keras.KerasTensor, channels: int, dilation: int = 1) -> LatticeMap:
        """See `StockBlocks`."""
        x = self._in_lattice(x, fitting_lattice(self._grid(x), dilation))
        return self._block(x.values, x.lattice, channels, dilation)

    def pool(self, x: LatticeMap) -> keras.KerasTensor:
        """See `StockBlocks`."""
        return super().pool(self.plain(x))

    def plain(self, x: LatticeMap | keras.KerasTensor) -> keras.KerasTensor:
        """See `StockBlocks`."""
        return self._in_lattice(x, 1).values

    def up_convolution(self, x: LatticeMap, skip: LatticeMap, channels: int, dilation: int = 1) -> LatticeMap:
        """See `StockBlocks`."""
        fine = self._in_lattice(skip, fitting_lattice(self._grid(skip), dilation) if dilation == 2 else 1)
        return self._block([self.plain(x), fine.values], fine.lattice, channels, dilation)

    def nodule_mask(self, x: LatticeMap) -> keras.KerasTensor:
        """See `StockBlocks`."""
        weights = self._prior_weights("logits")
        difference = layers.Conv3D(2, 1, contrast=True, dtype=self.policy, name="logits", **weights)(self.plain(x))
        return keras.layers.Activation("sigmoid", dtype="float32", name="nodule")(difference)

    def classifier(self, x: LatticeMap, units: Sequence[int], classes: int) -> keras.KerasTensor:
        """See `StockBlocks`."""
        return super().classifier(self.plain(x), units, classes)

    def _block(self, inputs: Any, lattice: int, channels: int, dilation: int) -> LatticeMap:
        name = self._next("conv")
        convolution = layers.Conv3D(
            channels,
            3,
            dilation_rate=dilation,
            lattice=lattice,
            bias_apart=True,
            name=name,
            **self._layout,
            **self._weights(name),
        )
        momentum = self.protocol.training.batch_norm_momentum
        normalisation = layers.BatchNormalization(
            momentum=momentum, activation="relu", dtype=self.policy, name=self._next("norm")
        )
        values, bias = convolution(inputs)
        return LatticeMap(normalisation(values, bias=bias), lattice)

    def _in_lattice(self, x: LatticeMap | keras.KerasTensor, lattice: int) -> LatticeMap:
        x = x if isinstance(x, LatticeMap) else LatticeMap(x, 1)
        if x.lattice == lattice:
            return x
        values = x.values
        if x.lattice > 1:
            values = layers.FromLattice(x.lattice, name=self._next("gather"), **self._layout)(values)
        if lattice > 1:
            values = layers.ToLattice(lattice, name=self._next("scatter"), **self._layout)(values)
        return LatticeMap(values, lattice)

    def _grid(self, x: LatticeMap | keras.KerasTensor) -> list[int | None]:
        values, lattice = (x.values, x.lattice) if isinstance(x, LatticeMap) else (x, 1)
        return plain_grid(values.shape[1:4], lattice, self._layout["interleaved"])


def make_blocks(network: str, protocol: Protocol, *, precision: str, seed: int, stock: bool) -> StockBlocks:
    """The fast blocks, or for comparison the stock ones."""
    return (StockBlocks if stock else FastBlocks)(network, protocol, precision=precision, seed=seed)


def pairs(numbers: Sequence[int]) -> list[tuple[int, int]]:
    """Pair the blocks: two consecutive ones work at one scale.

    >>> pairs((16, 16, 32, 32))
    [(16, 16), (32, 32)]

    Raises:
        ValueError: The count is odd.
    """
    if len(numbers) % 2:
        raise ValueError(f"Expected an even count of blocks, two per scale. Received: {tuple(numbers)}.")
    return list(zip(numbers[::2], numbers[1::2], strict=True))
