"""Convolutions that leave out arithmetic without changing the result.

The configuration keys `bias_apart` and `contrast` and the registered names are stored in `.keras` files: renaming them
would make stored runs unreadable.
"""

from collections.abc import Sequence
from typing import Any

import keras
import tensorflow as tf

from ggn_tf.models.fast import special_convolutions as special


@keras.saving.register_keras_serializable(package="ggn_tf")
class Conv3D(keras.layers.Conv3D):
    """A 'same' convolution of stride 1, computed in the cheapest way that gives the same numbers.

    It has the weights of Keras's layer, with their names and shapes, and its class name, by which Keras addresses
    weights in a file: either loads what the other has saved.

    It is called on a map, or on a pair `[coarse, fine]`; then it convolves the concatenation of the coarse map,
    up-sampled by 2 (nearest), and the fine one. A convolution is linear in its input's channels, so with the kernel
    split along them

        conv(concat(up(coarse), fine)) = conv_a(up(coarse)) + conv_b(fine)

    and the first part needs no up-sampled map. For dilation 1 see `convolve_upsampled`. For dilation 2, the taps of
    fine voxel f = 2c + p (phase p in {0, 1}, per axis) are at f + 2j, whose coarse voxel is c + j: all 8 phases of c
    see the same coarse voxels, at dilation 1. In the lattice layout of 2 the phases are the sub-lattices, so the
    first part is one small convolution, repeated for each. Everything else is up-sampled and concatenated.

    Args:
        filters: Channels of the result.
        kernel_size: Taps along each axis, odd.
        lattice: The layout (see `space_to_batch`) of the map, or of a pair's fine map. It must divide the dilation.
        interleaved: Whether the lattice's layout is the interleaved one.
        bias_apart: Whether to return `(result without bias, bias)`: the following batch normalisation accounts for the
            bias.
        contrast: For two filters: whether to return the second channel minus the first, in float32. Softmax over two
            channels is the sigmoid of this difference, and its kernel is the kernels' difference.
        **config: As Keras's layer, with a bias; an activation only where the bias is added.

    Raises:
        ValueError: The options are not those of a 'same' convolution of stride 1, or contradict each other.
    """

    def __init__(
        self,
        filters: int,
        kernel_size: int | Sequence[int] = 3,
        *,
        lattice: int = 1,
        interleaved: bool = False,
        bias_apart: bool = False,
        contrast: bool = False,
        **config: Any,
    ) -> None:
        super().__init__(filters, kernel_size, **{"padding": "same", **config})
        # Keras's allows one map only; `build` sets it again for one map.
        self.input_spec = None
        self.lattice = lattice
        self.interleaved = interleaved
        self.bias_apart = bias_apart
        self.contrast = contrast
        self._check_options()

    def add_weight(self, **options: Any) -> keras.Variable:
        """Add a weight as Keras's layer does, but keep it in float32: it is rounded only after arithmetic with it."""
        return super().add_weight(**{**options, "autocast": False})

    def build(self, input_shape: Any) -> None:
        """Make the weights of Keras's layer, for a pair those of the concatenated channels.

        Raises:
            ValueError: The maps of a pair do not fit together, or are in a layout that the layer does not support.
        """
        if not _is_pair(input_shape):
            super().build(tuple(input_shape))
            return
        if self.lattice > 1 and (self.lattice, self.dilation_rate) != (2, (2, 2, 2)):
            raise ValueError(f"Expected a pair in lattice 1, or 2 at dilation 2. Received: {self.get_config()}.")
        coarse, fine = input_shape
        super().build(special.concatenated_shape(coarse, fine, self.lattice, self.interleaved))
        self.input_spec = None

    def call(self, inputs: Any) -> Any:
        """Convolve a map [N, D, H, W, C], or a pair [N, D/2, H/2, W/2, B] and [N, D, H, W, C]."""
        kernel, bias = tf.convert_to_tensor(self.kernel), tf.convert_to_tensor(self.bias)
        if self.contrast:
            background, nodule = tf.split(kernel, 2, axis=4)
            difference = self._convolve(inputs, nodule - background)
            return tf.cast(difference, self.variable_dtype) + (bias[1] - bias[0])
        if self.bias_apart:
            return self._convolve(inputs, kernel), bias
        return self.activation(self._convolve(inputs, kernel, bias))

    def compute_output_shape(self, input_shape: Any) -> Any:
        """The result's shape, and the bias's where it is returned too."""
        grid = tuple(input_shape[1] if _is_pair(input_shape) else input_shape)[:-1]
        shape = (*grid, 1 if self.contrast else self.filters)
        return (shape, (self.filters,)) if self.bias_apart else shape

    def compute_output_spec(self, inputs: Any) -> Any:
        """Maps have the compute type; a contrast and a bias float32."""
        shape = self.compute_output_shape(keras.tree.map_structure(lambda x: tuple(x.shape), inputs))
        if self.bias_apart:
            return keras.KerasTensor(shape[0], self.compute_dtype), keras.KerasTensor(shape[1], self.variable_dtype)
        return keras.KerasTensor(shape, self.variable_dtype if self.contrast else self.compute_dtype)

    def get_config(self) -> dict[str, Any]:
        """What the constructor needs to build an equal layer."""
        names = ("lattice", "interleaved", "bias_apart", "contrast")
        return {**super().get_config(), **{name: getattr(self, name) for name in names}}

    def _convolve(self, inputs: Any, kernel: tf.Tensor, bias: tf.Tensor | None = None) -> tf.Tensor:
        dilation = [rate // self.lattice for rate in self.dilation_rate]
        if self.interleaved:
            dilation[2] *= self.lattice**3
        if not isinstance(inputs, (list, tuple)):
            return self._add_bias(self._convolve_map(inputs, kernel, dilation), bias)
        coarse, fine = inputs
        for_coarse, for_fine = tf.split(kernel, [coarse.shape[-1], fine.shape[-1]], axis=3)
        if self.dilation_rate == (1, 1, 1) and self.kernel_size == (3, 3, 3):
            from_coarse = special.convolve_upsampled(coarse, for_coarse)
        elif self.dilation_rate == (2, 2, 2) and self.lattice == 2:
            from_coarse = self._convolve_map(coarse, for_coarse, (1, 1, 1))
            from_coarse = tf.repeat(from_coarse, 8, axis=3 if self.interleaved else 0)
        else:
            return self._add_bias(convolve(special.concatenate_upsampled(coarse, fine), kernel, dilation), bias)
        # Convolution, bias, sum, ReLU: in this order TensorFlow makes one operation of them in inference.
        from_fine = convolve(fine, for_fine, dilation, native=self.interleaved)
        return self._add_bias(from_fine, bias) + from_coarse

    # Gradients of our own, which the following two bring, would keep inference from making one operation of several.

    def _convolve_map(self, x: tf.Tensor, kernel: tf.Tensor, dilation: Sequence[int]) -> tf.Tensor:
        if self.trainable and special.is_single_channel(x.shape, kernel.shape, dilation):
            return special.convolve_single_channel(x, tf.cast(kernel, x.dtype))
        if self.trainable and tuple(dilation) == (1, 1, 1) and special.has_short_rows(x):
            return special.convolve_short_rows(x, tf.cast(kernel, x.dtype))
        return convolve(x, kernel, dilation, native=self.interleaved)

    def _add_bias(self, x: tf.Tensor, bias: tf.Tensor | None) -> tf.Tensor:
        if bias is None:
            return x
        return add_bias(x, bias) if self.trainable else tf.nn.bias_add(x, tf.cast(bias, x.dtype))

    def _check_options(self) -> None:
        options = (self.padding, self.strides, self.groups, self.data_format, self.use_bias)
        if options != ("same", (1, 1, 1), 1, "channels_last", True) or not all(size % 2 for size in self.kernel_size):
            raise ValueError(
                "Expected a 'same' convolution with an odd kernel, stride 1, one group, channels last and a bias. "
                f"Received: {self.get_config()}."
            )
        if any(rate % self.lattice for rate in self.dilation_rate):
            raise ValueError(
                f"Expected a lattice that divides the dilation {self.dilation_rate}. Received: {self.lattice}."
            )
        if self.contrast and (self.filters != 2 or self.bias_apart):
            raise ValueError(f"Expected a contrast of 2 filters, its bias added. Received: {self.get_config()}.")
        if (self.contrast or self.bias_apart) and self.activation is not keras.activations.linear:
            raise ValueError(f"Expected an activation only behind an added bias. Received: {self.get_config()}.")


def convolve(x: tf.Tensor, kernel: tf.Tensor, dilation: Sequence[int], *, native: bool = False) -> tf.Tensor:
    """A 'same' convolution of stride 1 that leaves out the taps which can read nothing but padding.

    The tap at distance j from the kernel's centre reads voxels j d away. Along an axis of at most j d voxels all of
    them are outside. Of 3 taps whose dilation reaches across the grid only the centre is left.

    The map is [N, D, H, W, C], the kernel float32 [kD, kH, kW, C, F] with odd sizes, the result [N, D, H, W, F] in the
    map's type. `native` uses the device's own dilation, where it has one, instead of another layout.
    """
    taps = []
    for size, extent, rate in zip(kernel.shape[:3], x.shape[1:4], dilation, strict=True):
        reach = size // 2 if extent is None else min(size // 2, (extent - 1) // rate)
        taps.append(slice(size // 2 - reach, size // 2 + reach + 1))
    kernel = tf.cast(kernel[tuple(taps)], x.dtype)
    rates = [1 if size == 1 else rate for size, rate in zip(kernel.shape[:3], dilation, strict=True)]
    if native and special.dilates_natively(x.dtype.name):
        return tf.nn.conv3d(x, kernel, [1] * 5, "SAME", dilations=[1, *rates, 1])
    return tf.nn.convolution(x, kernel, padding="SAME", data_format="NDHWC", dilations=rates)


@tf.custom_gradient
def add_bias(x: tf.Tensor, bias: tf.Tensor) -> tuple[tf.Tensor, Any]:
    """Add a bias per channel; its gradient, a sum over all voxels, is accumulated in float32.

    In bfloat16, with 8 bits, a long sum of small terms stops growing, and the gradient is wrong by a factor.
    """

    def gradient(upstream: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        terms = tf.reshape(tf.cast(upstream, bias.dtype), [-1, bias.shape[0]])
        return upstream, tf.reduce_sum(terms, axis=0)

    return tf.nn.bias_add(x, tf.cast(bias, x.dtype)), gradient


def _is_pair(shape: Any) -> bool:
    return not isinstance(shape[0], (int, type(None)))
