"""One program for both modes of a network, which often differ in a flag of an argument only."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

from netslim.ir.program import Literal, Mode, Node, Program, Struct


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
