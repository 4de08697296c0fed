"""Parameters and buffers that are no layer's: biases with many dimensions, scales, positions, fixed norms, gates."""

from __future__ import annotations

from typing import Any

import torch
import torchvision
from torch import Tensor, nn
from torch.nn import functional as F

from tests.zoo.specimen import Specimen, Written, conv, head, images, param, pooled


def _bias(m: Any, x: Tensor) -> Tensor:
    return pooled(m, m.a((m.stem(x) + m.bias).relu()))


def _layer_scale(m: Any, x: Tensor) -> Tensor:
    x = m.stem(x)
    y = m.b(m.a(x).relu()).permute(0, 2, 3, 1) * m.gamma
    return pooled(m, x + y.permute(0, 3, 1, 2))


def _positions(m: Any, x: Tensor) -> Tensor:
    tokens = m.stem(x).flatten(2).transpose(1, 2)
    tokens = torch.cat([m.cls.expand(x.shape[0], -1, -1), tokens], dim=1) + m.positions
    return m.head(m.norm(tokens)[:, 0])


class FixedNorm(nn.Module):
    """A batch norm whose statistics and weights are buffers, as in Detectron2."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        for name, value in (("weight", 1.5), ("bias", 0.1), ("mean", 0.2), ("var", 2.0)):
            self.register_buffer(name, torch.full((channels,), value))

    def forward(self, x: Tensor) -> Tensor:
        scale = self.weight * (self.var + 1e-5).rsqrt()
        shift = self.bias - self.mean * scale
        return x * scale.reshape(1, -1, 1, 1) + shift.reshape(1, -1, 1, 1)


class NormAct(nn.BatchNorm2d):
    """A batch norm that brings its activation, as in timm."""

    def forward(self, x: Tensor) -> Tensor:
        return F.leaky_relu(super().forward(x), 0.1)


class FunctionalNormAct(nn.BatchNorm2d):
    """The same with a functional call on its own buffers."""

    def forward(self, x: Tensor) -> Tensor:
        own = self.training or not self.track_running_stats
        x = F.batch_norm(
            x, self.running_mean, self.running_var, self.weight, self.bias, own, self.momentum or 0.0, self.eps
        )
        return F.silu(x)


class LastChannelsNorm(nn.LayerNorm):
    """A layer norm over channels that come second."""

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)


class ByHand(nn.Module):
    """A layer norm over channels, written out (ConvNeXt)."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.weight, self.bias = nn.Parameter(torch.ones(channels)), nn.Parameter(torch.zeros(channels))

    def forward(self, x: Tensor) -> Tensor:
        mean = x.mean(1, keepdim=True)
        x = (x - mean) / ((x - mean).pow(2).mean(1, keepdim=True) + 1e-6).sqrt()
        return self.weight[:, None, None] * x + self.bias[:, None, None]


