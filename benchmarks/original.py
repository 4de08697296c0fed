"""GradAug the way the authors' code goes about it, as a baseline: written anew from what that code does.

    model = slimmable(WideResNet(16, 4), divisor=16)
    step(model, images, labels, draws, optimizer)

Its layers are told a width before every pass and slice their weights in forward; batch norm uses batch statistics at
any width below one; a residual block looks whether it is dropped. There are such layers for convolutions, batch norm
and linear layers, and such blocks in some networks; a network of another kind is rewritten by hand.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torchvision.models.mobilenetv2 import InvertedResidual
from torchvision.models.resnet import BasicBlock

from gradaug.models.wide_resnet import Block
from gradaug.subnets.sampler import Draw


def kept(channels: int, width: float, divisor: int) -> int:
    """The nearest multiple of the divisor, at least one and at most all."""
    return min(channels, max(1, round(channels * width / divisor)) * divisor)


class SlimConv2d(nn.Conv2d):
    """The first channels of a convolution. Depthwise ones have as many groups as channels."""

    width: float
    divisor: int

    def forward(self, x: Tensor) -> Tensor:
        outputs = kept(self.out_channels, self.width, self.divisor)
        groups = outputs if self.groups > 1 else 1
        weight = self.weight[:outputs, : x.shape[1] // groups]
        bias = None if self.bias is None else self.bias[:outputs]
        return F.conv2d(x, weight, bias, self.stride, self.padding, self.dilation, groups)  # type: ignore[arg-type]


class SlimBatchNorm2d(nn.BatchNorm2d):
    """Running statistics at full width, those of the batch at others."""

    width: float

    def forward(self, x: Tensor) -> Tensor:
        channels = x.shape[1]
        running = (self.running_mean, self.running_var) if self.width == 1.0 else (None, None)
        weight, bias = self.weight[:channels], self.bias[:channels]
        return F.batch_norm(x, *running, weight, bias, self.training, self.momentum or 0.0, self.eps)


class SlimLinear(nn.Linear):
    """All classes, of the first features."""

    def forward(self, x: Tensor) -> Tensor:
        return F.linear(x, self.weight[:, : x.shape[1]], self.bias)


class DroppedWide(Block):
    dropped = False

    def forward(self, x: Tensor) -> Tensor:
        y = F.relu(self.norm1(x))
        shortcut = x if self.shortcut is None else self.shortcut(y)
        return shortcut if self.dropped else shortcut + self.conv2(F.relu(self.norm2(self.conv1(y))))


class DroppedBasic(BasicBlock):
    dropped = False

    def forward(self, x: Tensor) -> Tensor:
        shortcut = x if self.downsample is None else self.downsample(x)
        body = 0 if self.dropped else self.bn2(self.conv2(F.relu(self.bn1(self.conv1(x)))))
        return F.relu(shortcut + body)


class DroppedInverted(InvertedResidual):
    dropped = False

    def forward(self, x: Tensor) -> Tensor:
        if not self.use_res_connect:
            return self.conv(x)
        return x if self.dropped else x + self.conv(x)


LAYERS = {nn.Conv2d: SlimConv2d, nn.BatchNorm2d: SlimBatchNorm2d, nn.Linear: SlimLinear}
BLOCKS = {Block: DroppedWide, BasicBlock: DroppedBasic, InvertedResidual: DroppedInverted}


def slimmable(model: nn.Module, divisor: int) -> nn.Module | None:
    """A copy of the model with these layers and blocks; None where it has weights in layers of other kinds."""
    made = copy.deepcopy(model)
    for module in made.modules():
        if list(module.parameters(recurse=False)) and type(module) not in LAYERS:
            return None
        module.__class__ = {**LAYERS, **BLOCKS}.get(type(module), type(module))  # its weights stay where they are
        module.divisor = divisor
    return made


def step(
    model: nn.Module, images: Tensor, labels: Tensor, draws: Sequence[Draw], optimizer: torch.optim.Optimizer
) -> None:
    """One step: the full network learns the labels, then every sub-network the full one's answer."""
    optimizer.zero_grad()
    switch(model, Draw())
    output = model(images)
    F.cross_entropy(output, labels).backward()
    soft = F.softmax(output.detach(), dim=1)
    for chosen in draws:
        switch(model, chosen)
        side = chosen.resolution or images.shape[-1]
        resized = F.interpolate(images, (side, side), mode="bilinear", align_corners=True)
        F.kl_div(F.log_softmax(model(resized), dim=1), soft, reduction="batchmean").backward()
    optimizer.step()


def switch(model: nn.Module, chosen: Draw) -> None:
    """Tells every layer its width, and every block whether it is dropped: one that has a skipped body, or is it."""
    model.apply(lambda module: setattr(module, "width", chosen.width))
    blocks = {name: module for name, module in model.named_modules() if isinstance(module, tuple(BLOCKS.values()))}
    dropped = {_block_of(body, blocks) for body in chosen.skip}
    for name, module in blocks.items():
        module.dropped = name in dropped


def _block_of(body: str, blocks: Mapping[str, nn.Module]) -> str:
    return next(name for name in blocks if f"{body}.".startswith(f"{name}."))
