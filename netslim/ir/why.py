"""Why places keep the same channels, or all of theirs: chains of operators, found in a plan's ties."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from netslim.ir.plan import Plan
from netslim.ir.ties import Slot, Tie, digits
from netslim.layouts.axes import Const, Elastic, Layout, Reason
from netslim.layouts.binding import MEETS_FIXED

NEVER_USED = "never used by forward"
_SHOWN, _SHOWN_ALIKE = 8, 4
_MOST_STATES = 1 << 18
"""Places and channels that are looked at for one answer; a file may hold ties that lead nowhere."""


@dataclass(frozen=True, slots=True)
class Step:
    """One operator on the way, and file:line of the model's source; text: what a person asked for instead."""

    op: str
    where: str
    text: str = ""

    def __str__(self) -> str:
        return ", ".join(filter(None, (self.op or self.text, self.where.partition(" in ")[0])))


@dataclass(frozen=True, slots=True)
class Place:
    """Channels of one dimension of a parameter. part: which of them, '' for all; start, step: where they are."""

    param: str
    dim: int
    size: int
    part: str = ""
    start: int = 0
    step: int = 1

    def __str__(self) -> str:
        return f"{self.param} dim {self.dim}" + (f" {self.part}" if self.part else "")


@dataclass(frozen=True, slots=True)
class Chain:
    """Two places that keep the same channels, and the operators that lead from the first to the last."""

    first: Place
    steps: tuple[Step, ...]
    last: Place

    def __str__(self) -> str:
        return f"{self.first} — {' → '.join(map(str, (*self.steps, self.last)))}"


@dataclass(frozen=True, slots=True)
class Part:
    """What a dimension, or a part of it, is: channels of a group, or frozen.

    group: its name, '' where it is frozen; ties: a chain to every other place of the group, the nearest first; reason,
    by, where: why it is frozen, the operator and the line; steps: the operators that lead there from here.
    """

    place: Place
    group: str = ""
    ties: tuple[Chain, ...] = ()
    reason: str = ""
    by: str = ""
    where: str = ""
    steps: tuple[Step, ...] = ()

    def __str__(self) -> str:
        head = f"{self.place}: " if self.place.part else f"{self.place} ({self.place.size}): "
        if not self.group:
            because = ", ".join(filter(None, (self.by, self.where)))
            reached = f", reached by {' → '.join(map(str, self.steps))}" if self.steps else ""
            return f"{head}frozen: {self.reason}" + (f" ({because})" if because else "") + reached
        found: dict[tuple[Step, ...], list[str]] = {}
        for chain in self.ties:
            found.setdefault(chain.steps, []).append(str(chain.last))
        shown = [f"    — {' → '.join((*map(str, s), _few(o)))}" for s, o in list(found.items())[:_SHOWN]]
        more = sum(map(len, list(found.values())[_SHOWN:]))
        rest = (
            [f"    and {more} more; name one of them beside {self.place.param} to see what ties them"] if more else []
        )
        told = f"group {self.group}, tied to" if self.ties else f"group {self.group}, alone"
        return "\n".join((f"{head}{told}", *shown, *rest))


def _few(names: Sequence[str]) -> str:
    more = len(names) - _SHOWN_ALIKE
    return ", ".join(names[:_SHOWN_ALIKE]) + (f" and {more} more" if more > 0 else "")


@dataclass(frozen=True, slots=True)
class Why:
    """The answer to `net.why`. parts: what each dimension of one name is; chains: what ties two names together."""

    names: tuple[str, ...]
    parts: tuple[Part, ...]
    chains: tuple[Chain, ...] = ()

    def __str__(self) -> str:
        if len(self.names) == 1:
            return "\n".join(map(str, self.parts)) or f"{self.names[0]} has no channel dimension"
        if self.chains:
            return "\n".join(map(str, self.chains))
        told = "; ".join(f"{p.place} is " + (f"of group {p.group}" if p.group else "frozen") for p in self.parts)
        return f"{self.names[0]} and {self.names[1]} are not tied" + (f": {told}" if told else "")

    def to_data(self) -> dict[str, Any]:
        """The same as data, with the text."""
        return {"text": str(self)} | asdict(self)


def why(plan: Plan, name: str, slots: Sequence[Slot], group: str | None = None) -> Why:
    """What these dimensions are, and what ties them or froze them; only what is of `group` where one is named."""
    graph = _Graph(plan)
    parts = [part for slot in slots for part in graph.parts(slot)]
    return Why((name,), tuple(part for part in parts if group is None or part.group == group))


def between(plan: Plan, names: tuple[str, str], first: Sequence[Slot], last: Sequence[Slot]) -> Why:
    """The shortest chain between the dimensions of two names, for every group that has both."""
    graph = _Graph(plan)
    mine, theirs = ([part for slot in slots for part in graph.parts(slot)] for slots in (first, last))
    wanted = set(last)
    found: dict[str, Chain] = {}
    for part in mine:
        for chain in part.ties:
            known = found.get(part.group)
            if (chain.last.param, chain.last.dim) in wanted and (not known or len(chain.steps) < len(known.steps)):
                found[part.group] = chain
    return Why(names, (*mine, *theirs), tuple(found.values()))


def _last(leaf: Layout, start: int, step: int) -> int:
    """The index that stands for a leaf: its last channel, with the first of all others."""
    return start + (leaf.size - 1) * step


