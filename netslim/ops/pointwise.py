"""Elementwise operators: operands are broadcast against each other, and dimensions that meet are one axis.

`unify_broadcast` serves every operator that torch tags as pointwise, and the few listed here that lack the tag.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from netslim.layouts.axes import Layout
from netslim.layouts.engine import Call
from netslim.ops.family import Examples, Fits, Modules, Rules

# not tagged by torch although each output entry depends on the entries at its own place only
UNTAGGED = """add copy copy_ dropout dropout_ native_dropout feature_dropout alpha_dropout feature_alpha_dropout
    zeros_like ones_like full_like empty_like rand_like randn_like fill fill_ zero_ bernoulli bernoulli_ uniform_
    normal_ exponential_ random_ clone contiguous detach detach_ alias _to_copy lift_fresh masked_fill
    masked_fill_ where.self where.ScalarOther where.ScalarSelf where.Scalar complex polar
    _prelu_kernel threshold hardtanh hardtanh_ celu elu celu_ elu_ selu selu_ rrelu
    leaky_relu leaky_relu_ hardswish hardswish_ mish mish_ nan_to_num float_power positive lerp
    __and__ __or__""".split()


def unify_broadcast(call: Call) -> None:
    """Unify the operands' dimensions, aligned from the right; results of the broadcast shape get them."""
    operands = [t for t in call.tensors if t.dim()]
    if not operands:
        scalar_result(call)
        return
    rank = max(t.dim() for t in operands)
    dims: list[Layout] = [_meet(call, operands, from_right) for from_right in range(rank, 0, -1)]
    for out in call.outs:
        if all(out is not t for t in call.tensors) and out.dim() <= rank:
            call.set(out, dims[rank - out.dim() :])


def _meet(call: Call, operands: list[Tensor], from_right: int) -> Layout:
    """The layout of one dimension, counted from the right: operands of size 1 are stretched to the others'."""
    here = [t for t in operands if t.dim() >= from_right]
    size = max(t.shape[-from_right] for t in here)
    met = [call.dims(t)[-from_right] for t in here if t.shape[-from_right] == size]
    for other in met[1:]:
        call.unify(met[0], other)
    return met[0]


def scalar_result(call: Call) -> None:
    """Operands without dimensions give results without."""
    for out in call.outs:
        if out.dim() == 0:
            call.set(out, [])


def cast(call: Call) -> None:
    """x.to(other), x.type_as(other): of the other tensor only its kind counts."""
    x = call.tensors[0]
    for out in call.outs:
        if out is not x:
            call.set(out, call.dims(x))


EXAMPLES: Examples = {
    "to the kind of another": lambda r: (lambda x, y: x.to(y) * y.type_as(x).mean((2, 3)))(r(2, 6), r(2, 6, 2, 6)),
    "add broadcast": lambda r: r(2, 6, 4) + r(6, 1),
    "in place": lambda r: (2 * r(2, 6, 4)).add_(r(6, 1)).relu_(),
    "where": lambda r: torch.where(r(2, 6, 4) > 0, r(6, 1), r(2, 1, 4)),
    "lerp": lambda r: torch.lerp(r(2, 6), r(2, 6), r(6)),
    "masked_fill": lambda r: r(2, 6, 4).masked_fill(r(6, 1) > 0, 3.0),
    "prelu": lambda r: F.prelu(r(2, 6, 4), r(6)),
    "complex": lambda r: torch.complex(r(2, 6, 4), r(6, 1)).abs(),
    "gelu": lambda r: F.gelu(r(2, 6)),
}

RULES: Rules = dict.fromkeys(UNTAGGED, unify_broadcast) | dict.fromkeys(("to", "type_as"), cast)

FITS: Fits = {}
MODULES: Modules = {}
