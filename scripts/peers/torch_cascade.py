"""The same cascade in PyTorch: the peer that the benchmarks run beside ours.

Written the way a PyTorch user would write it: Conv3d, BatchNorm3d, ReLU, channels_last_3d, and autocast for bfloat16.
"""

import torch
from torch import nn

from ggn_tf.protocol import Protocol


class ConvolutionBlock(nn.Sequential):
    def __init__(self, inputs: int, outputs: int, dilation: int = 1) -> None:
        super().__init__(
            nn.Conv3d(inputs, outputs, 3, padding=dilation, dilation=dilation), nn.BatchNorm3d(outputs), nn.ReLU(True)
        )


class UNet(nn.Module):
    def __init__(self, protocol: Protocol) -> None:
        super().__init__()
        unet = protocol.unet
        channels = (1, *unet.channels_down)
        self.down = nn.ModuleList(
            ConvolutionBlock(channels[i], channels[i + 1], unet.dilations_down[i]) for i in range(len(channels) - 1)
        )
        blocks, below = [], channels[-1]
        skips = [channels[i] for i in range(len(channels) - 3, 0, -2)]
        for i, outputs in enumerate(unet.channels_up):
            inputs = below + skips[i // 2] if i % 2 == 0 else below
            blocks.append(ConvolutionBlock(inputs, outputs, unet.dilations_up[i]))
            below = outputs
        self.up = nn.ModuleList(blocks)
        self.last = nn.Conv3d(below, 2, 1)
        self.pool, self.upsample = nn.MaxPool3d(2), nn.Upsample(scale_factor=2)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        skips: list[torch.Tensor] = []
        for i, block in enumerate(self.down):
            if i and i % 2 == 0:
                skips.append(x)
                x = self.pool(x)
            x = block(x)
        for i, block in enumerate(self.up):
            if i % 2 == 0:
                x = torch.cat([self.upsample(x), skips.pop()], dim=1)
            x = block(x)
        return torch.softmax(self.last(x).float(), dim=1)[:, 1:]


class Cnn(nn.Module):
    def __init__(self, classes: int, protocol: Protocol) -> None:
        super().__init__()
        channels = (1, *protocol.cnn.channels)
        self.blocks = nn.ModuleList(ConvolutionBlock(channels[i], channels[i + 1]) for i in range(len(channels) - 1))
        self.pool = nn.MaxPool3d(2)
        flat = (protocol.patch.size // 2 ** ((len(channels) - 2) // 2)) ** 3 * channels[-1]
        units = (flat, *protocol.cnn.fc_units)
        fc = [
            nn.Sequential(nn.Linear(units[i], units[i + 1]), nn.ReLU(), nn.Dropout(protocol.cnn.dropout))
            for i in range(len(units) - 1)
        ]
        self.fc = nn.Sequential(nn.Flatten(), *fc, nn.Linear(units[-1], classes))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        for i, block in enumerate(self.blocks):
            x = block(self.pool(x) if i and i % 2 == 0 else x)
        return self.fc(x).float()


class Cascade(nn.Module):
    """Patch [N, 1, 32, 32, 32] -> soft mask [N, 1, 32, 32, 32], class logits [N, C]."""

    def __init__(self, classes: int, protocol: Protocol) -> None:
        super().__init__()
        self.segmentation, self.classification = UNet(protocol), Cnn(classes, protocol)

    def forward(self, patch: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        mask = self.segmentation(patch)
        return mask, self.classification((patch * mask).contiguous(memory_format=torch.channels_last_3d))


def joint_loss(
    mask: torch.Tensor, logits: torch.Tensor, reference: torch.Tensor, label: torch.Tensor, weight: float
) -> torch.Tensor:
    """Eq. 4 of the paper."""
    voxels = (1, 2, 3, 4)
    size = (reference**2).sum(voxels) + (mask**2).sum(voxels) + 1e-6
    dice = -(2 * (reference * mask).sum(voxels) / size).mean()
    return nn.functional.cross_entropy(logits, label) + weight * dice
