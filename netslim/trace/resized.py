"""Example inputs at other sizes: other batches, and sides, lengths or frames as far as a network runs on them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.utils._pytree import tree_leaves, tree_map_only

Inputs = Mapping[str, object]
"""Arguments of forward by name: tensors, and containers of them."""


@dataclass(frozen=True)
class Scale:
    """How inputs are resized: the batch, and for every further dimension in turn a factor and what is added."""

    batch: int | None
    factors: tuple[float, ...] = (1.0,)
    more: tuple[int, ...] = (0,)

    def side(self, size: int, i: int) -> int:
        """The size of dimension i of those that are resized; at least 1."""
        return max(1, int(size * self.factors[i % len(self.factors)]) + self.more[i % len(self.more)])


FIRST = (
    Scale(3, (2.0,)),
    Scale(1, (1.0,), (32, 64)),
    Scale(5, (0.5,)),
    Scale(2, (1.0, 3.0), (1, 3)),
)
"""Other sizes, the most likely to be taken first: squares, multiples of 32, half, odd ones."""
FURTHER = (
    Scale(2, (4.0, 1.0)),
    Scale(4, (2.0, 3.0)),
    Scale(7, (5.0,)),
    Scale(2, (1.0,), (3, 7)),
    Scale(3, (7.0, 4.0), (5, 3)),
    Scale(1, (1.5, 2.0)),
    Scale(6, (1.0,), (96, 160)),
    Scale(2, (0.75, 1.5)),
    Scale(2, (11.0, 6.0), (4, 2)),
)
"""More of them, to find and to confirm formulas with."""
LARGE = (Scale(1031), Scale(2, (4.0,)))
"""Beyond what code asks of sizes ("if len(x) > 100"): where loops have shown themselves before."""
LARGEST = Scale(1031, (4.0,))
"""Both at once."""
BATCHES = (Scale(3), Scale(1))
MORE_BATCHES = (Scale(4), Scale(7), Scale(12))
"""Batches alone, for what takes no other sizes."""
Family = Mapping[int, tuple[int, ...]]
"""Which dimensions are resized, by how many a tensor has."""
_SIDES: Mapping[int, Sequence[tuple[int, ...]]] = {
    5: ((2, 3, 4), (3, 4), (1,)), 4: ((2, 3), (1, 2)), 3: ((2,), (1,), (1, 2)), 2: ((1,),),
}  # fmt: skip
"""The dimensions that may be sides, lengths or frames, by how many a tensor has, the likeliest first."""


def families(inputs: Inputs) -> list[Family]:
    """What may be resized: sides of all tensors together, then of those with so many dimensions alone."""
    known = {n: _SIDES[n] for t in tensors_of(inputs) if (n := t.dim()) in _SIDES}
    most = max(map(len, known.values()), default=0)
    together: list[Family] = [{n: s[min(i, len(s) - 1)] for n, s in known.items()} for i in range(most)]
    return together + [{n: dims} for n, s in known.items() for dims in s if len(known) > 1]


def resized(inputs: Inputs, scale: Scale, family: Family) -> dict[str, object]:
    """The inputs with another batch, and other sizes in the dimensions of a family."""
    common = batch(inputs)

    def other(tensor: Tensor) -> Tensor:
        shape = list(tensor.shape)
        if common is not None and scale.batch is not None:
            shape[0] = scale.batch
        for i, dim in enumerate(family.get(tensor.dim(), ())):
            shape[dim] = scale.side(shape[dim], i)
        return _of_shape(tensor, shape)

    return tree_map_only(Tensor, other, dict(inputs))


def sides(inputs: Inputs, family: Family) -> Iterator[tuple[int, int]]:
    """The dimensions of a family: the tensor's place among the inputs, and the dimension."""
    for i, tensor in enumerate(tensors_of(inputs)):
        yield from ((i, dim) for dim in family.get(tensor.dim(), ()))


def batch(inputs: Inputs) -> int | None:
    """The first dimension that all tensors have in common; None where there is none."""
    sizes = {t.shape[0] if t.dim() > 1 else None for t in tensors_of(inputs)}
    return sizes.pop() if len(sizes) == 1 else None


def tensors_of(inputs: Inputs) -> list[Tensor]:
    """Every tensor of the inputs, in order."""
    return [leaf for leaf in tree_leaves(dict(inputs)) if isinstance(leaf, Tensor)]


def _of_shape(tensor: Tensor, shape: Sequence[int]) -> Tensor:
    """A tensor of another shape: without values if they do not matter, else repeated."""
    if tensor.is_floating_point() or tensor.is_meta:
        return tensor.new_empty(shape, device="meta")
    for dim, size in enumerate(shape):
        places = torch.arange(size, device=tensor.device) % max(tensor.shape[dim], 1)
        tensor = tensor.index_select(dim, places)
    return tensor
