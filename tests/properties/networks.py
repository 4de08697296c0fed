"""Random networks: `build` makes the module of a description, `networks` draws descriptions.

The pieces are in `layers`, `pieces`, `tokens` and `structures`.
"""

from __future__ import annotations

import torch
from hypothesis import strategies as st
from torch import Tensor, nn

from .layers import LAYERS
from .pieces import PIECES
from .steps import Network, Shape, Step
from .structures import HEADS, STRUCTURES, head, shape_of
from .tokens import TOKENS

SIMPLE = LAYERS | PIECES | TOKENS
SWITCHED_OFF: frozenset[tuple[str, int]] = frozenset()
"""(piece, flavour) that netslim is known to get wrong; never drawn."""


class RandomNet(nn.Module):
    """The steps of a description, then its head."""

    def __init__(self, network: Network) -> None:
        super().__init__()
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            self.steps = body(network.image, network.steps)
            self.head = head(network.head, shape_of(self.steps, network.image))

    def forward(self, x: Tensor) -> object:
        return self.head(self.steps(x))


def build(network: Network) -> RandomNet:
    return RandomNet(network)


def body(shape: Shape, steps: tuple[Step, ...]) -> nn.Sequential:
    """The steps one after another, each made for the shape that reaches it."""
    layers = nn.Sequential()
    for step in steps:
        inner = STRUCTURES.get(step.piece)
        layers.append(inner(shape, step, body) if inner else SIMPLE[step.piece](shape, step))
        shape = shape_of(layers[-1], shape)
    return layers


# ------------------------------------------------------------------------------------------------- strategy


def _steps(pieces: list[str], inner: st.SearchStrategy[tuple[Step, ...]]) -> st.SearchStrategy[Step]:
    drawn = st.builds(
        Step,
        piece=st.sampled_from(pieces),
        width=st.integers(2, 12),
        parts=st.integers(1, 4),
        flavour=st.integers(0, 7),
        inner=inner,
    )
    return drawn.filter(lambda step: (step.piece, step.flavour) not in SWITCHED_OFF)


# Convolutions are drawn more often than any other piece, so that channels are made and read.
_simple = _steps([*["conv"] * 6, *SIMPLE], st.just(()))
_inner = st.lists(_simple, min_size=1, max_size=2).map(tuple)
_nested = st.lists(_simple | _steps(list(STRUCTURES), _inner), min_size=1, max_size=3).map(tuple)
_any = _simple | _steps(list(STRUCTURES), _nested)


@st.composite
def networks(draw: st.DrawFn) -> Network:
    """A description of one to five steps, some of which hold further ones."""
    dims = draw(st.sampled_from((2, 2, 1, 3)))
    return Network(
        dims=dims,
        channels=draw(st.integers(1, 4)),
        space=draw(st.integers(4, 4 if dims == 3 else 8)),
        head=draw(st.sampled_from(HEADS)),
        steps=(Step("conv", draw(st.integers(4, 12))), *draw(st.lists(_any, min_size=1, max_size=4))),
    )
