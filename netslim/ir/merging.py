"""One program for both modes of a network, which often differ in a flag of an argument only."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace

from netslim.ir.functions import written
from netslim.ir.program import Leaf, Literal, Mode, Node, Program, Ref, Struct, map_leaves


def alike(train: Program, evaluation: Program) -> bool:
    """Whether both modes compute the same, but for flags and for buffers that one counts in and nothing reads."""
    if train is evaluation:
        return True
    return merged(*(_numbered(_without_counters(program)) for program in (train, evaluation))) is not None


def _without_counters(program: Program) -> Program:
    """Without steps that only write to parameters and buffers that nothing else reads."""
    own = {node.name for node in program if node.op == "param"}
    used = Counter(name for node in program for name in node.refs)
    counting = {
        node.name: node.refs[0]
        for node in program
        if node.op == "call" and node.name not in used and len(node.refs) == 1 and tuple(written(node)) == node.refs
    }
    counted = Counter(counting.values())
    idle = {name for name, times in counted.items() if name in own and used[name] == times}
    dropped = idle | {step for step, name in counting.items() if name in idle}
    return Program(tuple(node for node in program if node.name not in dropped))


def _numbered(program: Program) -> Program:
    """With names that are places, since what one mode does besides takes names away from what both do."""
    names = {node.name: f"v{i}" for i, node in enumerate(program)}

    def put(leaf: Leaf) -> Leaf:
        return Ref(names[leaf.name]) if isinstance(leaf, Ref) else leaf

    return Program(
        tuple(
            replace(node, name=names[node.name], args=map_leaves(put, node.args), kwargs=map_leaves(put, node.kwargs))
            for node in program
        )
    )


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
    if (a.name, a.op, a.target, a.grad, a.cast, a.again) != (b.name, b.op, b.target, b.grad, b.cast, b.again):
        raise _Differ
    return replace(a, args=_merge_items(a.args, b.args), kwargs=_merge_named(a.kwargs, b.kwargs))


def _merge_items(a: Sequence[Literal], b: Sequence[Literal]) -> tuple[Literal, ...]:
    if len(a) != len(b):
        raise _Differ
    return tuple(map(_merge, a, b))


def _merge_named(a: Mapping[str, Literal], b: Mapping[str, Literal]) -> dict[str, Literal]:
    if a.keys() != b.keys():
        raise _Differ
    return {key: _merge(a[key], b[key]) for key in a}


def _merge(a: Literal, b: Literal) -> Literal:
    if type(a) is not type(b):
        raise _Differ
    if isinstance(a, tuple) and isinstance(b, tuple):
        return _merge_items(a, b)
    if isinstance(a, list) and isinstance(b, list):
        return list(_merge_items(a, b))
    if isinstance(a, dict) and isinstance(b, dict):
        return _merge_named(a, b)
    if isinstance(a, slice) and isinstance(b, slice):
        return slice(_merge(a.start, b.start), _merge(a.stop, b.stop), _merge(a.step, b.step))
    if isinstance(a, Struct) and isinstance(b, Struct) and replace(a, values=()) == replace(b, values=()):
        return replace(a, values=_merge_items(a.values, b.values))
    if isinstance(a, bool) and a != b:
        return Mode(negated=not a)
    if a != b and not (isinstance(a, float) and a != a and b != b):
        raise _Differ
    return a
