"""Reductions and softmax. Over an elastic dimension they are statistics of the kept channels by design."""

from __future__ import annotations

import torch
from torch import Tensor

from netslim.layouts.axes import Const, Layout, Reason
from netslim.layouts.engine import Call, Take
from netslim.ops.family import Examples, Fits, Modules, Rules
from netslim.ops.pointwise import unify_broadcast


def _reduced(call: Call) -> list[int]:
    rank = call.tensors[0].dim()
    dim = call.arg("dim")
    if dim is None or dim == []:
        return list(range(rank))
    return sorted({d % max(rank, 1) for d in ([dim] if isinstance(dim, int) else dim)})


def reduction(call: Call) -> None:
    """The named dimensions vanish, or stay with size 1."""
    gone = _reduced(call)
    for out in call.outs:
        call.set(out, _remaining(call, out, gone))
    _mix(call, gone)


def along(call: Call) -> None:
    """softmax and its kin: every entry depends on the whole of one dimension, and the shape stays."""
    x, dim = call.tensors[0], call.arg("dim")
    for out in call.outs:
        call.set(out, call.dims(x))
    _mix(call, [dim % x.dim()])


def _mix(call: Call, dims: list[int]) -> None:
    x = call.tensors[0]

    def redo(take: Take) -> Tensor:
        return call.func(take(x), *call.args[1:], **call.kwargs)

    call.over([(x, d) for d in dims], redo)


def positional(call: Call) -> None:
    """argmax, sort, cumsum: the result speaks of positions, so the dimension keeps its full width."""
    x, gone = call.tensors[0], _reduced(call)
    text = "the result depends on the positions along this dimension"
    call.freeze([call.dims(x)[d] for d in gone], text)
    for out in call.outs:
        call.set(out, _remaining(call, out, gone, call.why(text)()))


def _remaining(call: Call, out: Tensor, gone: list[int], why: Reason | None = None) -> list[Layout]:
    dims = call.dims(call.tensors[0])
    if out.dim() == len(dims):
        return [Const(out.shape[i], why) if i in gone else d for i, d in enumerate(dims)]
    return [d for i, d in enumerate(dims) if i not in gone]


_REDUCTIONS = """sum mean var std var_mean std_mean amax amin aminmax max min norm linalg_vector_norm logsumexp prod any
    all nansum nanmean median nanmedian
    count_nonzero""".split()

_POSITIONAL = "argmax argmin sort topk cumsum cumprod cummax cummin logcumsumexp kthvalue mode".split()

RULES: Rules = {"max.other": unify_broadcast, "min.other": unify_broadcast} | (
    dict.fromkeys(_REDUCTIONS, reduction)
    | dict.fromkeys(("softmax", "log_softmax", "_softmax", "_log_softmax"), along)
    | dict.fromkeys(_POSITIONAL, positional)
)

EXAMPLES: Examples = {
    "mean over space": lambda r: r(2, 6, 4, 4).mean((2, 3)),
    "mean over channels": lambda r: r(2, 6, 4, 4).mean(1, keepdim=True),
    "sum of everything but channels": lambda r: r(2, 6, 4).sum((0, 2)),
    "max with indices": lambda r: r(2, 6, 4).max(2)[0],
    "amax over channels": lambda r: r(2, 6, 4).amax(1),
    "std": lambda r: r(2, 6, 4).std(2, correction=0, keepdim=True),
    "vector norm over channels": lambda r: torch.linalg.vector_norm(r(2, 6, 4), dim=1, keepdim=True),
    "softmax over channels": lambda r: r(2, 6, 4).softmax(1),
    "log_softmax over space": lambda r: r(2, 6, 4).log_softmax(-1),
    "argmax over channels": lambda r: r(2, 6, 4).argmax(1),
    "count_nonzero over channels": lambda r: r(2, 6, 4).count_nonzero(1) * r(2, 4),
    "cumsum over space": lambda r: r(2, 6, 4).cumsum(-1),
    "cumprod over space": lambda r: r(2, 6, 4).cumprod(2),
    "cummax over space": lambda r: r(2, 6, 4).cummax(2)[0],
    "cumsum over channels": lambda r: r(2, 6, 4).cumsum(1),
}

FITS: Fits = {}
MODULES: Modules = {}
