"""Binding axes, and remembering why: what the operators say is kept as ties between the axes themselves.

The algebra of `axes` binds axes to each other and forgets which of them met where. Here every axis that an operator
names is a node of a graph, and what the operator says of it an edge: two axes are one, or one is a part of another. A
proof that two dimensions are tied is a path in this graph (as in proof-producing congruence closure, Nieuwenhuis and
Oliveras 2005). Rules bind axes through these functions alone; results of operators are axes of their own (`named`), so
that a path tells the operators that it goes through.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from netslim.layouts import binding
from netslim.layouts.axes import (
    Axis,
    Concat,
    Const,
    Layout,
    Product,
    Reason,
    Tie,
    Why,
    is_fixed,
    leaves,
    resolve,
)  # fmt: skip
from netslim.layouts.binding import MEETS_FIXED

Known = dict[tuple[object, ...], Axis]
"""The axes that results of operators have got, so that the same operator on the same axes names one axis."""


def unify(a: Layout, b: Layout, why: Why) -> None:
    """Make two layouts of one size the same, as finely as needed; freeze what cannot be aligned."""
    if a is b:
        return
    if isinstance(a, Axis) or isinstance(b, Axis):
        _met(a, b, why) if isinstance(a, Axis) else _met(b, a, why)  # type: ignore[arg-type]
    elif _axes_in(a) and _axes_in(b):
        whole = _node(a)
        _met(whole, a, why)
        _met(whole, b, why)
    asked = _Asked(why)
    binding.unify(a, b, asked)
    _stopped((a, b), asked)


def freeze(layout: Layout, why: Why) -> None:
    """Bind every free axis of `layout` to a constant. Raises Misaligned when a solved group is among them."""
    asked = _Asked(why)
    binding.freeze(layout, asked)
    _stopped((layout,), asked)


def split(layout: Layout, outer: int, inner: int, why: Why, known: Known) -> tuple[Layout, Layout]:
    """Factors of sizes (outer, inner) whose row-major product is `layout`; frozen where they do not exist."""
    if outer == 1 or inner == 1:
        return (Const(1), layout) if outer == 1 else (layout, Const(1))
    asked = _Asked(why)
    factors = binding.split(layout, outer, inner, asked)
    _stopped((layout,), asked)
    return _parts(layout, factors, ((0, inner), (0, 1)), why, known)


def cut(layout: Layout, at: int, why: Why, known: Known) -> tuple[Layout, Layout]:
    """The layouts of `[:at]` and `[at:]`; always possible."""
    if at <= 0 or at >= layout.size:
        return (Const(0), layout) if at <= 0 else (layout, Const(0))
    return _parts(layout, binding.cut(layout, at), ((0, 0), (at, 0)), why, known)


def named(layout: Layout, why: Why, known: Known) -> Layout:
    """The layout of a dimension of an operator's result: an axis of its own, unless the result is passed through."""
    if (isinstance(layout, Axis) and layout.made) or not _axes_in(layout):
        return layout if isinstance(layout, Axis) else resolve(layout)
    cause = _cause(why())
    found = known.get((layout, cause))
    if found is None:
        found = known[layout, cause] = _node(layout)
        _met(found, layout, lambda: cause)
    return found


def stop(axis: Axis, reason: Reason) -> None:
    """Say that an axis was frozen here for this reason."""
    axis.ties.setdefault((reason, 0, 0), Tie(axis, reason, 0, 0, reason))


def count(layout: Layout, role: str) -> None:
    """Say that the axes in a layout count heads or groups."""
    for axis in _axes_in(layout):
        axis.role = axis.role or role


class _Asked:
    """Works out a reason, and remembers it: so something was frozen for it."""

    def __init__(self, why: Why) -> None:
        self.why, self.reason = why, None  # type: Why, Reason | None

    def __call__(self) -> Reason:
        self.reason = self.reason or self.why()
        return self.reason


def _stopped(layouts: tuple[Layout, ...], asked: _Asked) -> None:
    for axis in (axis for layout in layouts for axis in _axes_in(layout)) if asked.reason else ():
        for leaf in leaves(axis):
            if isinstance(leaf, Const) and leaf.reason:
                stop(axis, leaf.reason)


def _cause(reason: Reason) -> Reason:
    """Why two axes are tied: the operator, or else what a person has asked for."""
    return Reason("", reason.op, reason.where) if reason.op else reason


def _node(layout: Layout) -> Axis:
    axis = Axis(layout.size)
    axis.made, axis.bound = True, resolve(layout)
    return axis


def _parts(
    layout: Layout, pure: tuple[Layout, Layout], places: tuple[tuple[int, int], ...], why: Why, known: Known
) -> tuple[Layout, Layout]:
    if not _axes_in(layout):
        return pure
    cause = _cause(why())
    whole = layout if isinstance(layout, Axis) else named(layout, lambda: cause, known)
    assert isinstance(whole, Axis), "there is an axis in it"
    first, second = (_part(whole, part, place, cause, known) for part, place in zip(pure, places, strict=True))
    return first, second


def _part(whole: Axis, part: Layout, place: tuple[int, int], cause: Reason, known: Known) -> Layout:
    if part.size < 2:
        return part
    found = known.get((whole, part.size, place, cause))
    if found is None:
        found = known[whole, part.size, place, cause] = _node(part)
        _tie(whole, found, *place, lambda: cause)
    return found


def _met(axis: Axis, other: Layout, why: Why) -> None:
    """Tie an axis to what it is one with: another axis, the parts of a layout, or a dimension of fixed size."""
    if isinstance(other, Axis):
        _tie(axis, other, 0, 0, why)
    elif isinstance(other, Const):
        if not is_fixed(axis):
            reason = other.reason or replace(why(), text=MEETS_FIXED)
            axis.ties.setdefault((reason, 0, 0), Tie(axis, reason, 0, 0, _cause(why())))
    else:
        for child, start, step in _children(other):
            part = child if isinstance(child, Axis) else _node(child)
            _tie(axis, part, start, step, why)
            if part is not child and (not isinstance(child, Const) or child.reason):
                _fixed(part, child) if isinstance(child, Const) else _met(part, child, why)


def _fixed(axis: Axis, constant: Const) -> None:
    if constant.reason:
        stop(axis, constant.reason)


def _children(layout: Layout) -> Iterator[tuple[Layout, int, int]]:
    """The parts of a layout, where they start, and the stride of those that are factors (0 for the others)."""
    if isinstance(layout, Concat):
        start = 0
        for part in layout.parts:
            yield part, start, 0
            start += part.size
    elif isinstance(layout, Product):
        step = layout.size
        for factor in layout.factors:
            step //= factor.size
            yield factor, 0, step


def _tie(whole: Axis, part: Axis, start: int, step: int, why: Why) -> None:
    if whole is part or (part, start, step) in whole.ties or (whole, start, step) in part.ties:
        return
    tie = Tie(whole, part, start, step, _cause(why()))
    whole.ties[part, start, step] = part.ties[whole, start, step] = tie


def _axes_in(layout: Layout) -> list[Axis]:
    if isinstance(layout, Axis):
        return [layout]
    return [axis for child, _, _ in _children(layout) for axis in _axes_in(child)]
