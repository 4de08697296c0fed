"""Networks of the kinds that a picture has to tell apart, each with what is in it."""

from __future__ import annotations

import torch
from torch import Tensor, nn

import netslim
from netslim import SlimNet

HOSTILE = "</script><script>alert(1)</script>"
"""A name that would end the page's data, were it written as it is."""


class Residual(nn.Module):
    """A block that can be skipped, with a function between its layers."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Conv2d(8, 6, 3, padding=1), nn.Conv2d(6, 8, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        return x + self.second(torch.relu(self.first(x)))


class Small(nn.Module):
    """A stem, two blocks, a concatenation and a head; 8 channels, then 6 inside each block."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(1, 8, 3, padding=1)
        self.blocks = nn.Sequential(Residual(), Residual())
        self.side = nn.Conv2d(8, 5, 1)
        self.head = nn.Linear(13, 10)

    def forward(self, x: Tensor) -> Tensor:
        x = self.blocks(self.stem(x))
        return self.head(torch.cat([x, self.side(x)], 1).mean((2, 3)))


class Detector(nn.Module):
    """Followed in parts: what it does with the values of a score is Python's."""

    def __init__(self) -> None:
        super().__init__()
        self.backbone = nn.Sequential(nn.Conv2d(1, 8, 3), nn.ReLU(), nn.Conv2d(8, 8, 3))
        self.heads = Heads()

    def forward(self, x: Tensor) -> Tensor:
        features = self.backbone(x)
        return self.heads(features) if float(features.mean()) > -1e9 else features.mean((2, 3))


class Heads(nn.Module):
    """Python too, with a part of its own."""

    def __init__(self) -> None:
        super().__init__()
        self.score = nn.Sequential(nn.Conv2d(8, 6, 1), nn.ReLU(), nn.Conv2d(6, 4, 1))

    def forward(self, x: Tensor) -> Tensor:
        scores = self.score(x).mean((2, 3))
        return scores * 2 if float(scores.mean()) > -1e9 else scores


class Mapped(nn.Module):
    """Layers under any names that a dictionary may have."""

    def __init__(self, *names: str) -> None:
        super().__init__()
        self.all = nn.ModuleDict({name: nn.Conv2d(1 if not i else 8, 8, 1) for i, name in enumerate(names)})

    def forward(self, x: Tensor) -> Tensor:
        for layer in self.all.values():
            x = layer(x).relu()
        return x.mean((2, 3))


def converted(model: nn.Module) -> SlimNet:
    return netslim.convert(model, torch.randn(2, 1, 12, 12), prove=False)
