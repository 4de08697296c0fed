"""Holds a program to further recordings of its forward, at other sizes: what is written down is what forward does.

A recording at another size takes the same steps as the first, or forward takes other ones there. Where a number among
the arguments is another one, it is replaced by a formula of the sizes (`formulas`), confirmed at sizes that it was not
found with. A comparison of sizes whose outcome the recordings do not show to be irrelevant becomes a step that refuses
other outcomes. Nothing else that depends on a size can be in a program that passes.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from netslim.errors import TraceError
from netslim.ir.functions import COUNTS, without_unused
from netslim.ir.program import REQUIRE, Leaf, Literal, Node, Program, Ref, Struct, function
from netslim.trace.formulas import Apply, Feature, Formula, Number, formula
from netslim.trace.recordings import Held, Path, Place, against, flat, number, shape_of, steps
from netslim.trace.result import Comparison, Trace


def dropped(traced: Trace) -> Trace:
    """The trace without what nobody uses."""
    return replace(traced, program=Program(tuple(without_unused(traced.program))))


def confirmed(
    base: Trace, tried: Sequence[Trace], further: Callable[[], Iterator[Trace]], pins: Sequence[Pin], least: int = 0
) -> Trace:
    """The base with formulas and refusals, such that it is right wherever `tried` were recorded.

    further: more recordings, made where formulas have to be found, and at least so many. Raises TraceError with the
    line of what depends on sizes in a way that no formula gives, ConstantDiffers where a constant does.
    """
    held = [against(base, other) for other in tried]
    more, made = further(), 0
    while made < least or _wanting(base, held) or (made < _FEW and _guards(base, held, held)):
        other = next(more, None)
        if other is None:
            break
        held.append(against(base, other))
        made += 1
    kept = _agreeing(held)
    found = _formulas(base, kept)
    if found is None:
        kept = [h for h in kept if not h.flipped]
        found = _formulas(base, kept)
    if found is None:
        raise TraceError(_unexplained(base, kept))
    return dropped(_written(base, found, _guards(base, held, kept), pins))


_FEW = 3
"""How many more recordings are made where comparisons alone are open."""


@dataclass(frozen=True)
class Pin:
    """A dimension of an input that forward was followed at one size of."""

    name: str
    dim: int
    size: int
    why: str


# -------------------------------------------------------------------------------------------------------- formulas


def _places(base: Trace) -> Iterator[tuple[int, Node, Path, Leaf]]:
    """Every number among the arguments of the steps."""
    for i, node in enumerate(steps(base)):
        for path, leaf in flat((node.args, node.kwargs)):
            if number(leaf, base) is not None:
                yield i, node, path, leaf


def _wanting(base: Trace, held: Sequence[Held]) -> list[Place]:
    """The numbers that the base does not have right in every recording."""
    return [
        (i, path)
        for i, node, path, leaf in _places(base)
        if any((i, path) in h.literals and h.literals[i, path] != _here(leaf, base, h) for h in held)
    ]


def _here(leaf: Leaf, base: Trace, held: Held) -> Number | None:
    return held.numbers.get(leaf.name) if isinstance(leaf, Ref) else number(leaf, base)


def _agreeing(held: Sequence[Held]) -> list[Held]:
    """The recordings that take the base's steps. Raises TraceError where one does not and no comparison tells it."""
    for h in held:
        if h.differs is not None and not h.flipped:
            raise TraceError(
                f"forward takes other steps on other sizes{h.differs and f' at {h.differs}'}; "
                "netslim cannot write that down as one program."
            )
    return [h for h in held if h.differs is None]


