"""The algebra of layouts: what a dimension of a tensor is made of.

    Axis      an unknown run of channels; unification binds it to another layout, freezing binds it to a Const
    Const     a dimension of fixed size (batch, space, kernel, or an axis that was frozen, with the reason)
    Elastic   a solved axis: one channel group of the finished plan
    Product   row-major product of factors (what reshape and grouping make)
    Concat    parts laid one after another (what cat, split and channel padding make)

Axes are bound by the operations of `binding` alone. `runs` turns a solved layout and the kept channels of each group
into an index set.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from math import prod
from typing import NamedTuple

Runs = tuple[tuple[int, int], ...]
"""An index set as sorted (start, length) runs, none of them empty and no two of them touching."""


@dataclass(frozen=True, slots=True)
class Reason:
    """Why an axis stays at full width: a sentence, the operator, and file:line of the user's code."""

    text: str
    op: str = ""
    where: str = ""


Why = Callable[[], Reason]
_ids = itertools.count()


class Axis:
    """An unknown run of `size` channels, bound at most once.

    ties: what operators have said of it. made: whether it is a dimension of an operator's result;
    role: "head" or "group" where it counts these.
    """

    __slots__ = ("bound", "id", "made", "role", "size", "ties")

    def __init__(self, size: int) -> None:
        self.size, self.bound, self.id = size, None, next(_ids)  # type: int, Layout | None, int
        self.role = ""
        self.ties, self.made = {}, False  # type: dict[tuple[Axis | Reason, int, int], Tie], bool

    def __repr__(self) -> str:
        return repr(self.bound) if self.bound is not None else f"a{self.id}:{self.size}"


class Tie(NamedTuple):
    """A part of an axis is another axis, or the whole is frozen for a reason; cause: the operator that says so.

    start: where the part begins; step: its stride where it is a factor, 0 where it lies in one piece.
    """

    whole: Axis
    part: Axis | Reason
    start: int
    step: int
    cause: Reason


@dataclass(frozen=True, slots=True)
class Const:
    size: int
    reason: Reason | None = field(default=None, compare=False)

    def __repr__(self) -> str:
        return str(self.size)


@dataclass(frozen=True, slots=True)
class Elastic:
    group: int
    size: int

    def __repr__(self) -> str:
        return f"g{self.group}:{self.size}"


@dataclass(frozen=True, slots=True)
class Product:
    factors: tuple[Layout, ...]

    @property
    def size(self) -> int:
        return prod(f.size for f in self.factors)

    def __repr__(self) -> str:
        return "(" + " * ".join(map(repr, self.factors)) + ")"


@dataclass(frozen=True, slots=True)
class Concat:
    parts: tuple[Layout, ...]

    @property
    def size(self) -> int:
        return sum(p.size for p in self.parts)

    def __repr__(self) -> str:
        return "[" + " + ".join(map(repr, self.parts)) + "]"


Layout = Axis | Const | Elastic | Product | Concat


class Misaligned(Exception):
    """A solved layout met one that contradicts it (seen only by the proof: the plan is wrong).

    groups: those that would have to stay at full width, each with the reason.
    """

    def __init__(self, groups: dict[int, Reason]) -> None:
        super().__init__("; ".join(sorted({reason.text for reason in groups.values()})))
        self.groups = groups


# ---------------------------------------------------------------------------------------------- normal form


def fresh(size: int, single: Reason | None = None) -> Layout:
    """A new unknown axis; an axis of one channel is a constant, since at least one channel is always kept."""
    return Axis(size) if size > 1 else Const(size, single)


def product(*factors: Layout) -> Layout:
    """The normal form of a product: flat, without factors of size 1, neighbouring constants folded.

    Axes stay as they are, bound or not: `resolve` looks what they are bound to.
    """
    flat: list[Layout] = []
    for factor in factors:
        for f in factor.factors if isinstance(factor, Product) else (factor,):
            if f.size == 1:
                continue
            if flat and isinstance(f, Const) and isinstance(flat[-1], Const):
                first, second = sorted((f, flat[-1]), key=lambda c: -c.size)  # the larger says why
                flat[-1] = Const(flat[-1].size * f.size, first.reason or second.reason)
            else:
                flat.append(f)
    if len(flat) < 2:
        return flat[0] if flat else Const(1)
    if isinstance(flat[0], Concat):  # a leading concatenation is distributed, so that parts stay visible
        return concat(*(product(part, *flat[1:]) for part in flat[0].parts))
    return Product(tuple(flat))