class ResponseNorm(nn.Module):
    """Global response normalisation (ConvNeXt V2)."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.gamma, self.beta = (
            nn.Parameter(torch.randn(1, channels, 1, 1)),
            nn.Parameter(torch.zeros(1, channels, 1, 1)),
        )

    def forward(self, x: Tensor) -> Tensor:
        size = torch.norm(x, p=2, dim=(2, 3), keepdim=True)
        return self.gamma * (x * size / (size.mean(dim=1, keepdim=True) + 1e-6)) + self.beta + x


class Buffered(nn.Module):
    """A mean and a deviation for each channel in buffers, one of them not stored."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.head = conv(3, 8), head(8)
        self.register_buffer("mean", torch.linspace(-1, 1, 8).view(1, 8, 1, 1))
        self.register_buffer("deviation", torch.linspace(1, 2, 8)[:, None, None], persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        return pooled(self, (self.stem(x) - self.mean) / self.deviation)


def _detached(m: Any, x: Tensor) -> Tensor:
    x = m.stem(x)
    gate = m.gate(x.detach().mean((2, 3)))
    with torch.no_grad():
        quiet = m.a(x)
    return pooled(m, quiet + m.a(x) * gate[..., None, None].sigmoid())


def _boolean_gate(m: Any, x: Tensor) -> Tensor:
    x = m.stem(x)
    y = torch.where(m.a(x) > 0, x, 0.1 * x)
    return pooled(m, y * (y.abs() > 0.05) + y.masked_fill(y < 0, 0.0))


def _channel_mask(m: Any, x: Tensor) -> Tensor:
    """Channels are switched by a threshold on a parameter."""
    x = m.stem(x)
    return pooled(m, m.a(x * (m.gate > 0).to(x.dtype)[None, :, None, None]))


def _slopes(m: Any, x: Tensor) -> Tensor:
    return pooled(m, m.all(m.second(m.each(m.stem(x)))))


def _borrowed_slope(m: Any, x: Tensor) -> Tensor:
    return pooled(m, F.prelu(m.stem(x), m.slope.weight[0]))


def _between(layer: nn.Module) -> nn.Module:
    return Written(lambda m, x: pooled(m, m.a(m.norm(m.stem(x)))), stem=conv(3, 8), norm=layer, a=conv(8, 6),
                   head=head(6))  # fmt: skip


def _partly_frozen() -> nn.Module:
    net = _between(nn.BatchNorm2d(8))
    net.get_submodule("stem").requires_grad_(False)
    net.get_submodule("norm").requires_grad_(False)
    return net


NORMS = {
    "batch norm with an activation": lambda: NormAct(8),
    "functional batch norm with an activation": lambda: FunctionalNormAct(8),
    "fixed batch norm": lambda: FixedNorm(8),
    "torchvision's frozen batch norm": lambda: torchvision.ops.FrozenBatchNorm2d(8),
    "batch norm without weights": lambda: nn.BatchNorm2d(8, affine=False),
    "batch norm without statistics": lambda: nn.BatchNorm2d(8, track_running_stats=False),
    "synchronised batch norm": lambda: nn.SyncBatchNorm(8),
    "instance norm": lambda: nn.InstanceNorm2d(8, affine=True),
    "layer norm over channels": lambda: LastChannelsNorm(8),
    "layer norm by hand": lambda: ByHand(8),
    "response norm": lambda: ResponseNorm(8),
    "group norm of one group": lambda: nn.GroupNorm(1, 8),
}

SPECIMENS = {
    name: Specimen(lambda made=made: _between(made()), {"stem": 8, "a": 6}) for name, made in NORMS.items()
} | {
    "four-dimensional bias": Specimen(
        lambda: Written(_bias, stem=conv(3, 8, bias=False), bias=param(1, 8, 1, 1), a=conv(8, 6), head=head(6)),
        {"stem": 8, "a": 6},
    ),
    "bias of three dimensions": Specimen(
        lambda: Written(_bias, stem=conv(3, 8, bias=False), bias=param(8, 1, 1), a=conv(8, 6), head=head(6)),
        {"stem": 8, "a": 6},
    ),
    "layer scale": Specimen(
        lambda: Written(_layer_scale, stem=conv(3, 8), a=conv(8, 12), b=conv(12, 8, 1), gamma=param(8), head=head(8)),
        {"stem": 8, "a": 12},
    ),
    # seventeen positions for a class token and sixteen places
    "position embedding": Specimen(
        lambda: Written(_positions, stem=nn.Conv2d(3, 12, 4, 4), cls=param(1, 1, 12), positions=param(1, 17, 12),
                        norm=nn.LayerNorm(12), head=head(12)),
        {"stem": 12}, {"positions[1]": "meets a dimension of fixed size"}, others=(images(16, batch=5),),
    ),
    "buffers for channels": Specimen(Buffered, {"stem": 8}),
    "weights without gradients": Specimen(_partly_frozen, {"stem": 8, "a": 6}),
    "detached branches": Specimen(
        lambda: Written(_detached, stem=conv(3, 8), gate=nn.Linear(8, 6), a=conv(8, 6), head=head(6)),
        {"stem": 8, "gate": 6},
    ),
    "boolean gates": Specimen(lambda: Written(_boolean_gate, stem=conv(3, 8), a=conv(8, 8), head=head(8)), {"stem": 8}),
    "a mask of channels": Specimen(
        lambda: Written(_channel_mask, stem=conv(3, 8), gate=param(8), a=conv(8, 6), head=head(6)), {"stem": 8, "a": 6}
    ),
    # a slope for each channel goes with its channel; a slope for all stays
    "PReLU": Specimen(
        lambda: Written(_slopes, stem=conv(3, 8), each=nn.PReLU(8), second=conv(8, 6, 1), all=nn.PReLU(), head=head(6)),
        {"stem": 8, "second": 6},
    ),
    "a row of a weight as slopes": Specimen(
        lambda: Written(_borrowed_slope, stem=conv(3, 8), slope=nn.Linear(8, 1), head=head(8)), {"stem": 8}
    ),
}  # fmt: skip
