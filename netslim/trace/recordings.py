"""Compares two recordings of a forward: which steps are the same, and which numbers among their arguments differ."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

import torch
from torch import Tensor

from netslim.errors import TraceError
from netslim.ir.functions import COUNTS
from netslim.ir.program import LIFTED, Leaf, Node, Ref, function, leaves
from netslim.trace.formulas import Number
from netslim.trace.result import Comparison, Path, Trace

Place = tuple[int, Path]
"""A node of the base, by its place among the steps, and a leaf of it."""


class ConstantDiffers(TraceError):
    """A tensor that forward makes of numbers is another one on another size."""


@dataclass(frozen=True)
class Held:
    """One further recording beside the base.

    numbers: what the base's numbers are there; shapes: of the base's tensors; literals: what stands at each place;
    asked: by comparison of the base, the numbers that it was of there; flipped: comparisons with another outcome there.
    differs: the line where other steps are taken, or ""; alike: how many steps are the same. dtypes: literals that are
    others there, where they may be.
    """

    numbers: Mapping[str, Number]
    shapes: Mapping[str, tuple[int, ...]]
    literals: Mapping[Place, Number]
    asked: Mapping[int, tuple[Number | None, ...]]
    flipped: frozenset[int]
    differs: str | None = None
    alike: int = 0
    dtypes: Mapping[Place, torch.dtype] = field(default_factory=dict)


def against(base: Trace, other: Trace, precise: bool = False) -> Held:
    """The base held against another recording; precise: of another precision, where dtypes may be others."""
    names: dict[str, str] = {}  # of the base's values in the other
    literals: dict[Place, Number] = {}
    dtypes: dict[Place, torch.dtype] = {}
    ours, theirs, differs = base.steps, other.steps, None
    for i, (a, b) in enumerate(itertools.zip_longest(ours, theirs)):
        if a is None or b is None or not _same(a, b, i, (base, other), names, literals, dtypes if precise else None):
            differs = next((n.where for n in (*ours[i:], *theirs[i:]) if n and n.where), "")
            break
        names[a.name] = b.name
    shapes = {ours: shape_of(other.tensors.get(theirs)) for ours, theirs in names.items()}
    numbers = _numbers(base, {name: shape for name, shape in shapes.items() if shape is not None})
    known = {k: v for k, v in shapes.items() if v is not None}
    met = dict(_met(base, other))
    asked = {i: tuple(number(o, other) for o in there.operands) for i, there in met.items()}
    outcomes = {i: met[i].outcome if i in met else _outcome(c, numbers) for i, c in enumerate(base.comparisons)}
    flipped = {i for i, c in enumerate(base.comparisons) if outcomes[i] not in (None, c.outcome)}
    return Held(numbers, known, literals, asked, frozenset(flipped), differs, len(names), dtypes)


def _met(base: Trace, other: Trace) -> Iterator[tuple[int, Comparison]]:
    """The comparisons of the base that the other recording has made in the same places."""
    for i, (ours, theirs) in enumerate(zip(base.comparisons, other.comparisons, strict=False)):
        if (ours.target, base.position[ours.after]) != (theirs.target, other.position[theirs.after]):
            return
        yield i, theirs


def shape_of(value: object) -> tuple[int, ...] | None:
    """The shape of a tensor, None of anything else."""
    return tuple(value.shape) if isinstance(value, Tensor) else None


def _same(
    a: Node, b: Node, i: int, traces: tuple[Trace, Trace], names: Mapping[str, str], literals: dict[Place, Number],
    dtypes: dict[Place, torch.dtype] | None,
) -> bool:  # fmt: skip
    """Whether two steps are one, but for numbers, and dtypes where they may differ, which are collected."""
    base, other = traces
    if (a.op, a.grad, a.cast, a.again) != (b.op, b.grad, b.cast, b.again):
        return False
    if a.op == "param" and (a.target != b.target or LIFTED in a.target.split(".")):
        return _is_one_constant(a.target, b.target, base, other)
    if a.target != b.target:
        return False
    ours, theirs = base.arguments[i], other.arguments[i]
    if len(ours) != len(theirs):
        return False
    for (path, x), (there, y) in zip(ours, theirs, strict=True):
        if path != there:
            return False
        mine, yours = number(x, base), number(y, other)
        if mine is not None and yours is not None:
            literals[i, path] = yours
        elif isinstance(x, Ref) and isinstance(y, Ref):
            if names.get(x.name) != y.name:
                return False
        elif dtypes is not None and isinstance(x, torch.dtype) and isinstance(y, torch.dtype):
            dtypes |= {(i, path): y} if x != y else {}
        elif type(x) is not type(y) or not (x == y or (x != x and y != y)):
            return False
    return True


def number(leaf: Leaf, traced: Trace) -> Number | None:
    """The number that an argument is in a recording, None for what is none."""
    value = traced.numbers.get(leaf.name) if isinstance(leaf, Ref) else leaf
    return value if isinstance(value, (int, float)) and not isinstance(value, bool) else None


def _is_one_constant(a: str, b: str, base: Trace, other: Trace) -> bool:
    x, y = base.constants.get(a), other.constants.get(b)
    if x is None or y is None:
        return False
    if x is y or (x.shape == y.shape and x.dtype == y.dtype and (x.is_meta or _equal(x, y))):
        return True
    if a in base.made:
        raise ConstantDiffers("a constant that forward makes depends on a size.")
    return False


def _equal(x: Tensor, y: Tensor) -> bool:
    with torch.inference_mode():
        return not y.is_meta and torch.equal(x, y)


def _numbers(base: Trace, shapes: Mapping[str, tuple[int, ...]]) -> dict[str, Number]:
    """The base's numbers where its tensors have other shapes, as far as they can be worked out."""
    found: dict[str, Number] = {}
    for node in base.program:
        if node.name in base.numbers:
            value = _worked_out(node, found, shapes)
            if value is not None:
                found[node.name] = value
    return found


def _worked_out(node: Node, found: Mapping[str, Number], shapes: Mapping[str, tuple[int, ...]]) -> Number | None:
    try:
        if node.target in COUNTS:
            shape = shapes[node.refs[0]]
            dim = node.args[1] if len(node.args) > 1 else None
            return shape[dim] if isinstance(dim, int) else torch.Size(shape).numel()
        operands = [found[leaf.name] if isinstance(leaf, Ref) else leaf for leaf in leaves(node.args)]
        value = function(node.target)(*operands)
    except (KeyError, IndexError, ArithmeticError, ValueError):
        return None
    return value if isinstance(value, (int, float)) else None


def _outcome(comparison: Comparison, numbers: Mapping[str, Number]) -> bool | None:
    """What a comparison gives there; None where its numbers are not known."""
    operands = [numbers.get(o.name) if isinstance(o, Ref) else o for o in comparison.operands]
    return None if None in operands else bool(function(comparison.target)(*operands))
