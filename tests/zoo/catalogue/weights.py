"""Weights that are computed: normed, standardised, parametrized, tied, generated."""

from __future__ import annotations

import warnings
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils import parametrizations, parametrize

from tests.zoo.specimen import Specimen, Written, conv, head, images, param, pooled


def _chain(m: Any, x: Tensor) -> Tensor:
    return pooled(m, m.a(m.stem(x).relu()))


def _pooled_first(m: Any, x: Tensor) -> Tensor:
    return m.head(m.a(m.stem(x).relu().mean((2, 3))))


def _between(layer: nn.Module) -> nn.Module:
    """A layer from 8 to 12 channels, between two ordinary ones."""
    return Written(_chain, stem=conv(3, 8), a=layer, head=head(12))


def _old_weight_norm(layer: nn.Module) -> nn.Module:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)
        return nn.utils.weight_norm(layer)


class StandardisedConv(nn.Conv2d):
    """Weight standardisation as in BiT."""

    def forward(self, x: Tensor) -> Tensor:
        mean = self.weight.mean((1, 2, 3), keepdim=True)
        var = self.weight.var((1, 2, 3), keepdim=True, unbiased=False)
        return F.conv2d(x, (self.weight - mean) / (var + 1e-6).sqrt(), self.bias, self.stride, self.padding)


class ScaledStandardisedConv(nn.Conv2d):
    """As in NFNets: a gain per output channel, and a batch norm that standardises the weight."""

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self.gain = nn.Parameter(torch.full((self.out_channels, 1, 1, 1), 0.5))

    def forward(self, x: Tensor) -> Tensor:
        weight = F.batch_norm(
            self.weight.reshape(1, self.out_channels, -1), None, None, weight=(self.gain * 0.2).view(-1),
            training=True, momentum=0.0, eps=1e-6,
        ).reshape_as(self.weight)  # fmt: skip
        return F.conv2d(x, weight, self.bias, self.stride, self.padding, self.dilation, self.groups)


class Symmetric(nn.Module):
    """A parametrization that mirrors kernels."""

    def forward(self, weight: Tensor) -> Tensor:
        return (weight + weight.flip(-1)) / 2


class Gain(nn.Module):
    """A parametrization with a parameter of its own."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.gain = nn.Parameter(torch.rand(channels, 1, 1, 1) + 0.5)

    def forward(self, weight: Tensor) -> Tensor:
        return weight * self.gain


def _parametrized(layer: nn.Module, *parts: nn.Module) -> nn.Module:
    for part in parts:
        parametrize.register_parametrization(layer, "weight", part)
    return layer


class Tied(nn.Module):
    """One weight in two layers, and again the other way round."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.down, self.again = nn.Linear(5, 12), nn.Linear(12, 8), nn.Linear(12, 8)
        self.again.weight = self.down.weight
        self.head = nn.Linear(12, 3)

    def forward(self, x: Tensor) -> Tensor:
        x = self.first(x)
        x = self.down(x).relu() + self.again(x)
        return self.head(F.linear(x, self.down.weight.t()))


def _tied_convolutions() -> nn.Module:
    net = Written(lambda m, x: pooled(m, m.b(m.a(m.stem(x)).relu())), stem=conv(3, 8), a=conv(8, 8), b=conv(8, 8),
                  head=head(8))  # fmt: skip
    net.b.weight = net.a.weight
    return net


def _transposed_twin(m: Any, x: Tensor) -> Tensor:
    """An autoencoder whose decoder is its encoder's weight."""
    return F.conv_transpose2d(m.encode(x).relu(), m.encode.weight, m.bias, stride=2)


def _hypernetwork(m: Any, x: Tensor) -> Tensor:
    """A weight that a small network makes."""
    x = m.stem(x)
    return pooled(m, F.conv2d(x, m.make(m.seed).view(12, x.shape[1], 1, 1)))


def _low_rank(m: Any, x: Tensor) -> Tensor:
    x = m.stem(x)
    return pooled(m, F.conv2d(x, (m.left @ m.right)[..., None, None]))


def _widths(m: Any, x: Tensor) -> Tensor:
    """One kernel at two widths: slices of a shared weight are axes of their own, and so nest."""
    x = m.stem(x)
    narrow = F.conv2d(x[:, :4], m.shared.weight[:6, :4], m.shared.bias[:6], padding=1)
    return m.head(torch.cat([m.shared(x).mean((2, 3)), narrow.mean((2, 3))], 1))