def concat(*parts: Layout) -> Layout:
    """The normal form of a concatenation: flat, without empty parts, neighbouring constants joined."""
    flat: list[Layout] = []
    for part in parts:
        for p in part.parts if isinstance(part, Concat) else (part,):
            if p.size == 0:
                continue
            if flat and isinstance(p, Const) and isinstance(flat[-1], Const):
                flat[-1] = Const(flat[-1].size + p.size, flat[-1].reason or p.reason)
            else:
                flat.append(p)
    return flat[0] if len(flat) == 1 else Concat(tuple(flat)) if flat else Const(0)


def resolve(layout: Layout) -> Layout:
    """`layout` in normal form, with every bound axis replaced by what it is bound to."""
    chain: list[Axis] = []
    while isinstance(layout, Axis) and layout.bound is not None:
        chain.append(layout)
        layout = layout.bound
    if chain:
        layout = resolve(layout)
        for axis in chain:
            axis.bound = layout
    if isinstance(layout, Product):
        return product(*map(resolve, layout.factors)) if _stale(layout.factors) else layout
    if isinstance(layout, Concat):
        return concat(*map(resolve, layout.parts)) if _stale(layout.parts) else layout
    return layout


def _stale(children: tuple[Layout, ...]) -> bool:
    return any(resolve(child) is not child for child in children)


def leaves(layout: Layout) -> Iterator[Axis | Const | Elastic]:
    """Axes, constants and groups of a layout, in order, with repetitions."""
    layout = resolve(layout)
    if isinstance(layout, (Product, Concat)):
        for child in layout.factors if isinstance(layout, Product) else layout.parts:
            yield from leaves(child)
    else:
        yield layout


def is_fixed(layout: Layout) -> bool:
    """Whether no part of the layout can become smaller."""
    return all(isinstance(leaf, Const) for leaf in leaves(layout))


def replaced(layout: Layout, by: Callable[[Elastic], Layout]) -> Layout:
    """The layout with another one in the place of each group."""
    layout = resolve(layout)
    if isinstance(layout, Elastic):
        return by(layout)
    if isinstance(layout, Product):
        return product(*(replaced(factor, by) for factor in layout.factors))
    return concat(*(replaced(part, by) for part in layout.parts)) if isinstance(layout, Concat) else layout


# ---------------------------------------------------------------------------------------------- index sets


def runs(layout: Layout, kept: Mapping[int, Runs]) -> Runs:
    """The index set of a solved layout, given the kept channels of each group.

    group: the kept channels; product: the outer product; concatenation: the parts at their offsets. An axis that
    belongs to no group is whole.
    """
    if isinstance(layout, Axis):
        layout = resolve(layout)
    if isinstance(layout, (Const, Axis)):
        return ((0, layout.size),) if layout.size else ()
    if isinstance(layout, Elastic):
        return kept[layout.group]
    if isinstance(layout, Concat):
        found: list[tuple[int, int]] = []
        offset = 0
        for part in layout.parts:
            found += [(start + offset, length) for start, length in runs(part, kept)]
            offset += part.size
        return _joined(found)
    if isinstance(layout, Product):
        lead, rest = layout.factors[0], layout.factors[1:]
        inner_layout = rest[0] if len(rest) == 1 else Product(rest)
        outer, inner, step = runs(lead, kept), runs(inner_layout, kept), inner_layout.size
        if inner == ((0, step),):
            return tuple((start * step, length * step) for start, length in outer)
        return _joined([(i * step + start, n) for i in positions(outer) for start, n in inner])
    raise TypeError(f"{layout!r} is no layout")


def _joined(pairs: list[tuple[int, int]]) -> Runs:
    joined: list[tuple[int, int]] = []
    for start, length in pairs:
        if joined and sum(joined[-1]) == start:
            joined[-1] = (joined[-1][0], joined[-1][1] + length)
        else:
            joined.append((start, length))
    return tuple(joined)


def from_positions(indices: list[int]) -> Runs:
    """Sorted positions as runs."""
    return _joined([(i, 1) for i in indices])


def positions(index_set: Runs) -> Iterator[int]:
    """The indices of an index set, in order."""
    for start, length in index_set:
        yield from range(start, start + length)


def count(index_set: Runs, below: int | None = None) -> int:
    """How many indices an index set holds, or how many of them lie below a position."""
    if below is None:
        return sum(length for _, length in index_set)
    return sum(min(length, max(0, below - start)) for start, length in index_set)
