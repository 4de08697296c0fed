"""Concatenation and cutting: cat, stack, split, slice, select, channel padding, turning."""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor
from torch.nn import functional as F

from netslim.ir.program import Literal, Node, Ref
from netslim.layouts.axes import Const, Layout, concat, fresh, is_fixed
from netslim.layouts.binding import cut
from netslim.layouts.engine import Call
from netslim.ops.family import Examples, Fits, Modules, Rules
from netslim.ops.fitting import Fit, Fitting

# ---------------------------------------------------------------------------------------------------- rules


def cat(call: Call) -> None:
    """Parts laid one after another along `dim`; the other dimensions are shared."""
    given = call.arg("tensors")
    tensors = [t for t in given if t.shape != (0,)] or given[:1]  # torch leaves these out, whatever the others' shape
    dim, out = call.arg("dim", 0) % call.outs[0].dim(), call.outs[0]
    dims = list(call.dims(tensors[0]))
    for other in tensors[1:]:
        for i, layout in enumerate(call.dims(other)):
            if i != dim:
                call.unify(dims[i], layout)
    dims[dim] = concat(*(call.dims(t)[dim] for t in tensors))
    call.set(out, dims)


def stack(call: Call) -> None:
    """A new dimension of fixed size; the others are shared."""
    tensors, out = call.arg("tensors"), call.outs[0]
    dims = list(call.dims(tensors[0]))
    for other in tensors[1:]:
        for mine, its in zip(dims, call.dims(other), strict=True):
            call.unify(mine, its)
    dims.insert(call.arg("dim", 0) % out.dim(), Const(len(tensors)))
    call.set(out, dims)


def split_parts(call: Call) -> None:
    """split, split_with_sizes and chunk: consecutive pieces of one dimension."""
    x, dim = call.tensors[0], call.arg("dim", 0) % call.tensors[0].dim()
    dims = list(call.dims(x))
    for out in call.outs:
        dims[dim], rest = call.cut(dims[dim], out.shape[dim])
        call.set(out, dims)
        dims[dim] = rest


def unbind(call: Call) -> None:
    x, dim = call.tensors[0], call.arg("dim", 0)
    dims = list(call.dims(x))
    call.freeze([dims.pop(dim)], "taken apart entry by entry")
    for out in call.outs:
        call.set(out, dims)


def slice_(call: Call) -> None:
    """x[start:end:step]: a step takes one place of every group of `step` neighbours."""
    x, out = call.tensors[0], call.outs[0]
    dim, step = call.arg("dim", 0) % x.dim(), call.arg("step", 1)
    dims, n = list(call.dims(x)), x.shape[call.arg("dim", 0)]
    start = min(n, max(0, (call.arg("start") or 0) + (n if (call.arg("start") or 0) < 0 else 0)))
    dims[dim] = _stepped(call, dims[dim], start, out.shape[dim], step)
    call.set(out, dims)


def _stepped(call: Call, layout: Layout, start: int, count: int, step: int) -> Layout:
    if step == 1:
        return call.cut(call.cut(layout, start)[1], count)[0]
    if layout.size % step == 0 and count * step == layout.size:
        picked, places = call.split(layout, count, step)
        call.freeze([places], "a slice with a step picks one place of each group")
        return picked
    call.freeze([layout], "a slice with a step that does not divide the dimension")
    return Const(count)


def select(call: Call) -> None:
    """x[..., index, ...]: the entry is kept at every width."""
    x, out = call.tensors[0], call.outs[0]
    dim = call.arg("dim") % x.dim()
    dims = list(call.dims(x))
    index = call.arg("index") % x.shape[dim]
    call.cut(call.cut(dims.pop(dim), index)[1], 1)
    call.set(out, dims)


def narrow(call: Call) -> None:
    x, out = call.tensors[0], call.outs[0]
    dim, start = call.arg("dim") % x.dim(), call.arg("start")
    dims = list(call.dims(x))
    dims[dim] = call.cut(call.cut(dims[dim], int(start) % max(1, x.shape[dim]))[1], out.shape[dim])[0]
    call.set(out, dims)