def _one_kernel_for_two(m: Any, x: Tensor) -> Tensor:
    """A depthwise kernel without channels of its own serves 8 and 12 channels."""
    x = m.a(F.conv2d(m.stem(x), m.blur.weight.expand(8, 1, 3, 3), padding=1, groups=8))
    return pooled(m, F.conv2d(x, m.blur.weight.expand(12, 1, 3, 3), padding=1, groups=12))


SPECIMENS = {
    "weight norm by hooks": Specimen(lambda: _between(_old_weight_norm(conv(8, 12))), {"stem": 8, "a.weight_v": 12}),
    "weight norm by parametrization": Specimen(
        lambda: _between(parametrizations.weight_norm(conv(8, 12))),
        {"stem": 8, "a.parametrizations.weight.original1": 12},
    ),
    "spectral norm": Specimen(
        lambda: _between(parametrizations.spectral_norm(conv(8, 12))),
        {"stem": 8, "a.parametrizations.weight.original": 12},
    ),
    "spectral norm by hooks": Specimen(
        lambda: _between(nn.utils.spectral_norm(conv(8, 12))), {"stem": 8, "a.weight_orig": 12}
    ),
    # base @ Q(original): every entry of Q depends on all of `original`, the rows of the product on those of `base`
    "orthogonal": Specimen(
        lambda: Written(_pooled_first, stem=conv(3, 8), a=parametrizations.orthogonal(nn.Linear(8, 12)), head=head(12)),
        {"a.parametrizations.weight.0.base": 12},
        dict.fromkeys(
            ("stem.weight[0]", "stem.bias[0]", "a.parametrizations.weight.0.base[1]"),
            "a matrix function depends on the whole matrix",
        )
        | dict.fromkeys(
            (f"a.parametrizations.weight.original[{dim}]" for dim in (0, 1)), "a triangle of this dimension"
        ),
    ),
    # the matrices of a convolution are its kernels, here of one entry each
    "orthogonal kernels": Specimen(
        lambda: _between(parametrizations.orthogonal(conv(8, 12, 1))),
        {"stem": 8, "a.parametrizations.weight.original": 12},
    ),
    "parametrized twice": Specimen(
        lambda: _between(_parametrized(conv(8, 12), Symmetric(), Gain(12))),
        {"stem": 8, "a.parametrizations.weight.original": 12},
        {"a.parametrizations.weight.original[3]": "its order is changed"},  # a side of the kernel
    ),
    "weight standardisation": Specimen(lambda: _between(StandardisedConv(8, 12, 3, padding=1)), {"stem": 8, "a": 12}),
    "scaled weight standardisation": Specimen(
        lambda: _between(ScaledStandardisedConv(8, 12, 3, padding=1)), {"stem": 8, "a": 12}
    ),
    # the hidden axis and the axis in between
    "tied linear layers": Specimen(
        Tied, {"first": 12, "down": 8}, inputs=torch.randn(4, 5), others=(torch.randn(1, 5), torch.randn(2, 7, 5))
    ),
    "tied convolutions": Specimen(_tied_convolutions, {"stem": 8}),
    "tied autoencoder": Specimen(
        lambda: Written(_transposed_twin, encode=nn.Conv2d(3, 8, 2, 2), bias=param(3)), {"encode": 8}
    ),
    # the generated weight is one vector of 12 x 8, of which the larger factor is elastic
    "hypernetwork": Specimen(
        lambda: Written(_hypernetwork, stem=conv(3, 8), make=nn.Linear(4, 96), seed=param(4), head=head(12)),
        {"seed": 4, "make": 12},
        {"stem.weight[0]": "another factor", "stem.bias[0]": "another factor"},
    ),
    "low rank": Specimen(
        lambda: Written(_low_rank, stem=conv(3, 8), left=param(12, 4), right=param(4, 8), head=head(12)),
        {"stem": 8, "left": 12, "right": 4},
    ),
    "one weight at two widths": Specimen(
        lambda: Written(_widths, stem=conv(3, 8), shared=conv(8, 10), head=head(16)),
        {"stem": 4, "stem#2": 4, "shared": 6, "shared#2": 4},
    ),
    "one kernel at two widths": Specimen(
        lambda: Written(_one_kernel_for_two, stem=conv(3, 8), a=conv(8, 12), blur=conv(1, 1), head=head(12)),
        {"stem": 8, "a": 12},
    ),
    "frozen weights": Specimen(
        lambda: _between(conv(8, 12)).requires_grad_(False), {"stem": 8, "a": 12}, inputs=images(16)
    ),
}  # fmt: skip
