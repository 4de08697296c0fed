"""What differs between a recording of a forward and those in other precisions, and what can stand for it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import torch

from netslim.ir.own import PRECISIONS
from netslim.trace.formulas import Number
from netslim.trace.recordings import Held, Place, number
from netslim.trace.result import Read, Trace, flat


@dataclass(frozen=True)
class Other:
    """A recording in another precision beside the base; where forward fails there, why."""

    held: Held | None = None
    reads: tuple[Read, ...] = ()
    asked: int = 0  # how often Python was told a dtype before the first step that differs
    failed: str = ""


@dataclass(frozen=True)
class Instead:
    """What stands for a literal: the dtype that Python was told of by a read, or an entry of a table by that."""

    read: Read
    table: Mapping[str, float] | None = None


@dataclass
class Differences:
    """refused: by precision, the line that decides; put: what stands at places."""

    refused: dict[str, str]
    put: dict[Place, Instead] = field(default_factory=dict)


def differences(base: Trace, held: Trace, others: Mapping[str, Other]) -> Differences:
    """What differs in the other recordings; held: the base with its formulas of sizes."""
    found = Differences({name: _line(base, other) for name, other in others.items() if _is_another(other)})
    places = list(_places(base, held))
    while True:  # what stands at a place has to do for every precision that is left
        kept = {name: other.held for name, other in others.items() if name not in found.refused and other.held}
        reads = {name: others[name].reads for name in kept}
        found.put = {}
        wrong: dict[str, str] = {}
        for place, leaf, is_free in places:
            there = {name: _there(other, place, leaf) for name, other in kept.items()}
            differ = [name for name, value in there.items() if value != leaf and not (value != value and leaf != leaf)]
            if differ:
                asked = asked_before(base, place[0])
                instead = _instead(base.reads[:asked], reads, leaf, there) if is_free else None
                found.put |= {place: instead} if instead else {}
                wrong |= {} if instead else dict.fromkeys(differ, base.reads[max(asked, 1) - 1].where)
        if not wrong:
            return found
        found.refused |= wrong


def _is_another(other: Other) -> bool:
    """Whether forward fails there, or takes other steps."""
    return other.held is None or other.held.differs is not None


def _line(base: Trace, other: Other) -> str:
    """Where Python was told the dtype before steps became others: the last time that it was in both recordings."""
    asked = 1 if other.held is None else min(other.asked, asked_before(base, other.held.alike))
    return base.reads[max(asked, 1) - 1].where


def _places(base: Trace, held: Trace) -> Iterator[tuple[Place, Number | torch.dtype, bool]]:
    """Every number and dtype among the arguments, and whether it is still a literal, which something may stand for."""
    now = {(node.name, path): leaf for node in held.program for path, leaf in flat((node.args, node.kwargs))}
    for i, (node, leaves) in enumerate(zip(base.steps, base.arguments, strict=True)):
        for path, leaf in leaves:
            value = leaf if isinstance(leaf, torch.dtype) else number(leaf, base)
            if value is not None:
                yield (i, path), value, isinstance(leaf, (float, torch.dtype)) and now.get((node.name, path)) is leaf


def _there(held: Held, place: Place, leaf: Number | torch.dtype) -> Number | torch.dtype:
    return held.dtypes.get(place, leaf) if isinstance(leaf, torch.dtype) else held.literals.get(place, leaf)


def _instead(
    reads: Sequence[Read], others: Mapping[str, Sequence[Read]], leaf: Number | torch.dtype,
    there: Mapping[str, Number | torch.dtype],
) -> Instead | None:  # fmt: skip
    """What a literal follows from, of what Python was told last; None where it follows from nothing."""
    for k in reversed(range(len(reads))):
        if not reads[k].node or any(k >= len(other) for other in others.values()):
            continue
        pairs = {reads[k].dtype: leaf}
        alike = all(pairs.setdefault(others[name][k].dtype, value) == value for name, value in there.items())
        if alike and isinstance(leaf, torch.dtype) and all(told == value for told, value in pairs.items()):
            return Instead(reads[k])
        if alike and all(isinstance(value, float) for value in pairs.values()):
            table = {name: value for name, dtype in PRECISIONS.items() if isinstance(value := pairs.get(dtype), float)}
            return Instead(reads[k], table)
    return None


def asked_before(traced: Trace, step: int) -> int:
    """How often Python was told a dtype before a step, by its place."""
    order = {node.name: i for i, node in enumerate(traced.program)} | {"": -1}
    end = order[traced.steps[step].name] if step < len(traced.steps) else len(order)
    return sum(order[read.after] < end for read in traced.reads)
