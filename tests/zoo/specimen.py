"""What an entry of the catalogue is, and the few words with which most of them are written."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn


def images(*sides: int, batch: int = 2) -> Tensor:
    """A batch of colour images, square where one side is given."""
    height, width = sides * 2 if len(sides) == 1 else sides
    generator = torch.Generator().manual_seed(height + 64 * width + 4096 * batch)
    return torch.randn(batch, 3, height, width, generator=generator)


SQUARES = images(16, batch=3), images(20, batch=1)


@dataclass(frozen=True)
class Specimen:
    """A network, and what theory says of it.

    groups: size by name, all of them. frozen: why a dimension ('conv.weight[0]') stays, all of them but images and
    classes. idle: groups that no output depends on. inputs, others: example inputs, and others that the network takes
    as well.
    """

    build: Callable[[], nn.Module]
    groups: Mapping[str, int]
    frozen: Mapping[str, str] = field(default_factory=dict)
    idle: tuple[str, ...] = ()
    inputs: Any = field(default_factory=lambda: images(16))
    others: tuple[Any, ...] = SQUARES


class Written(nn.Module):
    """A few layers and parameters by name, and a forward given as a function of them."""

    def __init__(self, forward: Callable[..., Any], **named: nn.Module | nn.Parameter) -> None:
        super().__init__()
        for name, value in named.items():
            setattr(self, name, value)
        self._forward = forward

    def forward(self, x: Tensor) -> Any:
        return self._forward(self, x)


def conv(i: int, o: int, k: int = 3, **options: Any) -> nn.Conv2d:
    """A convolution that keeps the sides."""
    return nn.Conv2d(i, o, k, padding=k // 2, **options)


def head(i: int) -> nn.Linear:
    return nn.Linear(i, 5)


def pooled(m: Any, x: Tensor) -> Tensor:
    """The end of most of these networks: the mean over space goes into `head`."""
    return m.head(x.mean((2, 3)))


def param(*shape: int) -> nn.Parameter:
    return nn.Parameter(torch.randn(shape))
