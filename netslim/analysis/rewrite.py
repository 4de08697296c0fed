"""From traces to a plan: one program per mode whose every size is right for every width."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any

from torch import Tensor
from torch.utils._pytree import tree_leaves

from netslim.analysis.groups import Solution
from netslim.ir.functions import COUNTS, without_unused
from netslim.ir.program import Mode, Node, Program, Ref, Size, Struct, map_leaves
from netslim.layouts.axes import Layout, Reason, is_fixed, product
from netslim.layouts.engine import Engine
from netslim.ops import FITS
from netslim.ops.fitting import Fitting, Unfitted
from netslim.trace.tracer import Trace


class Rewriter:
    """Rewrites programs against one solution; collects the sizes and cuts they refer to."""

    def __init__(self, engine: Engine, solution: Solution, layouts: Mapping[str, tuple[Layout, ...]]) -> None:
        self.engine, self.solution, self.layouts = engine, solution, layouts
        self.sizes: dict[tuple[Layout, int], int] = {}
        self.cuts: dict[str, int] = {}
        self.ints: dict[str, dict[str, Layout]] = {}

    def rewrite(self, traced: Trace) -> Program:
        """The program with sizes, cuts and scalings in place."""
        values = {name: self._solved(value) for name, value in traced.tensors.items()}
        names = (f"n_fit_{i}" for i in itertools.count())
        numbers = {**_whole_numbers(traced.tensors), **traced.numbers}
        alias: dict[str, Any] = {}
        nodes: list[Node] = []
        for node in traced.program:
            node = _substitute(node, alias)
            notes = {k: self.solution.solved(v) for k, v in traced.notes.get(node.name, {}).items()}
            outs = values.get(node.name)
            outs = outs if outs is None or _is_nested(outs) else [outs]
            fit = Fitting(values, numbers, notes, outs, self._size, names.__next__)
            nodes += self._one(node, fit, alias)
        return Program(tuple(without_unused(nodes)))

    def _one(self, node: Node, fit: Fitting, alias: dict[str, Any]) -> list[Node]:
        if node.op == "param":
            elastic = not all(map(is_fixed, self.layouts[node.target]))
            return [replace(node, args=(self.cuts.setdefault(node.target, len(self.cuts)),)) if elastic else node]
        if node.op == "module":
            self._note(node, fit.notes)
            return [node]
        if node.target in COUNTS:
            dims = fit.dims(node.args[0])
            layout = dims[node.args[1]] if node.target == "torch.Tensor.size" else product(*dims)
            if not is_fixed(layout):
                alias[node.name] = fit.full(Ref(node.name), layout)
            return [node, *fit.before]
        if node.op == "call" and node.target in FITS:
            node = FITS[node.target](node, fit)
        return [*fit.before, node]

    def _note(self, leaf: Node, notes: Mapping[str, Layout]) -> None:
        noted = {name: layout for name, layout in notes.items() if not is_fixed(layout)}
        if noted:
            self.ints.setdefault(leaf.target, {}).update(noted)

    # -- Python that stays as it is

    def leaves(self, traced: Trace) -> None:
        """Collect the settings of the leaf modules that Python calls itself."""
        for node in traced.program:
            if node.op == "module":
                notes = traced.notes.get(node.name, {})
                self._note(node, {k: self.solution.solved(v) for k, v in notes.items()})

    def demands(self, traced: Trace) -> Iterator[tuple[Layout, Reason]]:
        """Elastic layouts that Python, which nobody rewrites, needs at full width: literal sizes, own parameters."""
        values = {name: self._solved(value) for name, value in traced.tensors.items()}
        for node in traced.program:
            wanted: list[Layout] = []
            if node.op == "param":
                wanted = list(self.layouts[node.target])
            elif node.op == "call" and node.target in FITS:
                notes = {k: self.solution.solved(v) for k, v in traced.notes.get(node.name, {}).items()}
                outs = values.get(node.name)
                fit = Unfitted(values, traced.numbers, notes, outs if outs is None or _is_nested(outs) else [outs])
                try:
                    FITS[node.target](node, fit)
                    wanted = fit.wanted
                except (KeyError, AttributeError, TypeError, IndexError):  # it holds what no program could hold
                    known = [values[ref] for ref in node.refs if ref in values]
                    wanted = [layout for dims in known for layout in tree_leaves(dims)]
            reason = Reason("used by Python that cannot be followed", node.target.rsplit(".", 1)[-1], node.where)
            yield from ((layout, reason) for layout in wanted if not is_fixed(layout))

    def size(self, layout: Layout) -> Size | int:
        """How many channels of a layout, as the engine has it, are kept."""
        solved = self.solution.solved(layout)
        return solved.size if is_fixed(solved) else self._size(solved, solved.size)

    def _size(self, layout: Layout, at: int) -> Size:
        return Size(self.sizes.setdefault((layout, at), len(self.sizes)))

    def _solved(self, value: Any) -> Any:
        if isinstance(value, Tensor):
            return [self.solution.solved(layout) for layout in self.engine.dims(value)]
        return [self._solved(v) for v in value if isinstance(v, (Tensor, tuple, list))]


def _whole_numbers(tensors: Mapping[str, Any]) -> dict[str, int]:
    """Tensors that may stand for a number, as a start or an index does."""
    singles = ((n, t) for n, t in tensors.items() if isinstance(t, Tensor) and t.numel() == 1 and not t.is_meta)
    return {name: int(t) for name, t in singles if not (t.is_floating_point() or t.is_complex())}


def _is_nested(value: list[Any]) -> bool:
    return bool(value) and isinstance(value[0], list)


def _substitute(node: Node, alias: Mapping[str, Any]) -> Node:
    def put(leaf: Any) -> Any:
        return alias.get(leaf.name, leaf) if isinstance(leaf, Ref) else leaf

    if not alias or not any(name in alias for name in node.refs):
        return node
    return replace(node, args=map_leaves(put, node.args), kwargs=map_leaves(put, node.kwargs))


# ---------------------------------------------------------------------------------- one program, two modes


class _Differ(Exception):
    pass


def merged(train: Program, evaluation: Program) -> Program | None:
    """One program for both modes where they differ only in a `training` flag; None where they truly differ."""
    if len(train.nodes) != len(evaluation.nodes):
        return None
    try:
        return Program(tuple(map(_merge_nodes, train.nodes, evaluation.nodes)))
    except _Differ:
        return None


def _merge_nodes(a: Node, b: Node) -> Node:
    if (a.name, a.op, a.target, a.grad, a.cast) != (b.name, b.op, b.target, b.grad, b.cast):
        raise _Differ
    return replace(a, args=_merge(a.args, b.args), kwargs=_merge(a.kwargs, b.kwargs))


def _merge(a: Any, b: Any) -> Any:
    if type(a) is not type(b):
        raise _Differ
    if isinstance(a, (tuple, list)):
        if len(a) != len(b):
            raise _Differ
        return type(a)(map(_merge, a, b)) if type(a) in (tuple, list) else a
    if isinstance(a, dict):
        if a.keys() != b.keys():
            raise _Differ
        return {key: _merge(a[key], b[key]) for key in a}
    if isinstance(a, slice):
        return slice(*(_merge(getattr(a, k), getattr(b, k)) for k in ("start", "stop", "step")))
    if isinstance(a, Struct):
        return replace(a, values=_merge(a.values, b.values))
    if isinstance(a, bool) and a != b:
        return Mode(negated=not a)
    if a != b and not (isinstance(a, float) and a != a and b != b):
        raise _Differ
    return a
