"""What a sub-network keeps of one tensor, and the cutting itself.

A cut is a tuple of (dim, start, length) for dims whose kept channels are one run (a view, no copy) and (dim, index)
for dims whose kept channels are scattered (a gather). None stands for the whole tensor.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import Any

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
    if cut is None:
        return tensor
    adding = None if torch.compiler.is_compiling() else _ADDING.get()
    if adding is not None and tensor.is_leaf and tensor.requires_grad and torch.is_grad_enabled():
        taken: Tensor = _Taken.apply(tensor, cut, adding)
        return taken
    return _part(tensor, cut)


def _part(tensor: Tensor, cut: Cut) -> Tensor:
    for part in cut:
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


class Adding:
    """Whether the gradients of taken parts are added in place: looked at in the backward pass, by whatever thread."""

    on = False


_ADDING: ContextVar[Adding | None] = ContextVar("adding", default=None)


@contextlib.contextmanager
def adding_in_place(adding: Adding) -> Iterator[None]:
    """The gradient of a taken part goes straight to its place in the parameter's ``.grad``, where there is one.

    autograd would fill a whole tensor with zeros for every part, and add all of it. It is for losses whose gradients
    are taken inside, by ``backward()``: nothing that is asked for a parameter's gradient would get it. As ever they go
    to a parameter with hooks, and to all while `adding` is off.
    """
    token, adding.on = _ADDING.set(adding), True
    try:
        yield
    finally:
        adding.on = False
        _ADDING.reset(token)


class _Taken(torch.autograd.Function):
    """`take` of a parameter."""

    @staticmethod
    def forward(ctx: Any, tensor: Tensor, cut: Cut, adding: Adding) -> Tensor:
        ctx.tensor, ctx.cut, ctx.adding = tensor, cut, adding
        return _part(tensor.detach(), cut)

    @staticmethod
    def backward(ctx: Any, part: Tensor) -> tuple[Tensor | None, None, None]:
        if ctx.adding.on and _can_add(ctx.tensor, ctx.cut):
            _add(ctx.tensor.grad, ctx.cut, part)
            return None, None, None
        whole = torch.zeros_like(ctx.tensor)
        put(whole, ctx.cut, part)
        return whole, None, None


def _can_add(tensor: Tensor, cut: Cut) -> bool:
    """Whether nobody but ``.grad`` waits for the gradient, and that is ready to be added to."""
    grad, hooks = tensor.grad, tensor._backward_hooks or getattr(tensor, "_post_accumulate_grad_hooks", None)
    ready = grad is not None and type(grad) is Tensor and grad.layout == torch.strided and grad.dtype == tensor.dtype
    return ready and not hooks and not torch.is_grad_enabled() and sum(len(one) == 2 for one in cut) < 2


def _add(grad: Tensor, cut: Cut, part: Tensor) -> None:
    for one in cut:
        grad = grad.narrow(*one) if len(one) == 3 else grad
    scattered = next((one for one in cut if len(one) == 2), None)
    if scattered is None:
        grad.add_(part)
    else:
        grad.index_add_(scattered[0], scattered[1].to(grad.device), part)
