"""A program as a graph: who uses what, what is computed for whom only, how many parameters lie on the way."""

from __future__ import annotations

import functools
import operator
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from netslim.ir.functions import ARITHMETIC, COUNTS, FORMS, SUMS, Memory, effect
from netslim.ir.own import REQUIRE
from netslim.ir.program import Node, Program, Ref, Size

Shape = tuple[int, ...]


@dataclass(frozen=True)
class Facts:
    """What is known about a program's values: shapes of tensors, parameters that a node brings, memory.

    channels(name, dim): how many channels a value has along a dimension, as a literal of the program.
    """

    shapes: Mapping[str, Shape]
    weights: Mapping[str, int]
    memory: Memory
    channels: Callable[[str, int], Size | int]


class Flow:
    """Who uses what. Nodes are numbered in program order; sets of nodes are sets of numbers."""

    def __init__(self, program: Program, facts: Facts) -> None:
        self.nodes, self.facts = program.nodes, facts
        self.at = {node.name: i for i, node in enumerate(program.nodes)}
        self.reads: list[set[int]] = [{self.at[name] for name in node.refs} for node in program]
        self._follow_writes()
        self.asides = self._asides()
        self.users: list[set[int]] = [set() for _ in self.nodes]
        self.above: list[int] = []  # as bit sets: every node that a node depends on, itself included
        self.data: list[bool] = []  # whether a node depends on an input
        for i, reads in enumerate(self.reads):
            bits, data = 1 << i, self.nodes[i].op == "input"
            for j in reads:
                if i not in self.asides:
                    self.users[j].add(i)
                bits |= self.above[j]
                data = data or self.data[j]
            self.above.append(bits)
            self.data.append(data and self.nodes[i].target not in FORMS)

    def _follow_writes(self) -> None:
        """A reader of a tensor also reads the latest write to its memory."""
        written: dict[str, int] = {}
        for i in range(len(self.nodes)):
            seen = {owner for j in self.reads[i] for owner in self.facts.memory.owners[self.name(j)]}
            self.reads[i] |= {written[owner] for owner in seen if owner in written} - {i}
            written |= dict.fromkeys(self.writes(i), i)

    def _asides(self) -> set[int]:
        """Refusals of sizes, and the numbers that are worked out for them only: they use no value for a result."""
        users: list[set[int]] = [set() for _ in self.nodes]
        for i, reads in enumerate(self.reads):
            for j in reads:
                users[j].add(i)
        found: set[int] = set()
        for i in range(len(self.nodes) - 1, -1, -1):
            number = self.nodes[i].target in COUNTS | ARITHMETIC and users[i] and users[i] <= found
            if self.nodes[i].target == REQUIRE or number:
                found.add(i)
        return found

    def with_asides(self, body: set[int]) -> set[int]:
        """A body, and the refusals of the sizes in it."""
        found = set(body)
        for i in sorted(self.asides):
            if self.reads[i] & found:
                found.add(i)
        return found

    def writes(self, i: int) -> frozenset[str]:
        """The values whose memory a node writes to."""
        return self.facts.memory.writes.get(self.name(i), frozenset())

    def name(self, i: int) -> str:
        return self.nodes[i].name

    def is_sum(self, node: Node) -> bool:
        """Whether it adds two tensors that both depend on the input: a shift by a parameter joins no branches."""
        both = [arg for arg in node.args[:2] if isinstance(arg, Ref) and arg.name in self.facts.shapes]
        added = node.op == "call" and node.target in SUMS and len(both) == 2
        return added and all(self.data[self.at[arg.name]] for arg in both)

    def is_part_of_a_sum(self, node: Node) -> bool:
        """Whether the sum is only an operand of another one, so that both are one sum of several branches."""
        users = self.users[self.at[node.name]]
        return len(users) == 1 and self.is_sum(self.nodes[next(iter(users))])

    def operands(self, node: Node) -> list[int]:
        """The branches of a sum, through the sums that are only parts of it."""
        found: list[int] = []
        for name in node.refs[:2]:
            part = self.nodes[self.at[name]]
            found += self.operands(part) if self.is_sum(part) and self.is_part_of_a_sum(part) else [self.at[name]]
        return found

    def only_for(self, start: set[int], user: set[int], others: Sequence[int]) -> set[int]:
        """Nodes that are computed for `user` only, from `start` backwards, and not for the values `others`."""
        wanted = functools.reduce(operator.or_, (self.above[o] for o in others), 0)
        body = {i for i in start if self.users[i] <= user and not wanted >> i & 1}
        queue = sorted(body, reverse=True)
        while queue:
            for j in sorted(self.reads[queue.pop(0)], reverse=True):
                free = j not in body and self.nodes[j].op != "input" and not wanted >> j & 1
                if free and self.users[j] <= body | user:
                    body.add(j)
                    queue.append(j)
        return self._without_outside_writes(body)

    def _without_outside_writes(self, body: set[int]) -> set[int]:
        """A write to memory that others see is no part of a body, and neither is what it needs."""
        own = {self.name(i) for i in body}
        outside = {i for i in body if not self.writes(i) <= own}
        if not outside:
            return body
        needed = {j for i in outside for j in body if self.above[i] >> j & 1}
        return body - needed

    def root(self, i: int) -> int:
        """The value of which a value is a view, itself where it is none."""
        while is_view(self.nodes[i]) and self.nodes[i].refs:
            i = self.at[self.nodes[i].refs[0]]
        return i

    def bits(self, found: int) -> set[int]:
        """The nodes of a bit set."""
        return {i for i in range(len(self.nodes)) if found >> i & 1}

    def boundary(self, body: set[int]) -> set[int]:
        """Values from outside that the body reads, and that depend on the input."""
        return {j for i in body for j in self.reads[i] if j not in body and self.data[j]}

    def between(self, source: int, end: int) -> set[int]:
        """Nodes on the way from a value to another, the second included."""
        return {i for i in range(source + 1, end + 1) if self.above[end] >> i & 1 and self.above[i] >> source & 1}

    def weight(self, nodes: set[int]) -> int:
        """Parameters that nodes bring, also through the parameters that they alone read."""
        own = nodes | {j for i in nodes for j in self.reads[i] if self.nodes[j].op == "param"}
        return sum(self.facts.weights.get(self.name(i), 0) for i in own)

    def shape(self, i: int) -> Shape | None:
        return self.facts.shapes.get(self.name(i))


def is_view(node: Node) -> bool:
    """Whether a call may give its first argument in another form."""
    return node.op == "call" and effect(node.target).views
