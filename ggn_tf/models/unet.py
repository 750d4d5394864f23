"""The segmenter (paper section 2.2, Fig. 2b)."""

import keras

from ggn_tf.models.blocks import StockBlocks, make_blocks, pairs
from ggn_tf.models.names import SEGMENTATION
from ggn_tf.protocol import Protocol, UnetProtocol


def build_unet(protocol: Protocol, *, precision: str = "float32", seed: int = 0, stock: bool = False) -> keras.Model:
    """Build the dilated 3D U-Net; a `Builder`'s patches -> soft nodule mask [N, 32, 32, 32, 1]."""
    blocks = make_blocks(SEGMENTATION, protocol, precision=precision, seed=seed, stock=stock)
    patch = keras.Input((protocol.patch.size,) * 3 + (1,), name="patch")
    bottleneck, skips = contract(patch, protocol.unet, blocks)
    return keras.Model(patch, expand(bottleneck, skips, protocol.unet, blocks), name=SEGMENTATION)


def contract(
    patch: keras.KerasTensor, protocol: UnetProtocol, blocks: StockBlocks
) -> tuple[keras.KerasTensor, list[keras.KerasTensor]]:
    """The encoder path: its bottleneck (the 8th block's map) and the maps before each max-pooling, the finest first."""
    x = patch
    maps: list[keras.KerasTensor] = []
    levels = zip(pairs(protocol.channels_down), pairs(protocol.dilations_down), strict=True)
    for channels, dilations in levels:
        x = blocks.pool(x) if maps else x
        x = blocks.convolution(x, channels[0], dilations[0])
        x = blocks.convolution(x, channels[1], dilations[1])
        maps.append(x)
    return x, maps[:-1]


def expand(
    bottleneck: keras.KerasTensor, skips: list[keras.KerasTensor], protocol: UnetProtocol, blocks: StockBlocks
) -> keras.KerasTensor:
    """The decoder path, to the soft nodule mask."""
    x = bottleneck
    levels = zip(skips[::-1], pairs(protocol.channels_up), pairs(protocol.dilations_up), strict=True)
    for skip, channels, dilations in levels:
        x = blocks.up_convolution(x, skip, channels[0], dilations[0])
        x = blocks.convolution(x, channels[1], dilations[1])
    return blocks.nodule_mask(x)
