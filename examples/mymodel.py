"""A small classifier for 32x32 grayscale images: residual blocks, a dense concatenation, depthwise convolutions."""

import torch
import torch.nn as nn
import torch.nn.functional as F


def conv_bn(inputs, outputs, kernel=3, stride=1, groups=1):
    return nn.Sequential(
        nn.Conv2d(inputs, outputs, kernel, stride, kernel // 2, groups=groups, bias=False),
        nn.BatchNorm2d(outputs),
    )


class ResidualBlock(nn.Module):
    """Two 3x3 convolutions; a 1x1 projection on the shortcut where the shape changes."""

    def __init__(self, inputs, outputs, stride=1):
        super().__init__()
        self.conv1 = conv_bn(inputs, outputs, stride=stride)
        self.conv2 = conv_bn(outputs, outputs)
        self.shortcut = None
        if stride != 1 or inputs != outputs:
            self.shortcut = conv_bn(inputs, outputs, kernel=1, stride=stride)

    def forward(self, x):
        out = F.relu(self.conv1(x))
        out = self.conv2(out)
        if self.shortcut is not None:
            x = self.shortcut(x)
        out += x
        return F.relu(out)


class TwoScales(nn.Module):
    """Looks at 3x3 and (pooled) coarser context side by side and keeps its input: all three are concatenated."""

    def __init__(self, inputs, branch):
        super().__init__()
        self.near = conv_bn(inputs, branch)
        self.far = nn.Sequential(nn.AvgPool2d(2), conv_bn(inputs, branch, kernel=1))

    def forward(self, x):
        near = F.relu(self.near(x))
        far = F.interpolate(F.relu(self.far(x)), size=x.shape[-2:])
        return torch.cat([x, near, far], dim=1)


class SeparableConv(nn.Module):
    """A depthwise 3x3 convolution and a pointwise one."""

    def __init__(self, inputs, outputs, stride=1):
        super().__init__()
        self.depthwise = conv_bn(inputs, inputs, stride=stride, groups=inputs)
        self.pointwise = conv_bn(inputs, outputs, kernel=1)

    def forward(self, x):
        return F.relu(self.pointwise(F.relu(self.depthwise(x))))


class DigitNet(nn.Module):
    def __init__(self, num_classes=10, width=32):
        super().__init__()
        self.stem = nn.Sequential(conv_bn(1, width, stride=2), nn.ReLU(inplace=True))
        self.stage1 = ResidualBlock(width, width)
        self.scales = TwoScales(width, width)
        self.stage2 = ResidualBlock(3 * width, 2 * width, stride=2)
        self.stage3 = nn.Sequential(
            ResidualBlock(2 * width, 4 * width, stride=2),
            SeparableConv(4 * width, 4 * width),
        )
        self.dropout = nn.Dropout(0.1)
        self.classifier = nn.Linear(4 * width, num_classes)

    def forward(self, x):
        x = self.stem(x)
        x = self.stage1(x)
        x = self.scales(x)
        x = self.stage2(x)
        x = self.stage3(x)
        x = F.adaptive_avg_pool2d(x, 1).flatten(1)
        return self.classifier(self.dropout(x))
