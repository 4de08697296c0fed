"""What a sub-network keeps of one tensor, and the cutting itself.

A cut is a tuple of (dim, start, length) for dims whose kept channels are one run (a view, no copy) and (dim, index)
for dims whose kept channels are scattered (a gather). None stands for the whole tensor.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import torch
from torch import Tensor

from netslim.layouts.axes import Runs, positions

Cut = tuple[tuple[int, int, int] | tuple[int, Tensor], ...]


@dataclass(frozen=True)
class Kept:
    """What a sub-network keeps of one leaf module.

    tensors: the cut of each parameter and buffer that shrinks; ints: integer settings that count channels, such as
    `groups`; track: whether running statistics are updated in training mode.
    """

    tensors: Mapping[str, Cut] = field(default_factory=dict)
    ints: Mapping[str, int] = field(default_factory=dict)
    track: bool = False


def make_cut(index_sets: tuple[Runs | None, ...], device: torch.device | str = "cpu") -> Cut | None:
    """The cut for a tensor on `device`, given the kept indices of each dim (None where the dim is whole)."""
    parts: list[tuple[int, int, int] | tuple[int, Tensor]] = []
    for dim, runs in enumerate(index_sets):
        if runs is not None:
            parts.append((dim, *runs[0]) if len(runs) == 1 else (dim, _index(runs, device)))
    return tuple(parts) or None


@torch.inference_mode(False)  # cuts are remembered, and a later run may train
def _index(runs: Runs, device: torch.device | str) -> Tensor:
    return torch.tensor(list(positions(runs)), device=device)


def take(tensor: Tensor, cut: Cut | None) -> Tensor:
    """The kept part of `tensor`: the same tensor, a view of it, or a gathered copy."""
    for part in cut or ():
        if len(part) == 3:
            tensor = tensor.narrow(*part)
        else:
            tensor = tensor.index_select(part[0], part[1].to(tensor.device))
    return tensor


def put(tensor: Tensor, cut: Cut | None, part: Tensor) -> None:
    """The inverse of :func:`take`: writes `part` where it was taken from."""
    index: list[slice | Tensor] = [slice(None)] * tensor.dim()
    for one in cut or ():
        if len(one) == 3:
            tensor = tensor.narrow(*one)
        else:
            index[one[0]] = one[1].to(tensor.device)
    if sum(isinstance(i, Tensor) for i in index) > 1:  # indices that meet in a grid, not pair by pair
        grids = [
            i if isinstance(i, Tensor) else torch.arange(n, device=tensor.device)
            for i, n in zip(index, tensor.shape, strict=True)
        ]
        index = [*torch.meshgrid(*grids, indexing="ij")]
    tensor[tuple(index)] = part


@torch.no_grad()
def put_back(tensor: Tensor, cut: Cut | None, part: Tensor) -> None:
    """What was written to a taken `part`, in `tensor` too where the part is a copy and not a view.

    A parameter that learns by its gradient is not written to by forward.
    """
    if not tensor.requires_grad and any(len(one) == 2 for one in cut or ()):
        put(tensor, cut, part)