def _formulas(base: Trace, held: Sequence[Held]) -> dict[Place, Formula] | None:
    """What stands for each number that the base has not right; None where one has no formula."""
    found: dict[Place, Formula] = {}
    wanting = set(_wanting(base, held))
    known: dict[tuple[Number, ...], Formula] = {}
    for i, node, path, leaf in _places(base) if wanting else ():
        if (i, path) not in wanting:
            continue
        here = number(leaf, base)
        assert here is not None
        values = (here, *(h.literals[i, path] for h in held))
        guess = formula(values, dict(_features(base, node, held)))
        if guess is None:
            return None
        found[i, path] = known.setdefault(values, guess)
    return found


def _features(base: Trace, node: Node, held: Sequence[Held]) -> Iterator[tuple[Feature, tuple[Number, ...]]]:
    """The sizes that are known before a step: of the inputs, those that forward has read, of what the step is given."""
    for entry in base.program.inputs:
        yield from _dims(base, entry.name, held)
    for earlier in itertools.takewhile(lambda n: n.name != node.name, base.program):
        if earlier.name in base.numbers and all(earlier.name in h.numbers for h in held):
            values = (base.numbers[earlier.name], *(h.numbers[earlier.name] for h in held))
            if not any(isinstance(v, bool) for v in values):
                yield Feature(earlier.name), values
    for name in dict.fromkeys(node.refs):
        yield from _dims(base, name, held)


def _dims(base: Trace, name: str, held: Sequence[Held]) -> Iterator[tuple[Feature, tuple[int, ...]]]:
    shape = shape_of(base.tensors.get(name))
    shapes = [h.shapes.get(name) for h in held]
    for dim, size in enumerate(shape or ()):
        if all(other is not None and len(other) == len(shape or ()) for other in shapes):
            yield Feature(name, dim), (size, *(other[dim] for other in shapes if other is not None))


def _unexplained(base: Trace, held: Sequence[Held]) -> str:
    wanting = set(_wanting(base, held))
    where = next((node.where for i, node, path, _ in _places(base) if (i, path) in wanting and node.where), "")
    return (
        f"forward computes a number from sizes{where and f' at {where}'} that netslim finds no formula for, "
        "and would be wrong on other sizes."
    )


# ---------------------------------------------------------------------------------------------------------- guards


def _guards(base: Trace, held: Sequence[Held], kept: Sequence[Held]) -> list[Comparison]:
    """The comparisons whose other outcome no recording has shown to be without consequence."""
    guards: dict[tuple[object, ...], Comparison] = {}
    fixed = _unvaried(base, held)
    for i, comparison in enumerate(base.comparisons):
        asked = [tuple(h.numbers.get(o.name) if isinstance(o, Ref) else o for o in comparison.operands) for h in held]
        here = tuple(base.numbers[o.name] if isinstance(o, Ref) else o for o in comparison.operands)
        shown = any(i in h.flipped for h in kept)
        settled = all(o.name in fixed for o in comparison.operands if isinstance(o, Ref))
        settled = settled or all(len(set(values)) == 1 < len(values) for values in asked)  # two reads of one size
        if not shown and not settled:
            guards.setdefault((comparison.target, comparison.outcome, here, *asked), comparison)
    return list(guards.values())


def _unvaried(base: Trace, held: Sequence[Held]) -> set[str]:
    """The numbers that come from sizes alone which are the same in every recording: of channels, of weights."""
    fixed: set[str] = set()
    for node in base.program if held else ():
        if node.name in base.numbers and node.target in COUNTS:
            if all(h.numbers.get(node.name) == base.numbers[node.name] for h in held):
                fixed.add(node.name)
        elif node.name in base.numbers and all(ref in fixed for ref in node.refs):
            fixed.add(node.name)
    return fixed


# --------------------------------------------------------------------------------------------------------- writing


