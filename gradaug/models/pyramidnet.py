"""PyramidNet (Han, Kim, Kim 2017): every block is a little wider than the one before, shortcuts padded with zeros."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn

from gradaug.models.initial import fan_out_normal

EXPANSION = 4


class Bottleneck(nn.Module):
    """Norm, 1x1, norm, ReLU, 3x3, norm, ReLU, 1x1, norm; the shortcut is pooled and padded to the new shape."""

    def __init__(self, inputs: int, planes: int, stride: int) -> None:
        super().__init__()
        outputs = planes * EXPANSION
        self.norm1 = nn.BatchNorm2d(inputs)
        self.conv1 = nn.Conv2d(inputs, planes, 1, bias=False)
        self.norm2 = nn.BatchNorm2d(planes)
        self.conv2 = nn.Conv2d(planes, planes, 3, stride, 1, bias=False)
        self.norm3 = nn.BatchNorm2d(planes)
        self.conv3 = nn.Conv2d(planes, outputs, 1, bias=False)
        self.norm4 = nn.BatchNorm2d(outputs)
        self.pool = nn.AvgPool2d(2, ceil_mode=True) if stride == 2 else nn.Identity()
        self.extra = outputs - inputs

    def forward(self, x: Tensor) -> Tensor:
        y = self.conv1(self.norm1(x))
        y = self.conv2(F.relu(self.norm2(y)))
        y = self.norm4(self.conv3(F.relu(self.norm3(y))))
        return y + F.pad(self.pool(x), (0, 0, 0, 0, 0, self.extra))


class PyramidNet(nn.Module):
    """PyramidNet-`depth` of bottlenecks, depth = 9n + 2, whose width grows by `alpha` over all blocks."""

    def __init__(self, depth: int, alpha: int, num_classes: int = 10, in_channels: int = 3) -> None:
        super().__init__()
        if (depth - 2) % 9:
            raise ValueError(f"the depth of a PyramidNet of bottlenecks is 9n + 2, not {depth}")
        count = (depth - 2) // 9
        blocks: list[nn.Module] = []
        inputs, width = 16, 16.0
        for i in range(3 * count):
            width += alpha / (3 * count)
            blocks.append(Bottleneck(inputs, round(width), 2 if i in (count, 2 * count) else 1))
            inputs = round(width) * EXPANSION
        self.stem = nn.Conv2d(in_channels, 16, 3, 1, 1, bias=False)
        self.norm1 = nn.BatchNorm2d(16)
        self.blocks = nn.Sequential(*blocks)
        self.norm2 = nn.BatchNorm2d(inputs)
        self.fc = nn.Linear(inputs, num_classes)
        fan_out_normal(self)

    def forward(self, x: Tensor) -> Tensor:
        x = self.blocks(self.norm1(self.stem(x)))
        return self.fc(F.relu(self.norm2(x)).mean((2, 3)))


def pyramidnet200_a240(num_classes: int = 100, in_channels: int = 3) -> PyramidNet:
    """The paper's second network for CIFAR-100."""
    return PyramidNet(200, 240, num_classes, in_channels)
