"""Linear layers, matrix products and attention: contracted dimensions are one axis."""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from netslim.ir.program import Node
from netslim.layouts.axes import Layout
from netslim.layouts.engine import Call
from netslim.layouts.slices import Kept, take
from netslim.ops.family import Examples, Fits, Modules, Rules
from netslim.ops.fitting import Fitting


def linear(call: Call) -> None:
    """x (..., in), weight (out, in), bias (out)."""
    x, weight, bias = call.arg("input"), call.arg("weight"), call.arg("bias")
    w_dims = call.dims(weight)
    call.unify(call.dims(x)[-1], w_dims[-1])
    if bias is not None:
        call.unify(call.dims(bias)[0], w_dims[0])
    call.set(call.outs[0], [*call.dims(x)[:-1], *w_dims[:-1]])


def matmul(call: Call) -> None:
    """(..., n, k) @ (..., k, m), and its forms with vectors."""
    a, b = call.tensors[-2:]
    a_dims, b_dims = call.dims(a), call.dims(b)
    row = a_dims[-2:-1] if a.dim() > 1 else []
    column = b_dims[-1:] if b.dim() > 1 else []
    call.unify(a_dims[-1], b_dims[-2] if b.dim() > 1 else b_dims[0])
    out = call.outs[0]
    batch = _broadcast(call, a, b, out.dim() - len(row) - len(column))
    call.set(out, [*batch, *row, *column])
    if batch and call.engine.produced(a) and call.engine.produced(b):
        call.count(batch[-1], "head")
    contracted = [(a, a.dim() - 1), (b, max(0, b.dim() - 2))]
    if call.engine.produced(a) and call.engine.produced(b):
        call.over(contracted, lambda take: torch.matmul(take(a), take(b)))


def _broadcast(call: Call, a: Tensor, b: Tensor, rank: int) -> list[Layout]:
    dims: list[Layout] = []
    for from_right in range(rank + 2, 2, -1):
        here = [(t.shape[-from_right], call.dims(t)[-from_right]) for t in (a, b) if t.dim() >= from_right]
        size = max(n for n, _ in here)
        met = [d for n, d in here if n == size]
        for other in met[1:]:
            call.unify(met[0], other)
        dims.append(met[0])
    return dims


def add_matmul(call: Call) -> None:
    """addmm and baddbmm: a matrix product plus a bias that is broadcast over the result."""
    matmul(call)
    out, bias = call.outs[0], call.tensors[0]
    for offset in range(1, bias.dim() + 1):
        if bias.shape[-offset] == out.shape[-offset]:
            call.unify(call.dims(bias)[-offset], call.dims(out)[-offset])
    call.mixes.clear()  # the bias would have to be added again; the proof then masks instead


def attention(call: Call) -> None:
    """q (..., L, E), k (..., S, E), v (..., S, V): E is contracted with a scale that is fixed by the full width."""
    q, k, v, mask = (call.arg(name) for name in ("query", "key", "value", "attn_mask"))
    q_dims, k_dims, v_dims = map(call.dims, (q, k, v))
    call.unify(q_dims[-1], k_dims[-1])
    call.unify(k_dims[-2], v_dims[-2])
    for i in range(q.dim() - 2):
        for other in (k, v):
            if other.shape[i] == q.shape[i]:
                call.unify(q_dims[i], call.dims(other)[i])
            else:
                call.freeze([q_dims[i], call.dims(other)[i]], "attention heads of different numbers")
    if q.dim() > 3:
        call.count(q_dims[-3], "head")
    call.freeze([q_dims[-2], k_dims[-2]], "attention runs over this dimension")
    if mask is not None:
        for i in range(1, mask.dim() + 1):
            call.freeze([call.dims(mask)[-i]], "an attention mask has this dimension")
    call.set(call.outs[0], [*q_dims[:-1], v_dims[-1]])
    for out in call.outs[1:]:
        call.engine.dims(out)
    call.note("scale", q_dims[-1])


def fit_attention(node: Node, fit: Fitting) -> Node:
    """Write down the scale that the full network computes from its head dimension."""
    channels = fit.notes.get("scale")
    if channels is None or fit.fixed(channels) or node.kwargs.get("scale") is not None:
        return node
    return replace(node, kwargs={**node.kwargs, "scale": channels.size**-0.5})


class SlimLinear(nn.Linear):
    kept: Kept | None = None

    def forward(self, x: Tensor) -> Tensor:
        kept = self.kept
        if kept is None or not kept.tensors:
            return super().forward(x)
        bias = None if self.bias is None else take(self.bias, kept.tensors.get("bias"))
        return F.linear(x, take(self.weight, kept.tensors.get("weight")), bias)


def shrink(module: nn.Module, _kept: Kept) -> None:
    assert isinstance(module, nn.Linear), "MODULES names it for this"
    module.out_features, module.in_features = module.weight.shape


RULES: Rules = {
    "linear": linear, "matmul": matmul, "mm": matmul, "bmm": matmul, "mv": matmul, "dot": matmul, "vdot": matmul,
    "addmv": add_matmul, "addmm": add_matmul, "baddbmm": add_matmul, "scaled_dot_product_attention": attention,
}  # fmt: skip

MODULES: Modules = {nn.Linear: (SlimLinear, shrink)}

FITS: Fits = {"torch.nn.functional.scaled_dot_product_attention": fit_attention}

EXAMPLES: Examples = {
    "linear": lambda r: F.linear(r(2, 7, 6), r(8, 6), r(8)),
    "matmul": lambda r: r(2, 3, 6, 5) @ r(2, 3, 5, 4),
    "matmul broadcast": lambda r: r(3, 6, 5) @ r(2, 3, 5, 4),
    "matmul vector": lambda r: r(6, 5) @ r(5),
    "bmm": lambda r: torch.bmm(r(3, 6, 5), r(3, 5, 4)),
    "einsum": lambda r: torch.einsum("bchw,bdhw->bcd", r(2, 6, 3, 3), r(2, 5, 3, 3)),
    "einsum batch": lambda r: torch.einsum("bhlk,bhmk->bhlm", r(2, 3, 5, 4), r(2, 3, 5, 4)),
    "einsum weights": lambda r: torch.einsum("bchw,oc->bohw", r(2, 6, 3, 3), r(8, 6)),
    "einsum gate": lambda r: torch.einsum("bchw,bc->bchw", r(2, 6, 3, 3), r(2, 6)),
    "einsum dots": lambda r: torch.einsum("...i,...i->...", r(2, 5, 6), r(2, 5, 6)),
    "einsum three": lambda r: torch.einsum("bi,ij,bj->b", r(2, 6), r(6, 5), r(2, 5)),
    "einsum diagonal": lambda r: torch.einsum("bcc,bd->bcd", r(2, 6, 6), r(2, 5)),
    "einsum trace": lambda r: torch.einsum("bii->b", r(2, 6, 6)),
    "baddbmm": lambda r: torch.baddbmm(r(3, 1, 4), r(3, 6, 5), r(3, 5, 4)),
    "attention": lambda r: F.scaled_dot_product_attention(r(2, 3, 5, 4), r(2, 3, 5, 4), r(2, 3, 5, 6)),
}
