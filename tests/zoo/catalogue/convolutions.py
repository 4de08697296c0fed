"""Kinds of convolution: grouped, depthwise, transposed, with weights from elsewhere; one and three dimensions."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from tests.zoo.specimen import Specimen, Written, conv, head, images, param, pooled


def _functional_grouped(m: Any, x: Tensor) -> Tensor:
    """A functional convolution on a module's own weight."""
    x = F.conv2d(m.stem(x), m.a.weight, m.a.bias, padding=1, groups=m.a.groups)
    return pooled(m, F.group_norm(x, 4))


def _functional_depthwise(m: Any, x: Tensor) -> Tensor:
    x = m.stem(x)
    return pooled(m, F.conv2d(x, m.kernel, stride=2, groups=x.shape[1]))


def _blurred(m: Any, x: Tensor) -> Tensor:
    """Anti-aliased pooling: one kernel for every channel, stretched to as many as there are."""
    x = m.stem(x).relu()
    x = F.conv2d(F.pad(x, (1, 1, 1, 1), mode="reflect"), m.kernel.expand(x.shape[1], -1, -1, -1), None, 2, 0, 1, 8)
    return pooled(m, x)


def _shared_kernel(m: Any, x: Tensor) -> Tensor:
    """Batch and channels become one dimension, so that one kernel serves all."""
    x = m.stem(x)
    n, c, h, w = x.shape
    return pooled(m, m.kernel(x.view(n * c, 1, h, w)).view(n, c, h, w))


