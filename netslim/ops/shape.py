"""Changes of shape that keep every entry: view, permute, squeeze, expand, repeat, and reading sizes."""

from __future__ import annotations

from dataclasses import replace
from math import prod

import torch

from netslim.ir.program import Node
from netslim.layouts.axes import Const, Layout, fresh, product
from netslim.layouts.engine import Call, Rule
from netslim.ops.family import Examples, Fits, Modules, Rules
from netslim.ops.fitting import Fit, Fitting, spread

# ---------------------------------------------------------------------------------------------------- rules


def view(call: Call) -> None:
    """Dimensions are flattened and split again in stretches of equal product."""
    x, out = call.tensors[0], call.outs[0]
    call.set(out, redistribute(call, call.dims(x), list(out.shape)))


def redistribute(call: Call, dims: list[Layout], sizes: list[int]) -> list[Layout]:
    """Layouts of `sizes` over the same entries, row by row, as `dims`."""
    result: list[Layout] = []
    i = j = 0
    while i < len(dims) or j < len(sizes):
        first_in, first_out = i, j
        source, i = (dims[i].size, i + 1) if i < len(dims) else (1, i)
        target, j = (sizes[j], j + 1) if j < len(sizes) else (1, j)
        while source != target:
            if source < target:
                source, i = source * dims[i].size, i + 1
            else:
                target, j = target * sizes[j], j + 1
        result += _divide(call, product(*dims[first_in:i]), sizes[first_out:j])
    return result


def _divide(call: Call, layout: Layout, sizes: list[int]) -> list[Layout]:
    if not sizes:
        return []
    if len(sizes) == 1:
        return [layout]
    first, rest = call.split(layout, sizes[0], prod(sizes[1:]))
    return [first, *_divide(call, rest, sizes[1:])]


def permute(call: Call) -> None:
    x = call.tensors[0]
    call.set(call.outs[0], [call.dims(x)[d] for d in call.arg("dims")])


def transpose(call: Call) -> None:
    x = call.tensors[0]
    dims = list(call.dims(x))
    if x.dim() > 1:
        a, b = call.arg("dim0", 0), call.arg("dim1", 1)
        dims[a], dims[b] = dims[b], dims[a]
    call.set(call.outs[0], dims)


def squeeze(call: Call) -> None:
    dims, dim = call.dims(call.tensors[0]), call.arg("dim")  # in place, the tensor itself has lost them already
    rank = len(dims)
    named = range(rank) if dim is None else [d % max(rank, 1) for d in ([dim] if isinstance(dim, int) else dim)]
    call.set(call.outs[0], [d for i, d in enumerate(dims) if not (i in named and d.size == 1)])


def unsqueeze(call: Call) -> None:
    x, out = call.tensors[0], call.outs[0]
    dims = list(call.dims(x))
    dims.insert(call.arg("dim") % out.dim(), Const(1))
    call.set(out, dims)


def expand(call: Call) -> None:
    """A dimension of size 1 that is stretched is the same everywhere, so it fits any axis it meets."""
    x, out = call.tensors[0], call.outs[0]
    dims = [Const(1)] * (out.dim() - x.dim()) + list(call.dims(x))
    call.set(out, [d if d.size == n else fresh(n) for d, n in zip(dims, out.shape, strict=True)])


def like(rule: Rule) -> Rule:
    """view_as and its kin: the sizes are those of another tensor, so the result has its axes."""

    def as_other(call: Call) -> None:
        rule(call)
        for mine, its in zip(call.dims(call.outs[0]), call.dims(call.tensors[1]), strict=True):
            call.unify(mine, its)

    return as_other


def repeat(call: Call) -> None:
    """A dimension of size 1 that is repeated is the same everywhere, as for expand."""
    x, out = call.tensors[0], call.outs[0]
    repeats = call.arg("repeats")
    dims = [Const(1)] * (out.dim() - x.dim()) + list(call.dims(x))
    call.set(out, [fresh(r) if d.size == 1 else product(Const(r), d) for d, r in zip(dims, repeats, strict=True)])


def repeat_interleave(call: Call) -> None:
    """Each entry several times in a row."""
    x, out, times, dim = call.tensors[0], call.outs[0], call.arg("repeats"), call.arg("dim")
    dims = list(call.dims(x))
    if not isinstance(times, int) or dim is None:
        call.freeze(dims, "repeated a varying number of times")
        call.set(out, list(map(Const, out.shape)))
        return
    dims[dim] = product(dims[dim], Const(times))
    call.set(out, dims)


# --------------------------------------------------------------------------------------- sizes in a program


def fit_view(first: int) -> Fit:
    """Sizes given one by one or as a tuple, from argument `first` on."""

    def fit(node: Node, fit: Fitting) -> Node:
        sizes, dims = spread(node.args[first:]), fit.outs[0]
        if not isinstance(sizes, (tuple, list)) or len(sizes) != len(dims):
            return node  # view(dtype), or sizes by keyword
        return replace(node, args=(*node.args[:first], tuple(map(fit.resized, sizes, dims))))

    return fit


def fit_shape_keyword(node: Node, fit: Fitting) -> Node:
    """torch.reshape(x, shape), given in place or by keyword."""
    sizes = fit.entries(node, 1, "shape")
    return fit.set_argument(node, 1, "shape", tuple(map(fit.resized, sizes, fit.outs[0])))


