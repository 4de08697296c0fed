"""What the zoo needs to know of a network that is not torchvision's or timm's: how it is made, and what it is given."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

BATCH = 2


@dataclass(frozen=True, slots=True)
class Net:
    """How a network is made, and its example inputs as `netslim.convert` takes them."""

    make: Callable[[], nn.Module]
    inputs: Callable[[], Any]


def images(side: int = 64, channels: int = 3) -> Callable[[], Tensor]:
    """(2, channels, side, side) normal numbers."""
    return floats(channels, side, side)


def floats(*shape: int) -> Callable[[], Tensor]:
    """(2, *shape) normal numbers; the same ones every time."""
    return lambda: torch.randn(BATCH, *shape, generator=torch.Generator().manual_seed(0))


def positives(*shape: int) -> Callable[[], Tensor]:
    """(2, *shape) numbers in [0, 1)."""
    return lambda: torch.rand(BATCH, *shape, generator=torch.Generator().manual_seed(0))


def numbers(high: int, *shape: int) -> Callable[[], Tensor]:
    """(2, *shape) integers below `high`, which is among them but for one."""
    return lambda: torch.randint(0, high, (BATCH, *shape), generator=torch.Generator().manual_seed(0))


def given(**parts: Callable[[], Tensor]) -> Callable[[], dict[str, Tensor]]:
    """Keyword arguments."""
    return lambda: {name: make() for name, make in parts.items()}


def several(*parts: Callable[[], Tensor]) -> Callable[[], tuple[Tensor, ...]]:
    """Positional arguments."""
    return lambda: tuple(make() for make in parts)