State = tuple[int, int]
"""A node, and one index of it. Parts are entered and left with it, so that a chain cannot come out at another part."""


class _Graph:
    """The ties of a plan, from every node."""

    def __init__(self, plan: Plan) -> None:
        self.plan, self.ties = plan, plan.ties
        self.numbers = {slot: i for i, slot in enumerate(self.ties.places)}
        self.near: dict[int, list[Tie]] = {}
        for tie in self.ties.ties:
            self.near.setdefault(tie.whole, []).append(tie)
            self.near.setdefault(tie.part, []).append(tie)
        self.slots: dict[str, tuple[Slot, ...]] = {group.name: group.slots for group in plan.groups}
        self.frozen = {slot: frozen for frozen in plan.frozen for slot in frozen.slots}

    def parts(self, slot: Slot) -> Iterator[Part]:
        """What a dimension is; nothing for kernels, which are no channels."""
        layout = self.plan.layouts[slot.param][slot.dim] if slot.param in self.plan.layouts else None
        frozen = self.frozen.get(slot)
        found = [] if layout is None else list(digits(layout))
        if not any(isinstance(leaf, Elastic) for leaf, *_ in found):
            if frozen is not None:
                reason = Reason(frozen.reason, frozen.op, frozen.where)
                yield self._stays(Place(slot.param, slot.dim, frozen.size), frozen.size - 1, reason)
            return
        for leaf, start, step, text in found:
            place = Place(slot.param, slot.dim, leaf.size, text, start, step)
            if isinstance(leaf, Elastic):
                yield Part(place, self.plan.groups[leaf.group].name, tuple(self._chains(place, leaf)))
            elif isinstance(leaf, Const) and leaf.size > 1:
                yield self._stays(place, _last(leaf, start, step), leaf.reason or Reason(MEETS_FIXED))

    def _stays(self, place: Place, at: int, reason: Reason) -> Part:
        steps: tuple[Step, ...] = ()
        if reason in self.ties.reasons and (place.param, place.dim) in self.numbers:
            end = len(self.ties.sizes) + self.ties.reasons.index(reason)
            start = (self.numbers[Slot(place.param, place.dim)], at)
            came = self._searched(start, end)
            if (end, 0) in came:
                steps = tuple(s for s in self._steps(came, (end, 0)) if (s.op, s.where) != (reason.op, reason.where))
        return Part(place, reason=reason.text, by=reason.op, where=reason.where, steps=steps)

    def _chains(self, place: Place, group: Elastic) -> Iterator[Chain]:
        """A chain to every other place of the group: the places, and the parts of them, that the ties lead to."""
        origin = (self.numbers.get(Slot(place.param, place.dim), -1), _last(group, place.start, place.step))
        came = self._searched(origin) if origin[0] >= 0 else {}
        told = {Slot(place.param, place.dim)}
        for state in came:
            if state != origin and state[0] < len(self.numbers):
                for other in self._members(self.ties.places[state[0]], group):
                    if _last(group, other.start, other.step) == state[1]:
                        told.add(Slot(other.param, other.dim))
                        yield Chain(place, self._steps(came, state), other)
        for slot in self.slots[self.plan.groups[group.group].name]:
            if slot not in told:
                yield from (Chain(place, (), other) for other in self._members(slot, group))

    def _members(self, slot: Slot, group: Elastic) -> Iterator[Place]:
        layout = self.plan.layouts[slot.param][slot.dim]
        for leaf, start, step, text in digits(layout):
            if leaf == group:
                yield Place(slot.param, slot.dim, leaf.size, text, start, step)

    def _searched(self, origin: State, end: int = -1) -> dict[State, tuple[State, int] | None]:
        """All states that are reached, in order, with the one before each and the cause that led from there."""
        came: dict[State, tuple[State, int] | None] = {origin: None}
        todo = [origin]
        for state in todo:
            for following, cause in self._moves(state, end):
                if following not in came:
                    came[following] = state, cause
                    todo.append(following)
            if len(came) > _MOST_STATES or (end, 0) in came:
                break
        return came

    def _moves(self, state: State, end: int) -> Iterator[tuple[State, int]]:
        node, i = state
        sizes = self.ties.sizes
        for tie in self.near.get(node, ()):
            if tie.part >= len(sizes):
                yield (tie.part, 0), tie.cause
                continue
            if tie.whole == node:
                inside = i // tie.step % sizes[tie.part] if tie.step else i - tie.start
                if 0 < inside < sizes[tie.part]:
                    yield (tie.part, inside), tie.cause
            if tie.part == node:
                step, alike = tie.step or 1, end < 0
                for outer in range(tie.outer if alike else 1):
                    for inner in range(tie.inner if alike else 1):
                        outside = tie.start + (outer * sizes[node] + i) * step + inner
                        if outside < sizes[tie.whole]:
                            yield (tie.whole, outside), tie.cause

    def _steps(self, came: dict[State, tuple[State, int] | None], state: State) -> tuple[Step, ...]:
        """The causes on the way to a state, each once where it comes several times in a row."""
        causes: list[int] = []
        while (before := came[state]) is not None:
            state, cause = before
            causes += [cause] if not causes or causes[-1] != cause else []
        found = (self.ties.causes[cause] for cause in reversed(causes))
        return tuple(Step(reason.op, reason.where, reason.text) for reason in found)
