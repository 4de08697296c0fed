"""Writes into a trace what further recordings have taught: formulas, refusals, and sizes that stay as they are."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple

from netslim.ir.own import REQUIRE
from netslim.ir.program import Literal, Node, Program, Ref, Struct, function
from netslim.trace.formulas import Apply, Feature, Formula
from netslim.trace.recordings import Place, shape_of
from netslim.trace.result import Comparison, Path, Trace


class Guard(NamedTuple):
    """A comparison whose outcome has to be the example's, and the numbers that it is of."""

    comparison: Comparison
    operands: tuple[Formula, ...]


@dataclass(frozen=True)
class Pin:
    """A dimension of an input that forward was followed at one size of; chosen: why, though it takes others."""

    name: str
    dim: int
    size: int
    why: str
    chosen: str = ""


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
        name = next(name for name in names if name not in self.base.tensors and name not in self.base.numbers)
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
        if not isinstance(value, Ref):
            return value
        return self.numbers[value.name] if value.name in self.numbers else self.base.numbers[value.name]

    def guard(self, guard: Guard) -> None:
        comparison = guard.comparison
        operands = tuple(self.formula(o, comparison.where) for o in guard.operands)
        held = self.call(comparison.target, operands, comparison.outcome, comparison.where)
        text = (
            f"these sizes take another way through forward at {comparison.where or 'a comparison of sizes'} than the "
            "example's, and this network was converted for that one; convert it with inputs like these."
        )
        self.call(REQUIRE, (held, comparison.outcome, text), None, comparison.where)

    def pin(self, pin: Pin) -> None:
        size = self.call("torch.Tensor.size", (Ref(pin.name), pin.dim), pin.size)
        held = self.call("operator.eq", (size, pin.size), True)
        self.call(REQUIRE, (held, True, pin.why), None)


def written(base: Trace, found: Mapping[Place, Formula], guards: Sequence[Guard], pins: Sequence[Pin]) -> Trace:
    """The base with its formulas, refusals and pins as steps."""
    if not (found or guards or pins):
        return base
    writer = _Writer(base)
    put: dict[str, dict[Path, Formula]] = {}
    for (i, path), formula in found.items():
        put.setdefault(base.steps[i].name, {})[path] = formula
    after: dict[str, list[Guard]] = {}
    for guard in guards:
        after.setdefault(guard.comparison.after, []).append(guard)
    inputs = [node.name for node in base.program.inputs]
    for node in base.program:
        given = {path: writer.formula(f, node.where) for path, f in put.get(node.name, {}).items()}
        args, kwargs = replaced((node.args, node.kwargs), given) if given else (node.args, node.kwargs)
        writer.nodes.append(replace(node, args=args, kwargs=kwargs))
        for pin in pins if inputs and node.name == inputs[-1] else ():
            writer.pin(pin)
        for guard in after.get(node.name, ()):
            writer.guard(guard)
    lines = dict.fromkeys(g.comparison.where for g in guards if g.comparison.where)
    lines |= dict.fromkeys(pin.chosen for pin in pins if pin.chosen)
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
