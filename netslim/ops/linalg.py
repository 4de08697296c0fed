"""Matrices as a whole, their diagonals, distances between rows, bilinear forms, weights divided by their norm."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from netslim.layouts.axes import Const, Layout
from netslim.layouts.engine import Call
from netslim.ops.family import Examples, Fits, Modules, Rules


def matrix_function(call: Call) -> None:
    """exp, inverse, solve, decompositions: every entry depends on the whole matrix; batches pass."""
    text = "a matrix function depends on the whole matrix"
    for tensor in call.tensors:
        call.freeze(call.dims(tensor)[-2:], text)
    first, reason = call.tensors[0], call.why(text)()
    batch = call.dims(first)[:-2]
    for other in call.tensors[1:]:
        call.freeze(call.dims(other)[:-2], text)
    for out in call.outs:
        passed = batch if out.shape[: len(batch)] == first.shape[:-2] else []
        call.set(out, [*passed, *(Const(n, reason) for n in out.shape[len(passed) :])])


def cross(call: Call) -> None:
    """The three components of a vector stay; the other dimensions are shared."""
    a, b = call.tensors[:2]
    dims = list(call.dims(a))
    at = call.arg("dim", -1) % a.dim()
    call.freeze([dims[at], call.dims(b)[at]], "the components of a cross product")
    for i, (mine, its) in enumerate(zip(dims, call.dims(b), strict=True)):
        if mine.size == its.size:
            call.unify(mine, its)
        elif mine.size == 1:
            dims[i] = its
    call.set(call.outs[0], dims)


def distances(call: Call) -> None:
    """cdist: x (..., P, M), y (..., R, M) -> (..., P, R), a distance over the M that both share."""
    x, y = call.tensors[:2]
    x_dims, y_dims = call.dims(x), call.dims(y)
    call.unify(x_dims[-1], y_dims[-1])
    out = call.outs[0]
    batch = list(x_dims[:-2] if x.dim() >= y.dim() else y_dims[:-2])
    for i in range(3, min(x.dim(), y.dim()) + 1):
        if x.shape[-i] == y.shape[-i]:
            call.unify(x_dims[-i], y_dims[-i])
        elif x.shape[-i] == 1:
            batch[len(batch) + 2 - i] = y_dims[-i]
    call.set(out, [*batch, x_dims[-2], y_dims[-2]])
    rest = call.args[2:]
    call.over([(x, x.dim() - 1), (y, y.dim() - 1)], lambda take: call.func(take(x), take(y), *rest, **call.kwargs))


def bilinear(call: Call) -> None:
    """x (..., I), y (..., J), weight (out, I, J), bias (out)."""
    x, y, weight, bias = (call.arg(name) for name in ("input1", "input2", "weight", "bias"))
    x_dims, y_dims, (out, left, right) = call.dims(x), call.dims(y), call.dims(weight)
    call.unify(x_dims[-1], left)
    call.unify(y_dims[-1], right)
    for mine, its in zip(x_dims[:-1], y_dims[:-1], strict=True):
        call.unify(mine, its)
    if bias is not None:
        call.unify(call.dims(bias)[0], out)
    call.set(call.outs[0], [*x_dims[:-1], out])


def add_batch_matmul(call: Call) -> None:
    """addbmm: a bias plus the sum over the batch of matrix products."""
    bias, a, b = call.tensors
    (n_a, row, inner), (n_b, its, column) = call.dims(a), call.dims(b)
    call.unify(n_a, n_b)
    call.unify(inner, its)
    _onto(call, bias, row, column)


def outer(call: Call) -> None:
    """addr: a bias plus the outer product of two vectors."""
    bias, a, b = call.tensors
    _onto(call, bias, call.dims(a)[0], call.dims(b)[0])


def _onto(call: Call, bias: Tensor, *dims: Layout) -> None:
    out = call.outs[0]
    call.set(out, dims)
    for i in range(1, bias.dim() + 1):
        if bias.shape[-i] == out.shape[-i]:
            call.unify(call.dims(bias)[-i], dims[-i])


def weight_norm(call: Call) -> None:
    """v scaled to the length g along one dimension, or as a whole (-1); the length runs over the others."""
    v, g, at = call.arg("v"), call.arg("g"), call.arg("dim")
    dims = call.dims(v)
    if at != -1 and g.dim() == v.dim():
        call.unify(dims[at], call.dims(g)[at])
    call.set(call.outs[0], dims)
    for norms in call.outs[1:]:
        call.set(norms, call.dims(g))
    every = [(v, i) for i in range(v.dim())] + [(g, i) for i in range(g.dim()) if g.shape[i] > 1]
    call.over(every, lambda take: call.func(take(v).contiguous(), take(g).contiguous(), at))


def norm_except(call: Call) -> None:
    """The length of a weight along all dimensions but one, or of the whole (-1)."""
    v, at = call.arg("v"), call.arg("dim")
    dims = call.dims(v)
    call.set(call.outs[0], [d if i == at else Const(1) for i, d in enumerate(dims)] if at != -1 else [])
    rest = call.args[1:]
    call.over([(v, i) for i in range(v.dim()) if i != at], lambda take: call.func(take(v), *rest, **call.kwargs))


def row_distances(call: Call) -> None:
    """pdist: a distance for every pair of rows; the rows stay."""
    x, rest = call.tensors[0], call.args[1:]
    call.freeze(call.dims(x)[:1], "pairs of rows are counted")
    call.set(call.outs[0], [Const(n, call.why("pairs of rows are counted")()) for n in call.outs[0].shape])
    call.over([(x, 1)], lambda take: call.func(take(x).contiguous(), *rest, **call.kwargs))


def diagonal(call: Call) -> None:
    """The two dimensions of a main diagonal are one axis, which comes last; another diagonal keeps them whole."""
    x, out = call.tensors[0], call.outs[0]
    dims = list(call.dims(x))
    a, b = (d % x.dim() for d in (call.arg("dim1", 0), call.arg("dim2", 1)))
    first, second = dims[a], dims[b]
    if call.arg("offset", call.arg("diagonal", 0)) or first.size != second.size:
        text = "a diagonal that is not the main one of a square"
        call.freeze([first, second], text)
        along: Layout = Const(out.shape[-1], call.why(text)())
    else:
        call.unify(first, second)
        along = first
    call.set(out, [*(d for i, d in enumerate(dims) if i not in (a, b)), along])


def embedded_diagonal(call: Call) -> None:
    """The last dimension laid along a diagonal: an axis twice on the main one."""
    x, out = call.tensors[0], call.outs[0]
    *dims, along = call.dims(x)
    a, b = sorted(d % out.dim() for d in (call.arg("dim1", -2), call.arg("dim2", -1)))
    size = out.shape[a]
    if size != along.size:
        call.freeze([along], "a diagonal that is not the main one of a square")
        along = Const(size)
    dims.insert(a, along)
    dims.insert(b, along)
    call.set(out, dims)


def diag(call: Call) -> None:
    """Of a vector a matrix, of a matrix a vector."""
    (embedded_diagonal if call.tensors[0].dim() == 1 else diagonal)(call)


def triangle(call: Call) -> None:
    """tril and triu: the entries that stay depend on row and column."""
    dims = call.dims(call.tensors[0])
    call.freeze(dims[-2:], "a triangle of this dimension")
    call.set(call.outs[0], dims)


_MATRIX = """linalg_matrix_exp linalg_inv linalg_inv_ex inverse linalg_pinv linalg_solve linalg_solve_ex
    _linalg_solve_ex linalg_qr linalg_svd _linalg_svd linalg_eigh _linalg_eigh linalg_cholesky linalg_cholesky_ex
    linalg_det _linalg_det linalg_slogdet _linalg_slogdet linalg_lu_factor_ex linalg_householder_product
    linalg_solve_triangular triangular_solve geqrf""".split()

RULES: Rules = dict.fromkeys(_MATRIX, matrix_function) | {
    "linalg_cross": cross, "cdist": distances, "_cdist_forward": distances, "bilinear": bilinear,
    "addbmm": add_batch_matmul, "addr": outer, "_weight_norm_interface": weight_norm,
    "_weight_norm": weight_norm,
    "norm_except_dim": norm_except, "_pdist_forward": row_distances, "diagonal": diagonal, "diag": diag,
    "diag_embed": embedded_diagonal, "tril": triangle, "triu": triangle,
}  # fmt: skip

EXAMPLES: Examples = {
    "matrix exponential": lambda r: torch.linalg.matrix_exp(r(3, 4, 4)),
    "cross": lambda r: torch.linalg.cross(r(2, 6, 3), r(2, 6, 3)),
    "cdist": lambda r: torch.cdist(r(2, 6, 4), r(2, 5, 4)),
    "linalg.norm": lambda r: torch.linalg.norm(r(2, 6, 4), dim=(1, 2)),
    "matrix norm": lambda r: torch.linalg.matrix_norm(r(2, 6, 4)),
    "bilinear form": lambda r: F.bilinear(r(2, 6), r(2, 5), r(4, 6, 5), r(4)),
    "addbmm": lambda r: torch.addbmm(r(6, 4), r(3, 6, 5), r(3, 5, 4)),
    "addr": lambda r: torch.addr(r(6, 4), r(6), r(4)),
    "addmv": lambda r: torch.addmv(r(6), r(6, 4), r(4)),
    "vdot": lambda r: torch.vdot(r(6), r(6)) * r(2, 5),
    "weight_norm": lambda r: torch._weight_norm(r(6, 5, 3), r(6, 1, 1), 0),
    "weight_norm of the whole": lambda r: torch._weight_norm(r(6, 5, 3), r(), -1),
    "weight_norm of inputs": lambda r: torch._weight_norm(r(6, 5, 3), r(1, 5, 1), 1),
    "pdist": lambda r: F.pdist(r(3, 6)),
    "diagonal": lambda r: r(2, 6, 6, 5).diagonal(dim1=1, dim2=-2),
    "other diagonal": lambda r: r(2, 6, 6, 5).diagonal(1, 1, 2),
    "diag_embed": lambda r: torch.diag_embed(r(2, 6, 5), dim1=0, dim2=2),
    "diag": lambda r: torch.diag(r(6)) @ r(6, 5),
    "tril": lambda r: r(2, 6, 4, 5).tril(),
}

FITS: Fits = {}
MODULES: Modules = {}
