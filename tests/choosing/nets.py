"""Small networks whose groups are in places of every kind."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

IMAGES = torch.randn(2, 3, 6, 6, generator=torch.Generator().manual_seed(1))


class Joined(nn.Module):
    """Two convolutions, one after another in a concatenation, twice the first."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b, self.head = nn.Conv2d(3, 4, 1), nn.Conv2d(3, 6, 1), nn.Conv2d(14, 5, 1)

    def forward(self, x: Tensor) -> Tensor:
        a = self.a(x).relu()
        return self.head(torch.cat([a, self.b(x).relu(), a * 2], 1))


class Flat(nn.Module):
    """Pixels of a channel behind a flatten."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.norm, self.head = nn.Conv2d(3, 4, 2), nn.BatchNorm2d(4), nn.Linear(4 * 25, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.norm(self.conv(x)).relu().flatten(1))


class Heads(nn.Module):
    """Attention over pixels: heads x head_dim in one axis, queries, keys and values in another."""

    def __init__(self) -> None:
        super().__init__()
        self.qkv, self.out = nn.Linear(3, 3 * 4 * 2), nn.Linear(8, 5)

    def forward(self, x: Tensor) -> Tensor:
        n = x.shape[0]
        q, k, v = self.qkv(x.flatten(2).transpose(1, 2)).view(n, 36, 3, 4, 2).permute(2, 0, 3, 1, 4).unbind(0)
        return self.out(F.scaled_dot_product_attention(q, k, v).transpose(1, 2).reshape(n, 36, 8))


class Grouped(nn.Module):
    """A grouped convolution, and its channels shuffled before the next."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.grouped, self.last = nn.Conv2d(3, 12, 1), nn.Conv2d(12, 12, 3, groups=3), nn.Conv2d(12, 5, 1)

    def forward(self, x: Tensor) -> Tensor:
        h = self.grouped(self.first(x).relu()).relu()
        n, _, height, width = h.shape
        return self.last(h.view(n, 3, 4, height, width).transpose(1, 2).reshape(n, 12, height, width))


class Residual(nn.Module):
    """A group in many places: a stem, two bodies that can be skipped, a head; each body has one of its own."""

    def __init__(self, channels: int = 16, inner: int = 12) -> None:
        super().__init__()
        self.stem, self.stem_norm = nn.Conv2d(3, channels, 3, padding=1), nn.BatchNorm2d(channels)
        self.bodies = nn.ModuleList(
            nn.Sequential(
                nn.Conv2d(channels, inner, 3, padding=1),
                nn.BatchNorm2d(inner),
                nn.ReLU(),
                nn.Conv2d(inner, channels, 1),
            )
            for _ in range(2)
        )
        self.head = nn.Linear(channels, 5)

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem_norm(self.stem(x)).relu()
        for body in self.bodies:
            x = x + body(x)
        return self.head(x.relu().mean((2, 3)))


NETS = {made.__name__: made for made in (Joined, Flat, Heads, Grouped, Residual)}


def built(kind: type[nn.Module]) -> nn.Module:
    """With the same weights every time; scales of norms that differ."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(3)
        model = kind()
        for module in model.modules():
            if isinstance(module, nn.BatchNorm2d):
                nn.init.uniform_(module.weight, 0.5, 2)
                nn.init.normal_(module.bias)
    return model.eval()
