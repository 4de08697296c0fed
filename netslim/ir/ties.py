"""What ties the places of a network to each other, as data: the graph that explanations are paths in."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from typing import NamedTuple

from netslim.ir.links import Links, State, Tie
from netslim.layouts.axes import Axis, Elastic, Layout, Reason, resolve
from netslim.layouts.axes import Tie as Edge


class Slot(NamedTuple):
    """One dimension of one parameter or buffer."""

    param: str
    dim: int


@dataclass(frozen=True)
class Ties:
    """Nodes are numbered: first the places, then dimensions of values inside forward, then the reasons to freeze.

    layouts: of the places and of the dimensions; causes: operators and their lines, or what a person asked for;
    roles: nodes that are the heads of an attention, or the groups of a grouped layer.
    """

    places: tuple[Slot, ...] = ()
    layouts: tuple[Layout, ...] = ()
    reasons: tuple[Reason, ...] = ()
    causes: tuple[Reason, ...] = ()
    ties: tuple[Tie, ...] = ()
    roles: tuple[tuple[int, str], ...] = ()

    @cached_property
    def links(self) -> Links:
        """The graph that chains are searched in; worked out once, for nothing here ever changes."""
        return Links(self.layouts, self.ties, len(self.reasons))

    @cached_property
    def numbers(self) -> Mapping[Slot, int]:
        """The node of each place."""
        return {slot: number for number, slot in enumerate(self.places)}

    @cached_property
    def held(self) -> Mapping[int, int]:
        """At how many places each group is."""
        here = (leaf.layout for node, leaf in self.links.leaves if node < len(self.places))
        return Counter(layout.group for layout in here if isinstance(layout, Elastic))

    @cached_property
    def called(self) -> Mapping[State, tuple[str, int]]:
        """What leaves count: the role of a node that they are tied to, and how many it has."""
        found: dict[State, tuple[str, int]] = {}
        for node, role in self.roles:
            for state in self.links.of(node):
                count = self.links.leaves[state][1].layout.size
                if state not in found and count > 1:
                    found |= dict.fromkeys((state, *self.links.walk(state, {})), (role, count))
        return found


def collected(places: Mapping[Slot, Axis], solved: Callable[[Layout], Layout]) -> Ties:
    """The ties that join places to each other and to what froze them; what leads to neither is left out."""
    graph = _reached(list(places.values()))
    _prune(graph, set(places.values()))
    named = list(dict.fromkeys(places.values()))
    slots = {axis: slot for slot, axis in reversed(list(places.items()))}
    axes = named + [node for node in graph if isinstance(node, Axis) and node not in slots]
    reasons = list(dict.fromkeys(node for node in graph if isinstance(node, Reason)))
    nodes: list[Axis | Reason] = [*axes, *reasons]
    numbers = {node: i for i, node in enumerate(nodes)}
    causes: dict[Reason, int] = {}
    edges = dict.fromkeys(tie for found in graph.values() for tie in found)
    ties = Ties(
        places=tuple(slots[axis] for axis in named),
        layouts=_layouts(axes, solved),
        reasons=tuple(reasons),
        ties=tuple(
            Tie(numbers[e.whole], numbers[e.part], e.start, e.step, causes.setdefault(e.cause, len(causes)))
            for e in edges
        ),
        causes=tuple(causes),
        roles=tuple((numbers[axis], axis.role) for axis in axes if axis.role),
    )
    broken = set(ties.links.broken)
    return replace(ties, ties=tuple(tie for tie in ties.ties if tie not in broken)) if broken else ties


def _layouts(axes: list[Axis], solved: Callable[[Layout], Layout]) -> tuple[Layout, ...]:
    """Solved layouts; axes that are bound to one layout share it."""
    known: dict[Layout, Layout] = {}
    bound = [resolve(axis) for axis in axes]
    return tuple(known[each] if each in known else known.setdefault(each, solved(each)) for each in bound)


Graph = dict[Axis | Reason, dict[Edge, Axis | Reason]]


def _reached(start: list[Axis]) -> Graph:
    """All that is tied to some axes: of each node, its ties and where they lead."""
    graph: Graph = {axis: {} for axis in start}
    todo: list[Axis | Reason] = list(graph)
    while todo:
        node = todo.pop()
        for tie in node.ties.values() if isinstance(node, Axis) else ():
            for end, other in ((tie.whole, tie.part), (tie.part, tie.whole)):
                if end not in graph:
                    graph[end] = {}
                    todo.append(end)
                graph[end][tie] = other
    return graph


def _prune(graph: Graph, kept: set[Axis]) -> None:
    """Take out the dimensions of values that lead nowhere, and have no role."""
    ends = [node for node, ties in graph.items() if len(ties) < 2]
    while ends:
        node = ends.pop()
        if node in kept or isinstance(node, Reason) or node not in graph or node.role:
            continue
        for tie, other in graph.pop(node).items():
            del graph[other][tie]
            if len(graph[other]) < 2:
                ends.append(other)
