"""Entries picked by index tensors: indexing, gather, scatter, embeddings. The dimension that is indexed stays whole."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor
from torch.nn import functional as F

from netslim.layouts.axes import Const, Layout
from netslim.layouts.engine import Call
from netslim.ops.family import Examples, Fits, Modules, Rules

PICKED = "picked by an index tensor"
WRITTEN = "written to in some of its places"
COUNTS = "an index tensor has this dimension"


def whole(call: Call, sizes: Iterable[int], text: str = PICKED) -> list[Layout]:
    """Dimensions of fixed size, for the reason that those who read them will be told."""
    reason = call.why(text)()
    return [Const(n, reason) for n in sizes]


def index(call: Call) -> None:
    """x[indices]: dimensions that are indexed keep their full width; the others pass through."""
    x, indices, out = call.tensors[0], call.arg("indices"), call.outs[0]
    dims = call.dims(x)
    touched = [i for i, t in enumerate(indices) if t is not None]
    call.freeze([dims[i] for i in touched], PICKED)
    for i in touched:
        call.freeze(call.dims(indices[i]), COUNTS)
    free_before = touched[0]
    contiguous = touched == list(range(touched[0], touched[-1] + 1))
    plain = not any(_is_mask(t) for t in indices if t is not None)
    if contiguous and plain:
        rank = max(indices[i].dim() for i in touched)
        picked = whole(call, out.shape[free_before : free_before + rank])
        call.set(out, [*dims[:free_before], *picked, *dims[touched[-1] + 1 :]])
    else:
        call.freeze(dims, PICKED)
        call.set(out, whole(call, out.shape))


def index_put(call: Call) -> None:
    """x[indices] = values: dimensions that are indexed keep their full width; the others are those of the values."""
    x, indices, values = call.tensors[0], call.arg("indices"), call.arg("values")
    dims = call.dims(x)
    touched = [i for i, t in enumerate(indices) if t is not None]
    places = {i + k for i in touched for k in range(max(1, indices[i].dim() if _is_mask(indices[i]) else 1))}
    call.freeze([dims[i] for i in sorted(places)], PICKED)
    for i in touched:
        call.freeze(call.dims(indices[i]), COUNTS)
    after = x.dim() - max(places) - 1
    behind = min(after, values.dim())
    for d in range(1, behind + 1):
        if values.shape[-d] == x.shape[-d]:
            call.unify(dims[-d], call.dims(values)[-d])
    call.freeze(call.dims(values)[: values.dim() - behind], PICKED)
    before = range(min(places)) if len(places) == max(places) - min(places) + 1 else range(max(places) + 1)
    call.freeze([dims[i] for i in before], PICKED)
    call.set(call.outs[0], dims)


def _is_mask(indices: Tensor) -> bool:
    return indices.dtype in (torch.bool, torch.uint8)


def index_select(call: Call) -> None:
    x, out, dim = call.tensors[0], call.outs[0], call.arg("dim") % call.tensors[0].dim()
    dims = list(call.dims(x))
    call.freeze([dims[dim], *call.dims(call.arg("index"))], PICKED)
    (dims[dim],) = whole(call, out.shape[dim : dim + 1])
    call.set(out, dims)


def embedding(call: Call) -> None:
    """weight (entries, features), indices (...) -> (..., features)."""
    weight, indices = call.arg("weight"), call.arg("indices")
    w_dims = call.dims(weight)
    call.freeze([w_dims[0], *call.dims(indices)], PICKED)
    call.set(call.outs[0], [*call.dims(indices), w_dims[1]])


def gather(call: Call) -> None:
    """x picked along `dim` by an index of the result's shape; where index and x are as long, they are one axis."""
    x, indices = call.arg("self"), call.arg("index")
    _beside(call, x, indices)
    call.set(call.outs[0], call.dims(indices))


def take_along(call: Call) -> None:
    """As gather, with an index of size 1 stretched along the other dimensions."""
    x, indices, at = call.arg("self"), call.arg("indices"), call.arg("dim")
    if at is None:
        chosen(call)
        return
    dims, places = list(call.dims(x)), call.dims(indices)
    call.freeze([dims[at], places[at]], PICKED)
    for d, (mine, its) in enumerate(zip(dims, places, strict=True)):
        if d == at % x.dim():
            (dims[d],) = whole(call, [its.size])
        elif mine.size == its.size:
            call.unify(mine, its)
        elif mine.size == 1:
            dims[d] = its
    call.set(call.outs[0], dims)


def scatter(call: Call) -> None:
    """scatter, scatter_add, scatter_reduce: values written along `dim` at the places that an index names."""
    x, indices, values = call.arg("self"), call.arg("index"), call.arg("src")
    _beside(call, x, indices)
    if isinstance(values, Tensor):
        _beside(call, values, indices)
    call.set(call.outs[0], call.dims(x))


def _beside(call: Call, x: Tensor, indices: Tensor) -> None:
    """Along `dim` both stay whole; the index walks along the others, as far as it goes."""
    at = call.arg("dim") % max(1, x.dim())
    for d, (mine, its) in enumerate(zip(call.dims(x), call.dims(indices), strict=True)):
        if d != at and mine.size == its.size:
            call.unify(mine, its)
        else:
            call.freeze([mine, its], PICKED)


