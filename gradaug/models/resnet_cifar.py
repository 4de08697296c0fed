"""ResNets for CIFAR (He et al. 2016, section 4.2): three stages of basic blocks with 16, 32 and 64 channels."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn

from gradaug.models.initial import fan_out_normal


class Block(nn.Module):
    """Two convolutions with batch norm; a projected shortcut (1x1 convolution, batch norm) where the shape changes."""

    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(inputs, outputs, 3, stride, 1, bias=False)
        self.norm1 = nn.BatchNorm2d(outputs)
        self.conv2 = nn.Conv2d(outputs, outputs, 3, 1, 1, bias=False)
        self.norm2 = nn.BatchNorm2d(outputs)
        self.shortcut: nn.Module = nn.Identity()
        if inputs != outputs or stride != 1:
            self.shortcut = nn.Sequential(nn.Conv2d(inputs, outputs, 1, stride, bias=False), nn.BatchNorm2d(outputs))

    def forward(self, x: Tensor) -> Tensor:
        y = F.relu(self.norm1(self.conv1(x)))
        return F.relu(self.shortcut(x) + self.norm2(self.conv2(y)))


class ResNetCifar(nn.Module):
    """ResNet-`depth`; depth = 6n + 2. Input (N, in_channels, H, W), output (N, num_classes)."""

    def __init__(self, depth: int, num_classes: int = 10, in_channels: int = 3) -> None:
        super().__init__()
        if (depth - 2) % 6:
            raise ValueError(f"the depth of a ResNet for CIFAR is 6n + 2, not {depth}")
        blocks: list[nn.Module] = []
        inputs = 16
        for outputs, stride in ((16, 1), (32, 2), (64, 2)):
            for i in range((depth - 2) // 6):
                blocks.append(Block(inputs, outputs, stride if i == 0 else 1))
                inputs = outputs
        self.stem = nn.Conv2d(in_channels, 16, 3, 1, 1, bias=False)
        self.norm = nn.BatchNorm2d(16)
        self.blocks = nn.Sequential(*blocks)
        self.fc = nn.Linear(64, num_classes)
        fan_out_normal(self)

    def forward(self, x: Tensor) -> Tensor:
        x = self.blocks(F.relu(self.norm(self.stem(x))))
        return self.fc(x.mean((2, 3)))


def resnet110(num_classes: int = 10, in_channels: int = 3) -> ResNetCifar:
    """The paper's network for random depth: 54 blocks."""
    return ResNetCifar(110, num_classes, in_channels)


def resnet20(num_classes: int = 10, in_channels: int = 3) -> ResNetCifar:
    """A small one."""
    return ResNetCifar(20, num_classes, in_channels)
