"""Holds a program to further recordings of its forward, at other sizes: what is written down is what forward does.

A recording at another size takes the same steps as the first, or forward takes other ones there. Where a number among
the arguments is another one, it is replaced by a formula of the sizes (`formulas`), confirmed at sizes that it was not
found with. A comparison of sizes whose outcome the recordings do not show to be irrelevant becomes a step that refuses
other outcomes. Nothing else that depends on a size can be in a program that passes.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace

from netslim.errors import TraceError
from netslim.ir.functions import COUNTS, without_unused
from netslim.ir.program import Leaf, Node, Program, Ref
from netslim.trace.amending import Guard, Pin, written
from netslim.trace.formulas import Feature, Formula, Number, formula
from netslim.trace.recordings import Held, Place, against, number, shape_of
from netslim.trace.result import Path, Trace


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
    guards = _settled_guards(base, _guards(base, held, kept), kept)
    return written(base, found, guards, pins)


_FEW = 3
"""How many more recordings are made where comparisons alone are open."""


# -------------------------------------------------------------------------------------------------------- formulas


def _places(base: Trace) -> Iterator[tuple[int, Node, Path, Leaf]]:
    """Every number among the arguments of the steps."""
    for i, (node, leaves) in enumerate(zip(base.steps, base.arguments, strict=True)):
        for path, leaf in leaves:
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
    yield from _known(base, itertools.takewhile(lambda n: n.name != node.name, base.program), held)
    for name in dict.fromkeys(node.refs):
        yield from _dims(base, name, held)


def _known(base: Trace, before: Iterable[Node], held: Sequence[Held]) -> Iterator[tuple[Feature, tuple[Number, ...]]]:
    for entry in base.program.inputs:
        yield from _dims(base, entry.name, held)
    for earlier in before:
        if earlier.name in base.numbers and all(earlier.name in h.numbers for h in held):
            values = (base.numbers[earlier.name], *(h.numbers[earlier.name] for h in held))
            if not any(isinstance(v, bool) for v in values):
                yield Feature(earlier.name), values


def _dims(base: Trace, name: str, held: Sequence[Held]) -> Iterator[tuple[Feature, tuple[int, ...]]]:
    shape = shape_of(base.tensors.get(name))
    shapes = [h.shapes.get(name) for h in held]
    for dim, size in enumerate(shape or ()):
        if all(other is not None and len(other) == len(shape or ()) for other in shapes):
            yield Feature(name, dim), (size, *(other[dim] for other in shapes if other is not None))


def _unexplained(base: Trace, held: Sequence[Held]) -> str:
    wanting = set(_wanting(base, held))
    where = next((node.where for i, node, path, _ in _places(base) if (i, path) in wanting and node.where), "")
    return _no_formula(where)


def _no_formula(where: str) -> str:
    return (
        f"forward computes a number from sizes{where and f' at {where}'} that netslim finds no formula for, "
        "and would be wrong on other sizes."
    )


# ---------------------------------------------------------------------------------------------------------- guards


def _guards(base: Trace, held: Sequence[Held], kept: Sequence[Held]) -> list[int]:
    """The comparisons whose other outcome no recording has shown to be without consequence."""
    guards: dict[str, int] = {}
    fixed, classes = _unvaried(base, held), _classes(base)
    for i, comparison in enumerate(base.comparisons):
        here = tuple(number(o, base) for o in comparison.operands)
        asked = [h.asked.get(i, tuple(_here(o, base, h) for o in comparison.operands)) for h in held]
        of_constants = all(o.name in fixed for o in comparison.operands if isinstance(o, Ref))
        settled = of_constants and all(there == here for there in asked)
        settled = settled or _is_one_number(asked)
        settled = settled or i in base.cached  # both ways give the same
        if not settled and not any(i in h.flipped for h in kept):
            of = [f"n{classes[o.name]}" if isinstance(o, Ref) else o for o in comparison.operands]
            guards.setdefault(repr((comparison.target, comparison.outcome, of)), i)
    return list(guards.values())


def _is_one_number(asked: Sequence[tuple[Number | None, ...]]) -> bool:
    """Whether a comparison is of two reads of one size: equal in all recordings, with several values."""
    alike = all(len(there) > 1 and len(set(there)) == 1 and None not in there for there in asked)
    return alike and len(set(asked)) >= _SEVERAL


_SEVERAL = 3


def _classes(base: Trace) -> dict[str, int]:
    """Which numbers are one: those that the same function gives of the same numbers or sizes."""
    seen: dict[tuple[str, str], int] = {}
    found: dict[str, int] = {}
    for node in base.program:
        if node.name in base.numbers:
            of = repr([f"n{found[a.name]}" if isinstance(a, Ref) and a.name in found else a for a in node.args])
            found[node.name] = seen.setdefault((node.target, of), len(seen))
    return found


def _settled_guards(base: Trace, guards: Sequence[int], kept: Sequence[Held]) -> list[Guard]:
    """Refusals for comparisons, with formulas for numbers that are others elsewhere.

    Raises TraceError where there is none.
    """
    found: list[Guard] = []
    for i in guards:
        comparison, met = base.comparisons[i], [h for h in kept if i in h.asked]
        earlier = base.program.nodes[: _place(base, comparison.after)]
        operands: list[Formula] = []
        for k, leaf in enumerate(comparison.operands):
            there = [h.asked[i][k] for h in met]
            values = [number(leaf, base), *there]
            guess: Formula | None = Feature(leaf.name) if isinstance(leaf, Ref) else leaf
            if any(_here(leaf, base, h) != value for h, value in zip(met, there, strict=True)):
                whole = tuple(value for value in values if value is not None)
                guess = formula(whole, dict(_known(base, earlier, met))) if len(whole) == len(values) else None
            if guess is None:
                raise TraceError(_no_formula(comparison.where))
            operands.append(guess)
        found.append(Guard(comparison, tuple(operands)))
    return found


def _place(base: Trace, name: str) -> int:
    return next((i + 1 for i, node in enumerate(base.program) if node.name == name), 0)


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