class BlurPool(nn.Module):
    """A fixed filter in a buffer, one row per channel."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        row = torch.tensor([1.0, 2.0, 1.0])
        filt = (row[:, None] * row[None]) / 16
        self.register_buffer("filt", filt[None, None].repeat(channels, 1, 1, 1))

    def forward(self, x: Tensor) -> Tensor:
        return F.conv2d(F.pad(x, (1, 1, 1, 1), "reflect"), self.filt, stride=2, groups=x.shape[1])


def _weights_per_image(m: Any, x: Tensor) -> Tensor:
    """CondConv: each image mixes a kernel of its own out of three, and a grouped convolution applies them all."""
    x = m.stem(x)
    n, c, h, w = x.shape
    mix = m.route(x.mean((2, 3))).sigmoid()
    kernels = (mix @ m.experts.flatten(1)).view(n * 10, c, 3, 3)
    return pooled(m, F.conv2d(x.reshape(1, n * c, h, w), kernels, padding=1, groups=n).view(n, 10, h, w))


def _mixed_kernels(m: Any, x: Tensor) -> Tensor:
    """One mixture of kernels for the whole batch, written as a sum."""
    x = m.stem(x)
    mix = m.route(x.mean((0, 2, 3))).softmax(-1)
    return pooled(m, F.conv2d(x, (m.experts * mix[:, None, None, None, None]).sum(0), padding=1))


SPECIMENS = {
    # eight groups of (2 -> 3) channels: whole groups go, from the stem and the head alike
    "grouped": Specimen(
        lambda: Written(lambda m, x: m.head(m.grouped(m.stem(x).relu()).amax((2, 3))), stem=conv(3, 16),
                        grouped=conv(16, 24, groups=8), head=head(24)),
        {"stem": 8},
        {"grouped.weight[1]": "another factor"},
    ),
    # two groups of (8 -> 6): channels of every group go, on either side
    "few large groups": Specimen(
        lambda: Written(lambda m, x: pooled(m, m.grouped(m.stem(x))), stem=conv(3, 16), grouped=conv(16, 12, groups=2),
                        head=head(12)),
        {"stem": 8, "grouped": 6},
    ),
    # each channel of the stem makes two, which come and go with it
    "depthwise multiplier 2": Specimen(
        lambda: Written(lambda m, x: pooled(m, m.point(m.deep(m.stem(x)).relu())), stem=conv(3, 8),
                        deep=conv(8, 16, groups=8), point=conv(16, 10, 1), head=head(10)),
        {"stem": 8, "point": 10},
    ),
    "transposed": Specimen(
        lambda: nn.Sequential(nn.Conv2d(3, 8, 2, 2), nn.Tanh(), nn.ConvTranspose2d(8, 6, 4, 2, 1), nn.ReLU(),
                              nn.ConvTranspose2d(6, 3, 1)),
        {"0": 8, "2.bias": 6},
    ),
    # whole groups go; the outputs of every group are fewer than the groups
    "grouped transposed": Specimen(
        lambda: Written(lambda m, x: pooled(m, m.up(m.stem(x))), stem=conv(3, 16),
                        up=nn.ConvTranspose2d(16, 24, 2, 2, groups=8), head=head(24)),
        {"stem": 8},
        {"up.weight[1]": "another factor"},
    ),
    "depthwise transposed": Specimen(
        lambda: Written(lambda m, x: pooled(m, m.up(m.stem(x))), stem=conv(3, 8),
                        up=nn.ConvTranspose2d(8, 8, 2, 2, groups=8), head=head(8)),
        {"stem": 8},
    ),
    # 8 groups of (2 -> 4), and the norm has four groups of 8: of 4 x 2 x 4 the last factor stays elastic
    "functional convolution on a layer's weight": Specimen(
        lambda: Written(_functional_grouped, stem=conv(3, 16), a=conv(16, 32, groups=8), head=head(32)),
        {"a": 4},
        dict.fromkeys(("stem.weight[0]", "stem.bias[0]", "a.weight[1]"), "another factor"),
    ),
    "functional depthwise": Specimen(
        lambda: Written(_functional_depthwise, stem=conv(3, 8), kernel=param(8, 1, 3, 3), head=head(8)), {"stem": 8}
    ),
    "BlurPool": Specimen(
        lambda: Written(lambda m, x: pooled(m, m.a(m.blur(m.stem(x)))), stem=conv(3, 8), blur=BlurPool(8), a=conv(8, 6),
                        head=head(6)),
        {"stem": 8, "a": 6},
    ),
    "blur by one expanded kernel": Specimen(
        lambda: Written(_blurred, stem=conv(3, 8), kernel=param(1, 1, 3, 3), head=head(8)), {"stem": 8}
    ),
    "one kernel for every channel": Specimen(
        lambda: Written(_shared_kernel, stem=conv(3, 8), kernel=conv(1, 1), head=head(8)), {"stem": 8}
    ),
    "CondConv": Specimen(
        lambda: Written(_weights_per_image, stem=conv(3, 8), route=nn.Linear(8, 3), experts=param(3, 10, 8, 3, 3),
                        head=head(10)),
        {"stem": 8, "experts.1": 10, "route": 3},
    ),
    "one mixture of kernels": Specimen(
        lambda: Written(_mixed_kernels, stem=conv(3, 8), route=nn.Linear(8, 3), experts=param(3, 10, 8, 3, 3),
                        head=head(10)),
        {"stem": 8, "route": 3, "experts.1": 10},
    ),
    "sequences": Specimen(
        lambda: nn.Sequential(nn.Conv1d(3, 8, 3, padding=1), nn.BatchNorm1d(8), nn.ReLU(), nn.MaxPool1d(2),
                              nn.Conv1d(8, 6, 3, groups=2), nn.AdaptiveAvgPool1d(1), nn.Flatten(), head(6)),
        {"0": 4, "4": 3}, inputs=images(16).flatten(2), others=(images(12, 5).flatten(2),),
    ),
    "volumes": Specimen(
        lambda: nn.Sequential(nn.Conv3d(3, 8, 3, padding=1), nn.BatchNorm3d(8), nn.ReLU(), nn.AvgPool3d(2),
                              nn.ConvTranspose3d(8, 6, 2, 2), nn.AdaptiveMaxPool3d(1), nn.Flatten(), head(6)),
        {"0": 8, "4.bias": 6}, inputs=images(16).unflatten(3, (4, 4)), others=(images(8, 36).unflatten(3, (6, 6)),),
    ),
}  # fmt: skip
