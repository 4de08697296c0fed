"""Which channels of one dimension are channels of another: ties between dimensions, by the leaves of their layouts.

A tie says that a dimension is a part of another, or one with it. What is tied by it are the leaves of the two layouts
that are the same channels, so that a path through leaves cannot leave the group, nor come out at another part.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from itertools import accumulate
from typing import NamedTuple

from netslim.layouts.axes import Axis, Concat, Const, Elastic, Layout, Product


class Tie(NamedTuple):
    """One node is a part of another, or one with it; nodes and causes by number.

    start: where the part begins; step: its stride where it is a factor, 0 where it lies in one piece.
    """

    whole: int
    part: int
    start: int
    step: int
    cause: int


class Leaf(NamedTuple):
    """A group, or a fixed run, as a part of a layout: the index of its first channel, and the stride of the others."""

    layout: Axis | Const | Elastic
    start: int
    step: int

    @property
    def last(self) -> int:
        """The index of its last channel, with the first of all other factors: no other leaf's is the same."""
        return self.start + (self.layout.size - 1) * self.step


def digits(layout: Layout, start: int = 0, step: int = 1) -> Iterator[Leaf]:
    """The leaves of a layout, in order."""
    if isinstance(layout, Concat):
        for part in layout.parts:
            yield from digits(part, start, step)
            start += part.size * step
    elif isinstance(layout, Product):
        left = layout.size
        for factor in layout.factors:
            left //= factor.size
            yield from digits(factor, start, step * left)
    else:
        yield Leaf(layout, start, step)


def _near(layout: Layout, first: int, size: int) -> Iterator[Leaf]:
    """The leaves of a layout without parts that lie before or behind so many channels."""
    if not isinstance(layout, Concat):
        yield from digits(layout)
        return
    start = 0
    for part in layout.parts:
        if first - part.size < start < first + size:
            yield from digits(part, start)
        start += part.size


def _at(layout: Layout, index: int, start: int = 0, step: int = 1) -> Iterator[tuple[Leaf, int]]:
    """The leaves that an index lies in, and which of their channels it is."""
    if isinstance(layout, Concat):
        for part in layout.parts:
            if index < part.size:
                yield from _at(part, index, start, step)
                return
            index, start = index - part.size, start + part.size * step
    elif isinstance(layout, Product):
        left = layout.size
        for factor in layout.factors:
            left //= factor.size
            yield from _at(factor, index // left % factor.size, start, step * left)
    else:
        yield Leaf(layout, start, step), index


def same(whole: Layout, part: Layout, start: int, step: int) -> set[tuple[Leaf, Leaf]]:
    """The leaves of a whole and of a part of it that are the same channels."""
    if whole is part or (start == 0 and whole == part):
        return {(leaf, leaf) for leaf in digits(whole) if leaf.layout.size > 1}
    found: set[tuple[Leaf, Leaf]] = set()
    for mine in digits(part):
        found |= {(other, mine) for other in _alike(whole, start + mine.last * max(1, step), mine)}
    for mine in digits(whole) if step else _near(whole, start, part.size):
        inside = mine.last // step % part.size if step else mine.last - start
        found |= {(mine, other) for other in _alike(part, inside, mine)}
    return found


def _alike(layout: Layout, index: int, wanted: Leaf) -> Iterator[Leaf]:
    """The leaves at an index that hold there what another leaf has last: the same channel, or any of fixed ones."""
    for leaf, digit in _at(layout, index) if 0 <= index < layout.size and wanted.layout.size > 1 else ():
        if isinstance(leaf.layout, Const) and isinstance(wanted.layout, Const):
            if digit > 0:
                yield leaf
        elif leaf.layout == wanted.layout and digit == leaf.layout.size - 1:
            yield leaf


State = int
"""A leaf of a node, or else a reason."""

Came = dict[State, tuple[State, int] | None]
"""States that were reached, in order: the one before each, and the cause that led from there."""


@dataclass(frozen=True)
class Links:
    """The graph of leaves. Nodes are dimensions, with layouts, and behind them `reasons` reasons to freeze."""

    layouts: Sequence[Layout]
    ties: Sequence[Tie]
    reasons: int
    near: list[list[tuple[State, int]]] = field(init=False, repr=False, compare=False)
    broken: list[Tie] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "near", [[] for _ in range(len(self.leaves) + self.reasons)])
        object.__setattr__(self, "broken", [tie for tie in self.ties if not self._join(tie)])

    @cached_property
    def leaves(self) -> list[tuple[int, Leaf]]:
        """By state: the node and its leaf."""
        return [(node, leaf) for node, layout in enumerate(self.layouts) for leaf in digits(layout)]

    @cached_property
    def states(self) -> Mapping[tuple[int, Leaf], State]:
        return {found: state for state, found in enumerate(self.leaves)}

    def of(self, node: int) -> range:
        """The states of a node."""
        return range(self._first[node], self._first[node + 1])

    @cached_property
    def _first(self) -> list[State]:
        return list(accumulate((sum(1 for _ in digits(layout)) for layout in self.layouts), initial=0))

    def _join(self, tie: Tie) -> bool:
        """Link the leaves that a tie ties; whether there are any."""
        whole, states = tie.whole, self.states
        if tie.part >= len(self.layouts):
            reason = len(self.leaves) + tie.part - len(self.layouts)
            fixed = [states[whole, leaf] for leaf in digits(self.layouts[whole]) if isinstance(leaf.layout, Const)]
            for state in fixed:
                self.near[state].append((reason, tie.cause))
            return bool(fixed)
        found = same(self.layouts[whole], self.layouts[tie.part], tie.start, tie.step)
        for mine, other in sorted(found, key=lambda pair: (pair[0][1:], pair[1][1:])):
            first, second = states[whole, mine], states[tie.part, other]
            self.near[first].append((second, tie.cause))
            self.near[second].append((first, tie.cause))
        return bool(found)

    def walk(self, origin: State, came: Came) -> Iterator[State]:
        """All states that an origin is tied to, the nearest first; `came` grows by them."""
        came[origin] = None
        todo = [origin]
        for state in todo:
            for following, cause in self.near[state]:
                if following not in came:
                    came[following] = state, cause
                    todo.append(following)
                    yield following

    def path(self, origin: State, end: State) -> list[tuple[State, int]]:
        """The shortest way from one state to another: each further state, with the cause that led to it; else empty."""
        came: Came = {}
        found = any(state == end for state in self.walk(origin, came))
        return way(came, end) if found else []


def way(came: Came, end: State) -> list[tuple[State, int]]:
    """How a walk came to a state. Raises KeyError for one that it did not reach."""
    found: list[tuple[State, int]] = []
    while (before := came[end]) is not None:
        found.append((end, before[1]))
        end = before[0]
    return found[::-1]
