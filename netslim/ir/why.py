"""Why places keep the same channels, or all of theirs: chains of operators, found in a plan's ties."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import islice

from netslim.ir.answers import Chain, Part, Place, Role, Step, Why, nearest, spelled, ways_each
from netslim.ir.links import Came, Leaf, State, way
from netslim.ir.plan import Plan
from netslim.ir.ties import Slot
from netslim.layouts.axes import Const, Elastic, Reason
from netslim.layouts.binding import MEETS_FIXED


def why(plan: Plan, name: str, slots: Sequence[Slot], group: str | None = None) -> Why:
    """What these dimensions are, and what ties them or froze them; only what is of `group` where one is named."""
    return Explainer(plan).why(name, slots, group)


def between(plan: Plan, names: tuple[str, str], first: Sequence[Slot], last: Sequence[Slot]) -> Why:
    """The shortest chain between the dimensions of two names, for every group that has both."""
    return Explainer(plan).between(names, first, last)


class Explainer:
    """Answers questions about a plan. The graph of its ties is worked out once, with the first question."""

    def __init__(self, plan: Plan) -> None:
        self.plan, self.ties, self.links = plan, plan.ties, plan.ties.links
        self.frozen = {slot: frozen for frozen in plan.frozen for slot in frozen.slots}
        self.known: dict[Slot, Mapping[Leaf, str]] = {}

    def why(self, name: str, slots: Sequence[Slot], group: str | None = None) -> Why:
        """What these dimensions are, with a chain to every place that each is tied to."""
        found = (self._with_ties(part, leaf) for slot in slots for part, leaf in self._parts(slot))
        return Why((name,), tuple(part for part in found if group is None or part.group == group))

    def brief(self, name: str, slots: Sequence[Slot]) -> Why:
        """The same with the chains that its text shows, and no others."""
        found = [each for slot in slots for each in self._parts(slot)]
        most = ways_each(sum(bool(part.group) for part, _ in found))
        return Why((name,), tuple(self._with_ties(part, leaf, most) for part, leaf in found))

    def between(self, names: tuple[str, str], first: Sequence[Slot], last: Sequence[Slot]) -> Why:
        """The shortest chain between the dimensions of two names, for every group that has both."""
        mine, theirs = ([each for slot in slots for each in self._parts(slot)] for slots in (first, last))
        wanted = set(last)
        found: dict[str, Chain] = {}
        for part, leaf in mine:
            for chain in islice(self._chains(part.place, leaf, wanted), 1 if part.group else 0):
                known = found.get(part.group)
                if not known or len(chain.steps) < len(known.steps):
                    found[part.group] = chain
        return Why(names, tuple(part for part, _ in (*mine, *theirs)), tuple(found.values()))

    # -- parts

    def _parts(self, slot: Slot) -> Iterator[tuple[Part, Leaf]]:
        """What a dimension is made of, without what it is tied to; nothing for kernels, which are no channels."""
        layout = self.plan.layouts[slot.param][slot.dim] if slot.param in self.plan.layouts else None
        frozen = self.frozen.get(slot)
        found = {} if layout is None else self._spelled(slot)
        if not any(isinstance(leaf.layout, Elastic) for leaf in found):
            if frozen is not None:
                reason = Reason(frozen.reason, frozen.op, frozen.where)
                whole = Leaf(Const(frozen.size), 0, 1)
                yield self._stays(Place(slot.param, slot.dim, frozen.size), whole, reason), whole
            return
        for leaf, text in found.items():
            place = Place(slot.param, slot.dim, leaf.layout.size, text, leaf.start, leaf.step)
            if isinstance(leaf.layout, Elastic):
                yield Part(place, self.plan.groups[leaf.layout.group].name), leaf
            elif isinstance(leaf.layout, Const) and leaf.layout.size > 1:
                yield self._stays(place, leaf, leaf.layout.reason or Reason(MEETS_FIXED)), leaf

    def _spelled(self, slot: Slot) -> Mapping[Leaf, str]:
        """The leaves of a place, and how they are called."""
        if slot not in self.known:
            node, called = self.ties.numbers.get(slot), self.ties.called
            states = () if node is None else self.links.of(node)
            roles = {self.links.leaves[state][1]: Role(*called[state]) for state in states if state in called}
            self.known[slot] = dict(spelled(self.plan.layouts[slot.param][slot.dim], roles))
        return self.known[slot]

    def _stays(self, place: Place, leaf: Leaf, reason: Reason) -> Part:
        """A part that is frozen, and the operators from there to what froze it."""
        found: tuple[Step, ...] = ()
        node = self.ties.numbers.get(Slot(place.param, place.dim))
        if node is not None and reason in self.ties.reasons:
            end = len(self.links.leaves) + self.ties.reasons.index(reason)
            states = [s for s in self.links.of(node) if isinstance(self.links.leaves[s][1].layout, Const)]
            wanted = self.links.states.get((node, leaf))
            ways = (self.links.path(s, end) for s in (states if wanted is None else [wanted]))
            steps = self._steps(min(filter(None, ways), key=len, default=[]))
            found = tuple(step for step in steps if (step.op, step.where) != (reason.op, reason.where))
        return Part(place, reason=reason.text, by=reason.op, where=reason.where, steps=found)

    # -- chains

    def _with_ties(self, part: Part, leaf: Leaf, most: int | None = None) -> Part:
        if not part.group:
            return part
        chains = self._chains(part.place, leaf)
        if most is None:
            return replace(part, ties=tuple(chains))
        found = nearest(chains, most)
        return replace(part, ties=found, more=self._others(part.place, leaf) - len(found))

    def _chains(self, place: Place, leaf: Leaf, wanted: set[Slot] | None = None) -> Iterator[Chain]:
        """A chain to every other place of a leaf's group, or to the wanted of them: those that ties lead to first."""
        origin = self.links.states.get((self.ties.numbers.get(Slot(place.param, place.dim), -1), leaf))
        came: Came = {}
        for state in () if origin is None else self.links.walk(origin, came):
            slot = self._slot(state)
            if slot is not None and (wanted is None or slot in wanted):
                yield Chain(place, self._steps(way(came, state)), self._place(slot, self.links.leaves[state][1]))
        yield from (Chain(place, (), other) for other in self._unreached(place, leaf, came, wanted))

    def _unreached(self, place: Place, leaf: Leaf, came: Came, wanted: set[Slot] | None) -> Iterator[Place]:
        """Places of the group that no tie leads to: some plans, and files of before, have no ties."""
        for slot, other in self._members(leaf):
            state = self.links.states.get((self.ties.numbers.get(slot, -1), other))
            here = (slot, other) == (Slot(place.param, place.dim), leaf)
            if not here and state not in came and (wanted is None or slot in wanted):
                yield self._place(slot, other)

    def _members(self, leaf: Leaf) -> Iterator[tuple[Slot, Leaf]]:
        assert isinstance(leaf.layout, Elastic), "a part of a group is asked for"
        for slot in self.plan.groups[leaf.layout.group].slots:
            for other in self._spelled(slot):
                if other.layout == leaf.layout:
                    yield slot, other

    def _others(self, place: Place, leaf: Leaf) -> int:
        """How many places a chain could lead to."""
        assert isinstance(leaf.layout, Elastic), "a part of a group is asked for"
        return self.ties.held[leaf.layout.group] - 1 if self.ties.places else sum(1 for _ in self._members(leaf)) - 1

    def _slot(self, state: State) -> Slot | None:
        """The place that a state is at, if it is at one."""
        node = self.links.leaves[state][0] if state < len(self.links.leaves) else len(self.ties.places)
        return self.ties.places[node] if node < len(self.ties.places) else None

    def _place(self, slot: Slot, leaf: Leaf) -> Place:
        return Place(slot.param, slot.dim, leaf.layout.size, self._spelled(slot)[leaf], leaf.start, leaf.step)

    def _steps(self, path: Sequence[tuple[State, int]]) -> tuple[Step, ...]:
        """The causes on a path, each once where it comes several times in a row."""
        causes = [cause for i, (_, cause) in enumerate(path) if not i or path[i - 1][1] != cause]
        found = (self.ties.causes[cause] for cause in causes)
        return tuple(Step(reason.op, reason.where, reason.text) for reason in found)
