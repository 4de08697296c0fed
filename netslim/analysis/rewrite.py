"""From traces to a plan: one program per mode whose every size is right for every width."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping
from dataclasses import replace

from torch import Tensor
from torch.utils._pytree import tree_leaves

from netslim.analysis.groups import Solution
from netslim.ir.functions import COUNTS, without_unused
from netslim.ir.program import Leaf, Node, Program, Ref, Size, map_leaves
from netslim.layouts.axes import Axis, Layout, Reason, is_fixed, product
from netslim.layouts.engine import Dims, Engine
from netslim.ops import FITS
from netslim.ops.fitting import Fitting, Unfitted
from netslim.trace.result import Trace


class Rewriter:
    """Rewrites programs against one solution; collects the sizes and cuts they refer to."""

    def __init__(self, engine: Engine, solution: Solution, layouts: Mapping[str, tuple[Layout, ...]]) -> None:
        self.engine, self.solution, self.layouts = engine, solution, layouts
        self.sizes: dict[tuple[Layout, int], int] = {}
        self.cuts: dict[str, int] = {}
        self.ints: dict[str, dict[str, Layout]] = {}

    def rewrite(self, traced: Trace) -> Program:
        """The program with sizes, cuts and scalings in place."""
        outs, values = self._solved(traced)
        names = (f"n_fit_{i}" for i in itertools.count())
        numbers = {**_whole_numbers(traced.tensors), **traced.numbers}
        alias: dict[str, Ref | int] = {}
        nodes: list[Node] = []
        for node in traced.program:
            node = _substitute(node, alias)
            notes = {k: self.solution.solved(v) for k, v in traced.notes.get(node.name, {}).items()}
            fit = Fitting(values, numbers, notes, outs.get(node.name, []), self._size, names.__next__)
            nodes += [
                replace(made, again=node.again) if made.op == "call" else made for made in self._one(node, fit, alias)
            ]
            numbers |= fit.made
        return Program(tuple(without_unused(nodes)))

    def _one(self, node: Node, fit: Fitting, alias: dict[str, Ref | int]) -> list[Node]:
        if node.op == "param":
            elastic = not all(map(is_fixed, self.layouts[node.target]))
            return [replace(node, args=(self.cuts.setdefault(node.target, len(self.cuts)),)) if elastic else node]
        if node.op == "module":
            self._note(node, fit.notes)
            return [node]
        if node.target in COUNTS:
            dims = fit.dims(node.args[0])
            layout = dims[fit.whole(node.args[1])] if node.target == "torch.Tensor.size" else product(*dims)
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

    def demands(self, traced: Trace) -> Iterator[tuple[Layout, Reason, list[Axis]]]:
        """Elastic layouts that Python, which nobody rewrites, needs at full width: literal sizes, own parameters.

        With the reason, and the axes of the tensors that are used there.
        """
        outs, values = self._solved(traced)
        for node in traced.program:
            wanted: list[Layout] = []
            if node.op == "param":
                wanted = list(self.layouts[node.target])
            elif node.op == "call" and node.target in FITS:
                notes = {k: self.solution.solved(v) for k, v in traced.notes.get(node.name, {}).items()}
                fit = Unfitted(values, traced.numbers, notes, outs.get(node.name, []))
                try:
                    FITS[node.target](node, fit)
                    wanted = fit.wanted
                except (KeyError, AttributeError, TypeError, IndexError):  # it holds what no program could hold
                    wanted = [layout for ref in node.refs for dims in outs.get(ref, ()) for layout in dims]
            reason = Reason("used by Python that cannot be followed", node.target.rsplit(".", 1)[-1], node.where)
            met = self._axes(traced, (node.name, *node.refs)) if wanted else []
            yield from ((layout, reason, met) for layout in wanted if not is_fixed(layout))

    def _axes(self, traced: Trace, names: tuple[str, ...]) -> list[Axis]:
        given = tree_leaves([traced.tensors.get(name) for name in names])
        return [d for t in given if isinstance(t, Tensor) for d in self.engine.dims(t) if isinstance(d, Axis)]

    def size(self, layout: Layout) -> Size | int:
        """How many channels of a layout, as the engine has it, are kept."""
        solved = self.solution.solved(layout)
        return solved.size if is_fixed(solved) else self._size(solved, solved.size)

    def _size(self, layout: Layout, at: int) -> Size:
        return Size(self.sizes.setdefault((layout, at), len(self.sizes)))

    def _solved(self, traced: Trace) -> tuple[dict[str, list[Dims]], dict[str, Dims]]:
        """Solved layouts of every tensor that a node gives, and those of the nodes that give one."""
        outs = {
            name: [
                list(map(self.solution.solved, self.engine.dims(t)))
                for t in tree_leaves(value)
                if isinstance(t, Tensor)
            ]
            for name, value in traced.tensors.items()
        }
        return outs, {name: outs[name][0] for name, value in traced.tensors.items() if isinstance(value, Tensor)}


def _whole_numbers(tensors: Mapping[str, object]) -> dict[str, int]:
    """Tensors that may stand for a number, as a start or an index does."""
    singles = ((n, t) for n, t in tensors.items() if isinstance(t, Tensor) and t.numel() == 1 and not t.is_meta)
    return {name: int(t) for name, t in singles if not (t.is_floating_point() or t.is_complex())}


def _substitute(node: Node, alias: Mapping[str, Ref | int]) -> Node:
    def put(leaf: Leaf) -> Leaf:
        return alias.get(leaf.name, leaf) if isinstance(leaf, Ref) else leaf

    if not alias or not any(name in alias for name in node.refs):
        return node
    return replace(node, args=map_leaves(put, node.args), kwargs=map_leaves(put, node.kwargs))
