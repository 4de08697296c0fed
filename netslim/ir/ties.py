"""What ties the places of a network to each other, as data: the graph that explanations are paths in."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import NamedTuple

from netslim.layouts.axes import Axis, Concat, Const, Elastic, Layout, Product, Reason, resolve
from netslim.layouts.axes import Tie as Edge


class Slot(NamedTuple):
    """One dimension of one parameter or buffer."""

    param: str
    dim: int


class Tie(NamedTuple):
    """One node is a part of another, or one with it; nodes and causes by number.

    start: where the part begins; step: its stride where it is a factor, 0 where it lies in one piece. outer, inner: in
    how many ways the other factors can be chosen where they stand for pieces that are alike (else 1).
    """

    whole: int
    part: int
    start: int
    step: int
    cause: int
    outer: int = 1
    inner: int = 1


MOST_WAYS = 8


@dataclass(frozen=True, slots=True)
class Ties:
    """Nodes are numbered: first the places, then dimensions of values inside forward, then the reasons to freeze.

    sizes: channels of the places and of the dimensions; causes: operators and their lines, or what a person asked for.
    """

    places: tuple[Slot, ...] = ()
    sizes: tuple[int, ...] = ()
    reasons: tuple[Reason, ...] = ()
    causes: tuple[Reason, ...] = ()
    ties: tuple[Tie, ...] = ()


def collected(places: Mapping[Slot, Axis]) -> Ties:
    """The ties that join places to each other and to what froze them; what leads to neither is left out."""
    graph = _pruned(_reached(list(places.values())), set(places.values()))
    named = list(dict.fromkeys(places.values()))
    slots = {axis: slot for slot, axis in reversed(list(places.items()))}
    inner = [node for node in graph if isinstance(node, Axis) and node not in slots]
    reasons = list(dict.fromkeys(node for node in graph if isinstance(node, Reason)))
    nodes: list[Axis | Reason] = [*named, *inner, *reasons]
    numbers = {node: i for i, node in enumerate(nodes)}
    causes: dict[Reason, int] = {}
    ties = [
        Tie(
            numbers[tie.whole],
            numbers[tie.part],
            tie.start,
            tie.step,
            causes.setdefault(tie.cause, len(causes)),
            *_ways(tie),
        )
        for tie in dict.fromkeys(tie for found in graph.values() for tie in found)
    ]
    sizes = tuple(axis.size for axis in [*named, *inner])
    return Ties(tuple(slots[axis] for axis in named), sizes, tuple(reasons), tuple(causes), tuple(ties))


def _ways(tie: Edge) -> tuple[int, int]:
    """In how many ways the factors beside a part can be chosen, as far as they are fixed."""
    if not tie.step or isinstance(tie.part, Reason):
        return 1, 1
    span = tie.step * tie.part.size
    strides = [step for leaf, _, step, _ in digits(resolve(tie.whole)) if isinstance(leaf, Axis)]
    outer = tie.whole.size // span if all(step < span for step in strides) else 1
    inner = tie.step if all(step >= tie.step for step in strides) else 1
    return outer if outer <= MOST_WAYS else 1, inner if inner <= MOST_WAYS else 1


def digits(layout: Layout, start: int = 0, step: int = 1) -> Iterator[tuple[Axis | Const | Elastic, int, int, str]]:
    """The leaves of a layout: where each begins, its stride, and how it is called ('' for the whole)."""
    if isinstance(layout, Concat):
        inside = 0
        for part in layout.parts:
            span = f"[{inside}:{inside + part.size}]"
            for leaf, at, stride, text in digits(part, start + inside * step, step):
                yield leaf, at, stride, f"{span} {text}".rstrip()
            inside += part.size
    elif isinstance(layout, Product):
        left = layout.size
        for i, factor in enumerate(layout.factors):
            left //= factor.size
            for leaf, at, stride, text in digits(factor, start, step * left):
                sizes = [f"[{f.size}]" if j == i else str(f.size) for j, f in enumerate(layout.factors)]
                yield leaf, at, stride, " ".join(filter(None, (" × ".join(sizes), text)))
    else:
        yield layout, start, step, ""


Graph = dict[Axis | Reason, dict[Edge, Axis | Reason]]


def _reached(start: list[Axis]) -> Graph:
    """All that is tied to some axes: of each node, its ties and where they lead."""
    graph: Graph = {axis: {} for axis in start}
    todo = list(graph)
    while todo:
        node = todo.pop()
        for tie in node.ties.values() if isinstance(node, Axis) else ():
            for end, other in ((tie.whole, tie.part), (tie.part, tie.whole)):
                if end not in graph:
                    graph[end] = {}
                    todo.append(end)
                graph[end][tie] = other
    return graph


def _pruned(graph: Graph, kept: set[Axis]) -> Graph:
    """Without the dimensions of values that lead nowhere."""
    ends = [node for node, ties in graph.items() if len(ties) < 2]
    while ends:
        node = ends.pop()
        if node in kept or isinstance(node, Reason) or node not in graph:
            continue
        for tie, other in graph.pop(node).items():
            del graph[other][tie]
            if len(graph[other]) < 2:
                ends.append(other)
    return graph