def index_write(call: Call) -> None:
    """index_add, index_copy, index_fill: whole slices written at the places of one dimension."""
    x, values, at = call.arg("self"), call.arg("source"), call.arg("dim") % call.tensors[0].dim()
    dims = call.dims(x)
    call.freeze([dims[at], *call.dims(call.arg("index"))], PICKED)
    if isinstance(values, Tensor) and values.dim() == x.dim():
        for d, (mine, its) in enumerate(zip(dims, call.dims(values), strict=True)):
            if d == at:
                call.freeze([its], PICKED)
            else:
                call.unify(mine, its)
    call.set(call.outs[0], dims)


def part_write(call: Call) -> None:
    """select_scatter, slice_scatter: a copy of x with values at some places of one dimension."""
    x, values, dim = call.arg("self"), call.arg("src"), call.arg("dim") % call.arg("self").dim()
    dims, its = list(call.dims(x)), list(call.dims(values))
    call.freeze([dims[dim], *its[dim : dim + values.dim() - x.dim() + 1]], WRITTEN)
    if values.dim() < x.dim():
        its.insert(dim, dims[dim])
    for d, (mine, other) in enumerate(zip(dims, its, strict=True)):
        if d != dim:
            call.unify(mine, other)
    call.set(call.outs[0], dims)


def embedding_bag(call: Call) -> None:
    """weight (entries, features), bags of indices -> (bags, features)."""
    weight = call.arg("weight")
    entries, features = call.dims(weight)
    call.freeze([entries], PICKED)
    for tensor in call.tensors:
        if tensor is not weight:
            call.freeze(call.dims(tensor), COUNTS)
    out = call.outs[0]
    call.set(out, [Const(out.shape[0]), features])


def chosen(call: Call) -> None:
    """masked_select, nonzero, take, put: entries of the whole tensor, chosen by value or by one flat index."""
    for tensor in call.tensors:
        call.freeze(call.dims(tensor), "chosen by value or by a flat index")
    for out in call.outs:
        call.set(out, whole(call, out.shape, "chosen by value or by a flat index"))


_CHOSEN = (
    "masked_select nonzero argwhere take put put_ masked_scatter masked_scatter_ bincount histc unique_dim _unique2"
)

RULES: Rules = (
    {
        "index": index, "index_put": index_put, "index_put_": index_put, "_index_put_impl_": index_put,
        "index_select": index_select, "embedding": embedding, "gather": gather, "take_along_dim": take_along,
        "embedding_bag": embedding_bag, "select_scatter": part_write, "slice_scatter": part_write,
        "_embedding_bag": embedding_bag, "_embedding_bag_forward_only": embedding_bag,
    }
    | dict.fromkeys("scatter scatter_ scatter_add scatter_add_ scatter_reduce scatter_reduce_".split(), scatter)
    | dict.fromkeys("index_add index_add_ index_copy index_copy_ index_fill index_fill_".split(), index_write)
    | dict.fromkeys(_CHOSEN.split(), chosen)
)  # fmt: skip


_PLACES = torch.tensor([[[0, 1, 0]], [[1, 1, 0]]])
_EVERYWHERE = _PLACES.expand(2, 6, 3).contiguous()

EXAMPLES: Examples = {
    "index": lambda r: r(2, 6, 4)[:, :, torch.tensor([1, 3])],
    "index_put": lambda r: r(5, 6, 4).index_put((torch.tensor([1, 3]),), r(2, 6, 4)),
    "index_select": lambda r: r(2, 6, 4).index_select(1, torch.tensor([1, 3])),
    "index_select of places": lambda r: r(2, 6, 4).index_select(-1, torch.tensor([1, 3])),
    "embedding": lambda r: F.embedding(torch.tensor([0, 2]), r(4, 6)),
    "gather of places": lambda r: r(2, 6, 4).gather(2, _PLACES.expand(2, 6, 3)),
    "gather of channels": lambda r: torch.gather(r(2, 4, 6), 1, _EVERYWHERE.mT),
    "take_along_dim": lambda r: torch.take_along_dim(r(2, 6, 4), _PLACES, dim=2),
    "scatter": lambda r: r(2, 6, 4).scatter(2, _PLACES.expand(2, 6, 3), r(2, 6, 3)),
    "scatter_add": lambda r: torch.zeros_like(r(2, 6, 4)).scatter_add(2, _PLACES.expand(2, 6, 3), r(2, 6, 3)),
    "scatter of a value": lambda r: r(2, 6, 4).scatter(-1, _EVERYWHERE, 7.0),
    "index_add": lambda r: r(2, 6, 4).index_add(2, torch.tensor([1, 3, 1]), r(2, 6, 3)),
    "index_copy": lambda r: torch.index_copy(r(2, 6, 4), -1, torch.tensor([1, 3]), r(2, 6, 2)),
    "index_fill": lambda r: r(2, 6, 4).index_fill(1, torch.tensor([1, 3]), 5.0),
    "select_scatter": lambda r: torch.select_scatter(r(2, 6, 4), r(2, 6), -1, 2),
    "select_scatter of channels": lambda r: torch.select_scatter(r(2, 6, 4), r(2, 4), 1, 2),
    "slice_scatter": lambda r: torch.slice_scatter(r(2, 6, 4), r(2, 6, 2), 2, 1, 3),
    "slice_scatter of channels": lambda r: torch.slice_scatter(r(2, 6, 4), r(2, 3, 4), 1, 0, 6, 2),
    "embedding_bag": lambda r: F.embedding_bag(torch.tensor([[0, 2], [1, 1]]), r(4, 6)),
}

FITS: Fits = {}
MODULES: Modules = {}
