"""Operators that make tensors. Where all entries are alike, any width does; where they count, none but the full one."""

from __future__ import annotations

from dataclasses import replace

import torch

from netslim.ir.program import Node
from netslim.layouts.axes import Const, Reason, fresh
from netslim.layouts.engine import Call
from netslim.layouts.lines import user_line
from netslim.ops.family import Examples, Fits, Modules, Rules
from netslim.ops.fitting import Fit, Fitting, spread


def uniform(call: Call) -> None:
    """zeros, ones, full, empty, rand: entries alike (or alike in distribution)."""
    for out in call.outs:
        call.set(out, [fresh(n) for n in out.shape])


def counted(call: Call) -> None:
    """arange, linspace, eye, indices of triangles: the entries depend on their place."""
    reason = Reason("the entries depend on their place", call.name, user_line())
    for tensor in call.tensors:
        call.freeze(call.dims(tensor), reason.text)
    for out in call.outs:
        call.set(out, [Const(n, reason) for n in out.shape])


def scalar(call: Call) -> None:
    """item(): a number has no layout."""


def fit_creation(first: int) -> Fit:
    def fit(node: Node, fit: Fitting) -> Node:
        sizes = node.kwargs.get("size") or spread(node.args[first:])
        if not isinstance(sizes, (tuple, list)) or len(sizes) != len(fit.outs[0]):
            return node
        new = tuple(map(fit.resized, sizes, fit.outs[0]))
        if "size" in node.kwargs:
            return replace(node, kwargs={**node.kwargs, "size": new})
        return replace(node, args=(*node.args[:first], new))

    return fit


def fit_full(first: int) -> Fit:
    def fit(node: Node, fit: Fitting) -> Node:
        sizes = fit.entries(node, first, "size")
        return fit.set_argument(node, first, "size", tuple(map(fit.resized, sizes, fit.outs[0])))

    return fit


_UNIFORM = "zeros ones full empty rand randn new_zeros new_ones new_full new_empty empty_strided randint".split()
_COUNTED = "arange linspace logspace eye tril_indices triu_indices".split()

RULES: Rules = (
    dict.fromkeys(_UNIFORM, uniform)
    | dict.fromkeys(_COUNTED, counted)
    | {"_local_scalar_dense": scalar, "item": scalar, "is_nonzero": scalar, "equal": scalar}
)

FITS: Fits = (
    {f"torch.{name}": fit_creation(0) for name in "zeros ones empty rand randn".split()}
    | {f"torch.Tensor.new_{name}": fit_creation(1) for name in "zeros ones empty".split()}
    | {"torch.full": fit_full(0), "torch.Tensor.new_full": fit_full(1)}
)

EXAMPLES: Examples = {
    "zeros": lambda r: r(2, 6, 4) + torch.zeros(6, 4),
    "new_ones": lambda r: (lambda x: x * x.new_ones(2, 6, 4))(r(2, 6, 4)),
    "full": lambda r: r(2, 6) + torch.full((6,), 2.0),
    "full_like": lambda r: torch.full_like(r(2, 6), 2.0) * r(2, 6),
    "arange": lambda r: r(2, 6) + torch.arange(6),
}

MODULES: Modules = {}