def pad(call: Call) -> None:
    """Constant padding puts entries before and after; padded channels may be dropped like any others."""
    x, out, amounts = call.tensors[0], call.outs[0], call.arg("pad")
    dims = list(call.dims(x))
    for i in range(len(amounts) // 2):
        before, after = amounts[2 * i], amounts[2 * i + 1]
        if before or after:
            dims[-1 - i] = _padded(call, dims[-1 - i], before, after)
    call.set(out, dims)


def _padded(call: Call, layout: Layout, before: int, after: int) -> Layout:
    if is_fixed(layout) or before < 0 or after < 0:
        call.freeze([layout], "cropped by negative padding")
        return Const(layout.size + before + after)
    return concat(fresh(before) if before else Const(0), layout, fresh(after) if after else Const(0))


def pad_any_mode(call: Call) -> None:
    """F.pad: constant padding here, the other modes pad space only."""
    if call.arg("mode", "constant") == "constant":
        pad(call)
        return
    x, out = call.tensors[0], call.outs[0]
    count = len(call.arg("pad")) // 2
    dims = call.dims(x)
    call.freeze(dims[-count:], "padding that repeats entries")
    call.set(out, [*dims[:-count], *map(Const, out.shape[-count:])])


def rearrange(call: Call) -> None:
    """flip and roll: the dimensions they turn keep their full width."""
    x, named = call.tensors[0], call.arg("dims")
    dims = call.dims(x)
    turned = range(x.dim()) if not named else [named] if isinstance(named, int) else named
    call.freeze([dims[d] for d in turned], "its order is changed")
    call.set(call.outs[0], dims)


def rotate(call: Call) -> None:
    """rot90: two dimensions are turned, and an odd number of times swaps them."""
    x, (a, b) = call.tensors[0], call.arg("dims")
    dims = list(call.dims(x))
    call.freeze([dims[a], dims[b]], "its order is changed")
    if call.arg("k", 1) % 2:
        dims[a], dims[b] = dims[b], dims[a]
    call.set(call.outs[0], dims)


def glu(call: Call) -> None:
    """The first half of a dimension gated by the second: the halves are one axis."""
    x, out = call.tensors[0], call.outs[0]
    dim = call.arg("dim") % x.dim()
    dims = list(call.dims(x))
    first, second = call.cut(dims[dim], out.shape[dim])
    call.unify(first, second)
    dims[dim] = first
    call.set(out, dims)


# --------------------------------------------------------------------------------------- sizes in a program


def fit_split(node: Node, fit: Fitting) -> Node:
    """split, chunk and tensor_split along an elastic dimension become a split into the kept sizes."""
    dim, given = fit.whole(fit.argument(node, 2, "dim", 0)), fit.argument(node, 1, "split_size_or_sections")
    layouts = [out[dim] for out in fit.outs]
    if all(map(fit.fixed, layouts)):
        return node
    if isinstance(given, (tuple, list)) and len(given) == len(layouts) and not node.target.endswith("tensor_split"):
        sizes = list(map(fit.resized, given, layouts))
    else:
        sizes = list(map(fit.size, layouts))
    return replace(node, target="torch.functional.split", args=(node.args[0], sizes, dim), kwargs={})


def fit_split_at(dim: int) -> Fit:
    """hsplit, vsplit and dsplit, which have their dimension in the name."""

    def fit(node: Node, fit: Fitting) -> Node:
        along = dim if len(fit.outs[0]) > 1 else 0
        sizes: list[Literal] = [fit.size(out[along]) for out in fit.outs]
        if all(isinstance(size, int) for size in sizes):
            return node
        return replace(node, target="torch.functional.split", args=(node.args[0], sizes, along), kwargs={})

    return fit


def fit_item(node: Node, fit: Fitting) -> Node:
    """x[...] and x[...] = y: bounds and places on elastic dimensions count kept channels."""
    if not isinstance(node.args[0], Ref):
        return node
    dims, key = fit.dims(node.args[0]), node.args[1]
    entries = list(key) if isinstance(key, tuple) else [key]
    consumed = sum(1 for e in entries if e is not None and e is not Ellipsis)
    new, dim = [], 0
    for entry in entries:
        if entry is Ellipsis:
            dim += len(dims) - consumed
        elif entry is not None:
            entry = _fit_entry(entry, dims[dim], fit) if dim < len(dims) else entry
            dim += 1
        new.append(entry)
    return replace(node, args=(node.args[0], tuple(new) if isinstance(key, tuple) else new[0], *node.args[2:]))


def _fit_entry(entry: Literal, layout: Layout, fit: Fitting) -> Literal:
    if fit.fixed(layout):
        return entry
    if isinstance(entry, int) and not isinstance(entry, bool):
        return fit.place(entry, layout)
    if isinstance(entry, slice) and entry.step in (None, 1):
        return slice(*(_fit_bound(bound, layout, fit) for bound in (entry.start, entry.stop)))
    if isinstance(entry, slice):  # the rule has made sure that the step divides the kept channels too
        return slice(fit.value(entry.start), None, entry.step)
    return entry


def _fit_bound(bound: Literal, layout: Layout, fit: Fitting) -> Literal:
    if bound is None or (fit.whole(bound) >= layout.size and not fit.varies(layout)):
        return None
    return fit.place(bound, layout)


def fit_narrow(node: Node, fit: Fitting) -> Node:
    dim, start = fit.whole(fit.argument(node, 1, "dim")), fit.argument(node, 2, "start")
    layout = fit.dims(node.args[0])[dim]
    if fit.fixed(layout):
        return node
    length = fit.resized(fit.argument(node, 3, "length"), fit.outs[0][dim])
    return fit.set_argument(fit.set_argument(node, 2, "start", fit.place(start, layout)), 3, "length", length)


def fit_select(node: Node, fit: Fitting) -> Node:
    dim, index = fit.whole(fit.argument(node, 1, "dim")), fit.argument(node, 2, "index")
    layout = fit.dims(node.args[0])[dim]
    return node if fit.fixed(layout) else fit.set_argument(node, 2, "index", fit.place(index, layout))


def fit_pad(node: Node, fit: Fitting) -> Node:
    """Padding of an elastic dimension: as many entries as the padded parts keep."""
    amounts = list(fit.entries(node, 1, "pad"))
    dims, out = fit.dims(node.args[0]), fit.outs[0]
    for i in range(len(amounts) // 2):
        before, after = (fit.whole(a) for a in amounts[2 * i : 2 * i + 2])
        layout, inner = out[-1 - i], dims[-1 - i]
        if fit.fixed(layout) or not (before or after):
            continue
        if before:
            amounts[2 * i] = fit.size(cut(layout, before)[0])
        if after:
            amounts[2 * i + 1] = fit.size(cut(layout, before + inner.size)[1])
    return fit.set_argument(node, 1, "pad", tuple(amounts))


RULES: Rules = {
    "cat": cat, "concat": cat, "concatenate": cat, "stack": stack, "split": split_parts, "chunk": split_parts,
    "split_with_sizes": split_parts, "unbind": unbind, "slice": slice_, "select": select, "narrow": narrow,
    "constant_pad_nd": pad, "pad": pad_any_mode, "flip": rearrange, "roll": rearrange, "rot90": rotate, "glu": glu,
    "unsafe_split": split_parts, "unsafe_split_with_sizes": split_parts, "unsafe_chunk": split_parts,
}  # fmt: skip

FITS: Fits = {
    "torch.functional.split": fit_split, "torch.Tensor.split": fit_split,
    "torch.chunk": fit_split, "torch.Tensor.chunk": fit_split, "torch.tensor_split": fit_split,
    "torch.Tensor.tensor_split": fit_split, "torch.Tensor.__getitem__": fit_item,
    "torch.Tensor.__setitem__": fit_item, "torch.Tensor.narrow": fit_narrow, "torch.narrow": fit_narrow,
    "torch.Tensor.select": fit_select, "torch.select": fit_select, "torch.nn.functional.pad": fit_pad,
} | {
    f"torch.{owner}{name}": fit_split_at(dim)
    for owner in ("", "Tensor.") for name, dim in (("vsplit", 0), ("hsplit", 1), ("dsplit", 2))
}  # fmt: skip


def _set_item(x: Tensor, y: Tensor) -> Tensor:
    x = x.clone()
    x[:, 2:5] = y
    return x


EXAMPLES: Examples = {
    "cat": lambda r: torch.cat([r(2, 6, 4), r(2, 5, 4)], 1),
    "cat with itself": lambda r: (lambda x: torch.cat([x, x], -2))(r(2, 6, 4)),
    "cat of nothing": lambda r: (lambda x: torch.cat([x, torch.cat([x.new_empty(0), x.new_empty(0)]).sum() + x], 1))(
        r(2, 6)
    ),
    "cat of cats": lambda r: torch.cat([torch.cat([r(2, 6), r(2, 5)], 1), r(2, 4)], 1),
    "stack": lambda r: torch.stack([r(2, 6), r(2, 6)], 1),
    "split": lambda r: r(2, 12).split(4, 1)[1],
    "uneven split": lambda r: torch.split(r(2, 12), [3, 9], dim=1)[1],
    "chunk": lambda r: torch.add(*r(2, 12).chunk(2, 1)),
    "tensor_split": lambda r: r(2, 12).tensor_split(2, 1)[1],
    "slice": lambda r: r(2, 12)[:, 3:9],
    "slice from the end": lambda r: r(2, 12, 3)[:, -5:, ...],
    "strided slice": lambda r: r(2, 12)[:, 1::2],
    "narrow": lambda r: r(2, 12).narrow(1, 2, 5),
    "select": lambda r: r(2, 12, 4)[:, 3],
    "select from qkv": lambda r: r(2, 5, 24).reshape(2, 5, 3, 8).permute(2, 0, 1, 3)[1],
    "unbind": lambda r: r(3, 6, 4).unbind(0)[1],
    "channel pad": lambda r: F.pad(r(2, 6, 4, 4), (0, 0, 0, 0, 2, 4)) + r(2, 12, 4, 4),
    "space pad": lambda r: F.pad(r(2, 6, 4, 4), (1, 1, 1, 1)),
    "flip": lambda r: r(2, 6, 4).flip(1),
    "flip of space": lambda r: r(2, 6, 4, 5).flip(-1, 2),
    "roll of space": lambda r: torch.roll(r(2, 6, 4, 5), (1, -2), dims=(2, 3)),
    "rot90": lambda r: torch.rot90(r(2, 6, 4, 5), 1, (2, 3)),
    "hsplit": lambda r: torch.hsplit(r(2, 12, 4), 3)[1],
    "dsplit": lambda r: r(2, 4, 12).dsplit((3, 8))[1],
    "set item": lambda r: _set_item(r(2, 12), r(2, 3)),
    "shuffle after cat": lambda r: (
        torch.cat([r(2, 6, 4), r(2, 6, 4)], 1).view(2, 2, 6, 4).transpose(1, 2).flatten(1, 2)
    ),
    "glu": lambda r: F.glu(r(2, 12, 4), 1),
}

MODULES: Modules = {}
