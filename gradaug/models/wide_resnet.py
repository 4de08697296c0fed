"""Wide residual networks (Zagoruyko and Komodakis 2016): pre-activation blocks of two convolutions, three stages."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn

from gradaug.models.initial import fan_out_normal


class Block(nn.Module):
    """Norm, ReLU, convolution, twice; the shortcut is projected after the first activation where the shape changes."""

    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        self.norm1 = nn.BatchNorm2d(inputs)
        self.conv1 = nn.Conv2d(inputs, outputs, 3, stride, 1, bias=False)
        self.norm2 = nn.BatchNorm2d(outputs)
        self.conv2 = nn.Conv2d(outputs, outputs, 3, 1, 1, bias=False)
        changes = inputs != outputs or stride != 1
        self.shortcut = nn.Conv2d(inputs, outputs, 1, stride, bias=False) if changes else None

    def forward(self, x: Tensor) -> Tensor:
        y = F.relu(self.norm1(x))
        shortcut = x if self.shortcut is None else self.shortcut(y)
        return shortcut + self.conv2(F.relu(self.norm2(self.conv1(y))))


class WideResNet(nn.Module):
    """WRN-`depth`-`widen`; depth = 6n + 4. Input (N, in_channels, H, W), output (N, num_classes)."""

    def __init__(self, depth: int, widen: int, num_classes: int = 10, in_channels: int = 3) -> None:
        super().__init__()
        if (depth - 4) % 6:
            raise ValueError(f"the depth of a wide ResNet is 6n + 4, not {depth}")
        blocks: list[nn.Module] = []
        inputs = 16
        for outputs, stride in ((16 * widen, 1), (32 * widen, 2), (64 * widen, 2)):
            for i in range((depth - 4) // 6):
                blocks.append(Block(inputs, outputs, stride if i == 0 else 1))
                inputs = outputs
        self.stem = nn.Conv2d(in_channels, 16, 3, 1, 1, bias=False)
        self.blocks = nn.Sequential(*blocks)
        self.norm = nn.BatchNorm2d(inputs)
        self.fc = nn.Linear(inputs, num_classes)
        fan_out_normal(self)

    def forward(self, x: Tensor) -> Tensor:
        x = F.relu(self.norm(self.blocks(self.stem(x))))
        return self.fc(x.mean((2, 3)))


def wrn_28_10(num_classes: int = 100, in_channels: int = 3) -> WideResNet:
    """The paper's network for CIFAR-100."""
    return WideResNet(28, 10, num_classes, in_channels)


def wrn_28_2(num_classes: int = 10, in_channels: int = 3) -> WideResNet:
    """The paper's network for few labels."""
    return WideResNet(28, 2, num_classes, in_channels)


def wrn_16_4(num_classes: int = 10, in_channels: int = 3) -> WideResNet:
    """A middling one, for benchmarks."""
    return WideResNet(16, 4, num_classes, in_channels)


def wrn_16_2(num_classes: int = 10, in_channels: int = 3) -> WideResNet:
    """A small one, for comparisons on digits."""
    return WideResNet(16, 2, num_classes, in_channels)