def fit_unflatten(node: Node, fit: Fitting) -> Node:
    dim, sizes = fit.whole(fit.argument(node, 1, "dim")), fit.entries(node, 2, "sizes")
    dim = dim % len(fit.dims(node.args[0]))
    parts = fit.outs[0][dim : dim + len(sizes)]
    return fit.set_argument(node, 2, "sizes", tuple(map(fit.resized, sizes, parts)))


def fit_repeat(node: Node, fit: Fitting) -> Node:
    """A dimension of size 1 that is repeated into an elastic axis is repeated as often as the axis is wide."""
    sizes, dims = tuple(spread(node.args[1:])), fit.outs[0]
    sizes = (1,) * (len(dims) - len(sizes)) + sizes  # tile may leave the first ones out
    own = [None] * (len(dims) - len(fit.dims(node.args[0]))) + list(fit.dims(node.args[0]))
    new = tuple(fit.resized(s, d) if o is None or o.size == 1 else s for s, d, o in zip(sizes, dims, own, strict=True))
    return replace(node, args=(node.args[0], new))


def fit_squeeze(node: Node, fit: Fitting) -> Node:
    """squeeze() names all dimensions but the elastic ones, so that an axis which keeps one channel does not vanish."""
    dims = fit.dims(node.args[0])
    if len(node.args) > 1 or "dim" in node.kwargs or all(map(fit.fixed, dims)):
        return node
    return replace(node, args=(node.args[0], tuple(i for i, d in enumerate(dims) if fit.fixed(d))))


RULES: Rules = {
    "view": view, "reshape": view, "_unsafe_view": view, "_reshape_alias": view, "permute": permute,
    "transpose": transpose, "t": transpose, "squeeze": squeeze, "unsqueeze": unsqueeze, "expand": expand,
    "repeat": repeat, "repeat_interleave": repeat_interleave, "squeeze_": squeeze, "unsqueeze_": unsqueeze,
    "transpose_": transpose, "t_": transpose,
    "view_as": like(view), "reshape_as": like(view), "expand_as": like(expand),
}  # fmt: skip

FITS: Fits = {
    "torch.Tensor.squeeze": fit_squeeze, "torch.squeeze": fit_squeeze,
    "torch.Tensor.squeeze_": fit_squeeze,
    "torch.Tensor.view": fit_view(1), "torch.Tensor.reshape": fit_view(1), "torch.Tensor.expand": fit_view(1),
    "torch.reshape": fit_shape_keyword, "torch.Tensor.unflatten": fit_unflatten, "torch.unflatten": fit_unflatten,
    "torch.Tensor.repeat": fit_repeat, "torch.Tensor.tile": fit_repeat, "torch.tile": fit_repeat,
    "torch.broadcast_to": fit_view(1), "torch.Tensor.broadcast_to": fit_view(1),
}  # fmt: skip

EXAMPLES: Examples = {
    "flatten": lambda r: r(2, 6, 4, 4).flatten(1),
    "view merges": lambda r: r(2, 6, 4, 4).view(2, 6, 16),
    "view splits": lambda r: r(2, 24, 5).view(2, 4, 6, 5),
    "reshape across": lambda r: r(2, 6, 4).reshape(12, 4),
    "torch.reshape": lambda r: torch.reshape(r(2, 24, 5), (2, 4, -1, 5)),
    "unflatten": lambda r: r(2, 24, 5).unflatten(1, (4, 6)),
    "permute": lambda r: r(2, 6, 4, 5).permute(0, 2, 3, 1),
    "transpose": lambda r: r(2, 6, 4).transpose(-1, 1),
    "squeeze": lambda r: r(2, 6, 1, 1).squeeze(-1).squeeze(),
    "transpose in place": lambda r: (2 * r(2, 6, 4)).transpose_(1, 2) @ r(6, 3),
    "t in place": lambda r: (2 * r(6, 4)).t_() @ r(6, 3),
    "swapaxes in place": lambda r: (2 * r(2, 6, 4)).swapaxes_(1, -1) @ r(6, 3),
    "squeeze in place": lambda r: (2 * r(2, 6, 1, 1)).squeeze_(-1).squeeze_() * r(6),
    "unsqueeze": lambda r: r(2, 6)[:, None, :, None],
    "expand": lambda r: r(1, 6, 1).expand(2, -1, 4) * r(2, 6, 4),
    "expand channels": lambda r: r(2, 1, 4).expand(2, 6, 4) * r(6, 1),
    "broadcast_to": lambda r: r(6, 1).broadcast_to(2, 6, 4) * r(2, 6, 4),
    "repeat": lambda r: r(2, 6, 4).repeat(1, 2, 1),
    "repeat channels": lambda r: r(2, 1, 4).repeat(1, 6, 1) * r(6, 1),
    "tile": lambda r: r(2, 6, 4).tile(2, 1),
    "tile channels": lambda r: torch.tile(r(2, 1, 4), (6, 1)) * r(6, 1),
    "view_as": lambda r: r(2, 24).view_as(r(2, 6, 4)),
    "expand_as": lambda r: r(2, 6, 1).expand_as(r(2, 6, 4)) * r(2, 6, 4),
    "meshgrid": lambda r: torch.mul(*torch.meshgrid([r(6), r(5)], indexing="ij")),
    "repeat_interleave": lambda r: r(2, 6, 4).repeat_interleave(3, dim=1),
    "shuffle by view": lambda r: r(2, 12, 4).view(2, 2, 6, 4).transpose(1, 2).reshape(2, 12, 4),
    "heads": lambda r: r(2, 5, 24).reshape(2, 5, 3, 8).transpose(1, 2),
}

MODULES: Modules = {}