@dataclass
class _Writer:
    """Adds steps to a trace."""

    base: Trace
    nodes: list[Node] = field(default_factory=list)
    numbers: dict[str, Any] = field(default_factory=dict)
    made: dict[Formula, Ref] = field(default_factory=dict)
    count: Iterator[int] = field(default_factory=itertools.count)

    def call(self, target: str, args: tuple[Literal, ...], value: object, where: str = "") -> Ref:
        names = (f"n_of_{i}" for i in self.count)
        taken = self.base.tensors.keys() | self.base.numbers.keys()
        name = next(name for name in names if name not in taken)
        self.nodes.append(Node(name, "call", target, args, where=where))
        if value is not None:
            self.numbers[name] = value
        return Ref(name)

    def formula(self, found: Formula, where: str) -> Literal:
        """The value of a formula, worked out here unless it was before."""
        if isinstance(found, Feature) and found.dim is None:
            return Ref(found.name)
        if not isinstance(found, (Feature, Apply)):
            return found
        if found not in self.made:
            if isinstance(found, Feature) and found.dim is not None:
                size = (shape_of(self.base.tensors[found.name]) or ())[found.dim]
                self.made[found] = self.call("torch.Tensor.size", (Ref(found.name), found.dim), size, where)
            elif isinstance(found, Apply):
                args = tuple(self.formula(arg, where) for arg in found.args)
                plain = [self.number(arg) for arg in args]
                self.made[found] = self.call(found.target, args, function(found.target)(*plain), where)
        return self.made[found]

    def number(self, value: Literal) -> Any:
        return {**self.base.numbers, **self.numbers}[value.name] if isinstance(value, Ref) else value

    def guard(self, comparison: Comparison) -> None:
        held = self.call(comparison.target, comparison.operands, comparison.outcome, comparison.where)
        text = (
            f"these sizes take another way through forward at {comparison.where or 'a comparison of sizes'} than the "
            "example's, and this network was converted for that one; convert it with inputs like these."
        )
        self.call(REQUIRE, (held, comparison.outcome, text), None, comparison.where)

    def pin(self, pin: Pin) -> None:
        size = self.call("torch.Tensor.size", (Ref(pin.name), pin.dim), pin.size)
        held = self.call("operator.eq", (size, pin.size), True)
        self.call(REQUIRE, (held, True, pin.why), None)


def _written(base: Trace, found: Mapping[Place, Formula], guards: Sequence[Comparison], pins: Sequence[Pin]) -> Trace:
    """The base with its formulas, refusals and pins as steps."""
    if not (found or guards or pins):
        return base
    writer = _Writer(base)
    index = {node.name: i for i, node in enumerate(steps(base))}
    after: dict[str, list[Comparison]] = {}
    for guard in guards:
        after.setdefault(guard.after, []).append(guard)
    inputs = [node.name for node in base.program.inputs]
    for node in base.program:
        i = index.get(node.name, -1)
        here = {path: f for (j, path), f in found.items() if j == i}
        given = {path: writer.formula(f, node.where) for path, f in here.items()}
        args, kwargs = replaced((node.args, node.kwargs), given) if given else (node.args, node.kwargs)
        writer.nodes.append(replace(node, args=args, kwargs=kwargs))
        for pin in pins if inputs and node.name == inputs[-1] else ():
            writer.pin(pin)
        for guard in after.get(node.name, ()):
            writer.guard(guard)
    lines = dict.fromkeys(g.where for g in guards if g.where)
    return replace(
        base,
        program=Program(tuple(writer.nodes)),
        numbers={**base.numbers, **writer.numbers},
        specialised=tuple(lines),
    )


def replaced(value: Any, given: Mapping[Path, Literal], path: Path = ()) -> Any:
    """Nested arguments with other leaves at some paths."""
    if path in given:
        return given[path]
    if isinstance(value, (tuple, list)):
        return type(value)([replaced(item, given, (*path, i)) for i, item in enumerate(value)])
    if isinstance(value, dict):
        return {key: replaced(item, given, (*path, key)) for key, item in value.items()}
    if isinstance(value, slice):
        return slice(*(replaced(getattr(value, key), given, (*path, key)) for key in ("start", "stop", "step")))
    if isinstance(value, Struct):
        return replace(value, values=replaced(value.values, given, path))
    return value
