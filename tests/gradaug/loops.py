"""A small network without norms, its batches, and the loop that other people's loops are to equal."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

import gradaug
import netslim

BATCHES = 6
SETTINGS = {"mode": "both", "round_to": 1, "resolutions": (8, 6), "survival": 0.5, "seed": 3}


class Residual(nn.Module):
    """Two blocks that can be skipped."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(1, 8, 3, padding=1)
        self.bodies = nn.ModuleList(
            nn.Sequential(nn.Conv2d(8, 6, 3, padding=1), nn.ReLU(), nn.Conv2d(6, 8, 1)) for _ in "ab"
        )
        self.head = nn.Linear(8, 10)

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        for body in self.bodies:
            x = x + body(x)
        return self.head(x.relu().mean((2, 3)))


def network(seed: int = 0) -> netslim.SlimNet:
    torch.manual_seed(seed)
    return netslim.convert(Residual(), torch.randn(2, 1, 8, 8), prove=False).train()


def batches(size: int = 8) -> list[tuple[Tensor, Tensor]]:
    generator = torch.Generator().manual_seed(5)
    return [
        (torch.randn(size, 1, 8, 8, generator=generator), torch.randint(10, (size,), generator=generator))
        for _ in range(BATCHES)
    ]


def optimizer_of(net: nn.Module) -> torch.optim.Optimizer:
    return torch.optim.SGD(net.parameters(), lr=0.1, momentum=0.9)


def by_hand(
    given: list[tuple[Tensor, Tensor]],
    clip: float | None = None,
    schedule: Callable[[torch.optim.Optimizer], Any] | None = None,
    accumulate: int = 1,
    **options: Any,
) -> list[Tensor]:
    """The weights after a loop as anyone writes it."""
    net = network()
    ga = gradaug.GradAug(net, accumulate=accumulate, **SETTINGS, **options)
    optimizer = optimizer_of(net)
    stepped = schedule(optimizer) if schedule else None
    for i, (images, labels) in enumerate(given):
        ga.backward(images, labels)
        if (i + 1) % accumulate == 0:
            if clip is not None:
                torch.nn.utils.clip_grad_norm_(net.parameters(), clip)
            optimizer.step()
            optimizer.zero_grad()
            if stepped is not None:
                stepped.step()
    return [parameter.detach() for parameter in net.parameters()]
