"""A small fully convolutional network (Long, Shelhamer, Darrell 2015): residual blocks, scores of two scales added."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn

from gradaug.models.initial import fan_out_normal
from gradaug.models.resnet_cifar import Block


class Fcn(nn.Module):
    """Input (N, in_channels, H, W), output (N, num_classes, H, W): a score of every class for every pixel."""

    def __init__(self, width: int, num_classes: int, in_channels: int) -> None:
        super().__init__()
        self.stem = nn.Conv2d(in_channels, width, 3, 1, 1, bias=False)
        self.norm = nn.BatchNorm2d(width)
        self.fine = Block(width, width, 1)
        self.coarse = nn.Sequential(Block(width, 2 * width, 2), Block(2 * width, 2 * width, 1))
        self.of_fine = nn.Conv2d(width, num_classes, 1)
        self.of_coarse = nn.Conv2d(2 * width, num_classes, 1)
        fan_out_normal(self)

    def forward(self, x: Tensor) -> Tensor:
        fine = self.fine(F.relu(self.norm(self.stem(x))))
        coarse = self.of_coarse(self.coarse(fine))
        enlarged = F.interpolate(coarse, size=x.shape[-2:], mode="bilinear", align_corners=False)
        return self.of_fine(fine) + enlarged


def fcn_small(num_classes: int = 11, in_channels: int = 1) -> Fcn:
    """For small images: 16 and 32 channels."""
    return Fcn(16, num_classes, in_channels)
