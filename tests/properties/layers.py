"""The ordinary layers in one, two and three dimensions, made for a given shape."""

from __future__ import annotations

from math import gcd
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from .steps import Shape, Step, Written, same

CONVS = (nn.Conv1d, nn.Conv2d, nn.Conv3d)
TRANSPOSED = (nn.ConvTranspose1d, nn.ConvTranspose2d, nn.ConvTranspose3d)
BATCH = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d)
INSTANCE = (nn.InstanceNorm1d, nn.InstanceNorm2d, nn.InstanceNorm3d)
MAX = (nn.MaxPool1d, nn.MaxPool2d, nn.MaxPool3d)
AVERAGE = (nn.AvgPool1d, nn.AvgPool2d, nn.AvgPool3d)
ADAPTIVE = (nn.AdaptiveAvgPool1d, nn.AdaptiveAvgPool2d, nn.AdaptiveAvgPool3d)
ADAPTIVE_MAX = (nn.AdaptiveMaxPool1d, nn.AdaptiveMaxPool2d, nn.AdaptiveMaxPool3d)
WIDEST = 24


def dims(shape: Shape) -> int:
    return len(shape) - 2


def of(kinds: tuple[Any, ...], shape: Shape) -> Any:
    """The layer class for the dimensions of a shape."""
    return kinds[dims(shape) - 1]


def per_channel(shape: Shape, value: float = 1.0) -> nn.Parameter:
    """One number for each channel, broadcast over space."""
    return nn.Parameter(torch.full((shape[1], *[1] * dims(shape)), value))


def spatial(x: Tensor) -> tuple[int, ...]:
    return tuple(range(2, x.dim()))


def conv(shape: Shape, out: int, kernel: int = 3, **options: Any) -> nn.Module:
    return of(CONVS, shape)(shape[1], out, kernel, padding=kernel // 2, **options)


def channels_last_norm(norm: nn.Module) -> nn.Module:
    return Written(lambda m, x: m.norm(x.movedim(1, -1)).movedim(-1, 1), norm=norm)


def norm(shape: Shape, channels: int, step: Step) -> nn.Module:
    """One of the normalisations, by flavour."""
    return (
        lambda: of(BATCH, shape)(channels),
        lambda: nn.GroupNorm(gcd(channels, step.parts), channels),
        lambda: of(INSTANCE, shape)(channels, affine=step.parts > 1),
        lambda: channels_last_norm(nn.LayerNorm(channels)),
        lambda: of(BATCH, shape)(channels, affine=False),
        lambda: channels_last_norm(nn.RMSNorm(channels)),
    )[step.flavour % 6]()


def activation(channels: int, step: Step, inplace: bool = True) -> nn.Module:
    return (
        lambda: nn.ReLU(inplace=inplace),
        lambda: nn.PReLU(channels),
        lambda: nn.Hardswish(),
        lambda: nn.GELU(),
        lambda: nn.PReLU(),
        lambda: nn.SiLU(inplace=inplace),
    )[(step.flavour + step.width) % 6]()


def conv_norm_act(shape: Shape, step: Step) -> nn.Module:
    kernel = 1 if step.parts == 1 else 3
    return nn.Sequential(conv(shape, step.width, kernel), norm(shape, step.width, step), activation(step.width, step))


def grouped(shape: Shape, step: Step) -> nn.Module:
    """`parts` groups, or as many as divide the channels, with `width` outputs rounded up to whole groups."""
    groups = gcd(shape[1], step.parts)
    out = -(-step.width // groups) * groups
    return nn.Sequential(conv(shape, out, groups=groups, bias=step.flavour % 2 == 0), norm(shape, out, step))


def depthwise(shape: Shape, step: Step) -> nn.Module:
    """A convolution of each channel by itself, or into two, with a pointwise one after it or none."""
    c = shape[1]
    out = 2 * c if step.parts > 2 and c * 2 <= WIDEST else c
    layers = [conv(shape, out, groups=c), norm(shape, out, step)]
    return nn.Sequential(*layers, *([conv((0, out, *shape[2:]), step.width, 1)] if step.flavour % 2 else []))


def down(shape: Shape, step: Step) -> nn.Module:
    if min(shape[2:]) < 4:
        return same()
    return (
        lambda: conv(shape, step.width, stride=2),
        lambda: of(MAX, shape)(2),
        lambda: of(AVERAGE, shape)(3, stride=2, padding=1),
        lambda: of(ADAPTIVE, shape)(2),
        lambda: of(ADAPTIVE_MAX, shape)(3),
        lambda: Written(lambda _, x: x[(..., *[slice(None, None, 2)] * (x.dim() - 2))]),
    )[step.flavour % 6]()


def transposed(shape: Shape, step: Step) -> nn.Module:
    """Up by two where there is room, with groups or without."""
    groups = gcd(shape[1], step.parts) if step.flavour % 2 else 1
    out = -(-step.width // groups) * groups
    stride = 2 if max(shape[2:]) <= 4 else 1
    return of(TRANSPOSED, shape)(shape[1], out, stride + 1, stride=stride, groups=groups, padding=stride // 2)


def resize(shape: Shape, step: Step) -> nn.Module:
    """To another resolution and, where that was larger, no bigger than 8."""
    size = 3 + step.parts
    linear = ("linear", "bilinear", "trilinear")[dims(shape) - 1]
    return (
        lambda: nn.Upsample(size=[size] * dims(shape), mode=linear, align_corners=False),
        lambda: Written(lambda _, x: F.interpolate(x, size=[size] * (x.dim() - 2))),
        lambda: of(MAX, shape)(3, stride=1, padding=1),
        lambda: Written(lambda _, x: _cropped(F.pad(x, (1, 1) * (x.dim() - 2), mode="replicate"))),
    )[step.flavour % 4]()  # fmt: skip


def _cropped(x: Tensor) -> Tensor:
    return x[(..., *[slice(1, -1)] * (x.dim() - 2))]


def pointwise(shape: Shape, step: Step) -> nn.Module:
    return (
        lambda: activation(shape[1], step, inplace=False),  # torch forbids it on a piece of a split
        lambda: nn.Dropout(0.2),
        lambda: (nn.Dropout1d, nn.Dropout2d, nn.Dropout3d)[dims(shape) - 1](0.2),
        lambda: Written(lambda m, x: x * m.scale + m.shift, scale=per_channel(shape), shift=per_channel(shape, 0.1)),
        lambda: Written(lambda m, x: torch.where(x > 0, x, x * m.slope), slope=per_channel(shape, 0.3)),
        lambda: Written(lambda m, x: torch.addcmul(x, x.tanh(), m.scale).clamp(-3, 3), scale=per_channel(shape)),
    )[step.flavour % 6]()


LAYERS = {
    "conv": conv_norm_act, "grouped": grouped, "depthwise": depthwise, "down": down, "transposed": transposed,
    "resize": resize, "pointwise": pointwise,
}  # fmt: skip
