"""The description of a random network: plain frozen data that prints as the Python that rebuilds it.

Network(dims=2, channels=3, space=6, head="linear", steps=(Step("conv", 8, 2, 1), ...)) goes into `networks.build`.
Any sequence of steps is a network: each piece is made for the shape that reaches it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn


@dataclass(frozen=True)
class Step:
    """One piece. width: channels that it makes; parts: groups, heads or pieces; flavour: which way it is written."""

    piece: str
    width: int = 8
    parts: int = 2
    flavour: int = 0
    inner: tuple[Step, ...] = ()

    def __repr__(self) -> str:
        inner = f", {self.inner!r}" if self.inner else ""
        return f"Step({self.piece!r}, {self.width}, {self.parts}, {self.flavour}{inner})"


@dataclass(frozen=True)
class Network:
    """Steps in `dims` dimensions of `space` places each, from `channels` channels to a head."""

    dims: int
    channels: int
    space: int
    head: str
    steps: tuple[Step, ...]

    @property
    def image(self) -> tuple[int, ...]:
        """The shape of a batch of two."""
        return (2, self.channels, *[self.space] * self.dims)


Shape = tuple[int, ...]
"""Batch, channels, space."""

Piece = Callable[[Shape, Step], nn.Module]


class Written(nn.Module):
    """A few layers and parameters by name, and the forward as a function of them."""

    def __init__(self, forward: Callable[..., Any], **members: nn.Module | nn.Parameter) -> None:
        super().__init__()
        self.written = forward
        for name, member in members.items():
            setattr(self, name, member)

    def forward(self, *tensors: Tensor) -> Any:
        return self.written(self, *tensors)


def same(*_: Any) -> nn.Module:
    """What a piece is where the shape does not suit it."""
    return nn.Identity()
