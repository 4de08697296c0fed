"""What `net.why` answers: parts of dimensions, chains of operators, and how they are written."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from netslim.ir.links import Leaf
from netslim.layouts.axes import Concat, Layout, Product

LINES = 24
"""Lines of chains about one name, shared by its parts, and at most so many of one part:"""
LINES_OF_PART = 8
_ALIKE, _MOST_INSIDE = 4, 12


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
    """Two places that keep the same channels, and the operators that lead from the first to the last.

    Without steps it is not known what ties them.
    """

    first: Place
    steps: tuple[Step, ...]
    last: Place

    def __str__(self) -> str:
        return f"{self.first} — {' → '.join((*_told(self.steps), str(self.last)))}"


@dataclass(frozen=True, slots=True)
class Part:
    """What a dimension, or a part of it, is: channels of a group, or frozen.

    group: its name, '' where it is frozen; ties: a chain to every other place of the group, the nearest first; more:
    places that were left out of them; reason, by, where: why it is frozen, the operator and the line; steps: the
    operators that lead there from here.
    """

    place: Place
    group: str = ""
    ties: tuple[Chain, ...] = ()
    more: int = 0
    reason: str = ""
    by: str = ""
    where: str = ""
    steps: tuple[Step, ...] = ()

    @property
    def stays(self) -> str:
        """That it is frozen, and why."""
        because = ", ".join(filter(None, (self.by, self.where)))
        return f"frozen: {self.reason}" + (f" ({because})" if because else "")

    def lines(self, most: int) -> Iterator[str]:
        """As text: a line, and one for each way to other places, `most` of them."""
        head = str(self.place) if self.place.part else f"{self.place} ({self.place.size})"
        if self.group:
            yield f"{head}: group {self.group}, " + ("tied to" if self.ties else "tied to nothing else")
            yield from _ways(self.ties, most, self.more, self.place.param)
        else:
            yield f"{head}: {self.stays}" + (f", reached by {' → '.join(map(str, self.steps))}" if self.steps else "")


def _ways(ties: Sequence[Chain], most: int, more: int, name: str) -> Iterator[str]:
    """The nearest ways to other places, a line each, and how many others there are."""
    shown = nearest(ties, most)
    ways: dict[tuple[Step, ...], list[Place]] = {}
    for chain in shown:
        ways.setdefault(chain.steps, []).append(chain.last)
    for steps, places in ways.items():
        yield f"    — {' → '.join((*_told(steps), _few(places, _ALIKE)))}"
    if more := len(ties) - len(shown) + more:
        yield f"    and {more} more; name one of them beside {name} to see what ties them"


def _told(steps: Sequence[Step]) -> Iterator[str]:
    return map(str, steps) if steps else iter(["by what is not known"])


def nearest(chains: Iterable[Chain], ways: int) -> tuple[Chain, ...]:
    """The first chains, until there are more than so many different ways among them."""
    found: list[Chain] = []
    met: set[tuple[Step, ...]] = set()
    for chain in chains:
        met.add(chain.steps)
        if len(met) > ways:
            break
        found.append(chain)
    return tuple(found)


def ways_each(parts: int) -> int:
    """How many ways of each part are told where a name has so many parts."""
    return max(1, min(LINES_OF_PART, LINES // max(1, parts)))


def _few(places: Sequence[Place], most: int) -> str:
    more = len(places) - most
    return ", ".join(map(str, places[:most])) + (f" and {more} more" if more > 0 else "")


@dataclass(frozen=True, slots=True)
class Why:
    """The answer to `net.why`. parts: what each dimension of one name is; chains: what ties two names together."""

    names: tuple[str, ...]
    parts: tuple[Part, ...]
    chains: tuple[Chain, ...] = ()

    def __str__(self) -> str:
        if len(self.names) == 1:
            several = len({part.place.param for part in self.parts}) > 1
            lines = self._together() if several else self._each()
            return "\n".join(lines) or f"{self.names[0]} has no channel dimension"
        if self.chains:
            return "\n".join(map(str, self.chains))
        told = "; ".join(f"{p.place} is " + (f"of group {p.group}" if p.group else "frozen") for p in self.parts)
        return f"{self.names[0]} and {self.names[1]} are not tied" + (f": {told}" if told else "")

    def _each(self) -> Iterator[str]:
        """The dimensions of one parameter."""
        most = ways_each(sum(bool(part.group) for part in self.parts))
        return (line for part in self.parts for line in part.lines(most))

    def _together(self) -> Iterator[str]:
        """A module: what of it is in each group, and what ties that to places elsewhere; then what is frozen."""
        found: dict[tuple[str, int], list[Part]] = {}
        for part in sorted(self.parts, key=lambda part: not part.group):
            found.setdefault((part.group or part.stays, part.place.size), []).append(part)
        most = ways_each(sum(bool(parts[0].group) for parts in found.values()))
        for (name, size), parts in found.items():
            inside = [part.place for part in parts]
            if not parts[0].group:
                yield f"{name}: {_few(inside, _MOST_INSIDE)}"
                continue
            outside = [chain for chain in parts[0].ties if chain.last not in inside]
            yield f"group {name} ({size}): {_few(inside, _MOST_INSIDE)}; tied to" + ("" if outside else " nothing else")
            yield from _ways(outside, most, 0, self.names[0])

    def to_data(self) -> dict[str, Any]:
        """The same as data, with the text."""
        return {"text": str(self)} | asdict(self)


@dataclass(frozen=True, slots=True)
class Role:
    """What a leaf counts: heads or groups, and how many these are; it may count several times as many."""

    name: str
    number: int

    def words(self, size: int) -> str:
        """'12 heads', or '3 × 12 heads'."""
        times, rest = divmod(size, self.number)
        several = times > 1 and not rest
        return f"{f'{times} × {self.number}' if several else size} {self.name}s"


def spelled(layout: Layout, roles: Mapping[Leaf, Role], start: int = 0, step: int = 1) -> Iterator[tuple[Leaf, str]]:
    """The leaves of a layout, in order, and how each is called: '' for the whole, '12 heads × [64 channels per head]'.

    roles: what single leaves count.
    """
    if isinstance(layout, Concat):
        inside = 0
        for part in layout.parts:
            span = f"[{inside}:{inside + part.size}]"
            for leaf, text in spelled(part, roles, start + inside * step, step):
                yield leaf, f"{span} {text}".rstrip()
            inside += part.size
    elif isinstance(layout, Product):
        left, factors = layout.size, []
        for factor in layout.factors:
            left //= factor.size
            factors.append(list(spelled(factor, roles, start, step * left)))
        words = _words([(f.size, [leaf for leaf, _ in each]) for f, each in zip(layout.factors, factors, strict=True)],
                       roles)  # fmt: skip
        for i, found in enumerate(factors):
            sizes = " × ".join(f"[{word}]" if j == i else word for j, word in enumerate(words))
            yield from ((leaf, f"{sizes} {text}".rstrip()) for leaf, text in found)
    else:
        yield Leaf(layout, start, step), ""


def _words(factors: list[tuple[int, list[Leaf]]], roles: Mapping[Leaf, Role]) -> list[str]:
    """Each factor's size, with what it counts where it is known: '12 heads', beside them '64 channels per head'."""
    known = [roles.get(leaves[0]) if len(leaves) == 1 else None for _, leaves in factors]
    role = next(filter(None, known), None)
    beside = f" channels per {role.name}" if role and len(factors) == 2 else ""
    sizes = [size for size, _ in factors]
    return [mine.words(size) if mine else f"{size}{beside}" for size, mine in zip(sizes, known, strict=True)]
