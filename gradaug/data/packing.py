"""A batch of many tensors on its way from a worker: a few tensors and a note of what lies where in them.

Between processes every tensor takes an open file, and batches that wait hold hundreds of them, more than a process may
have open; pinning memory takes its time for each as well.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Generic, TypeVar

import torch
from torch import Tensor
from torch.utils._pytree import TreeSpec, tree_flatten, tree_unflatten

T = TypeVar("T")

FEW = 4
"""Tensors that are not worth packing."""


@dataclass(frozen=True, slots=True)
class Packed(Generic[T]):
    """Tensors of each dtype one after another."""

    buffers: dict[torch.dtype, Tensor]
    places: list[tuple[torch.dtype, int, torch.Size]]
    """Of every tensor: where it is, and at which entry it begins."""
    form: TreeSpec

    def pin_memory(self) -> Packed[T]:
        """As the loader's thread asks for it."""
        return replace(self, buffers={dtype: buffer.pin_memory() for dtype, buffer in self.buffers.items()})

    def unpacked(self) -> T:
        """The batch; its tensors are views."""
        tensors = [
            self.buffers[dtype][start : start + shape.numel()].view(shape) for dtype, start, shape in self.places
        ]
        found: T = tree_unflatten(tensors, self.form)
        return found


def packed(batch: T) -> T | Packed[T]:
    """The batch in few tensors; itself where it has no more, or holds anything else."""
    leaves, form = tree_flatten(batch)
    if len(leaves) <= FEW or not all(isinstance(leaf, Tensor) for leaf in leaves):
        return batch
    parts: dict[torch.dtype, list[Tensor]] = {}
    places = []
    filled: dict[torch.dtype, int] = {}
    for leaf in leaves:
        places.append((leaf.dtype, filled.get(leaf.dtype, 0), leaf.shape))
        parts.setdefault(leaf.dtype, []).append(leaf.reshape(-1))
        filled[leaf.dtype] = filled.get(leaf.dtype, 0) + leaf.numel()
    return Packed({dtype: torch.cat(found) for dtype, found in parts.items()}, places, form)
