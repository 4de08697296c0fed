"""What the tracer has written down of a run, and what the values were."""

from __future__ import annotations

import functools
import itertools
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

import torch
from torch import Tensor

from netslim.ir.functions import without_unused
from netslim.ir.program import Leaf, Literal, Node, Program, Ref, Struct
from netslim.layouts.axes import Layout


class Comparison(NamedTuple):
    """What Python has learnt of a size: the outcome of `target` on numbers, at a line, after the step `after`."""

    target: str
    operands: tuple[Ref | int | float, ...]
    outcome: bool
    where: str
    after: str


class Read(NamedTuple):
    """Python was told a tensor's dtype, at a line, after the step `after`; node: the step that has it, if any."""

    node: str
    dtype: torch.dtype
    where: str
    after: str


@dataclass
class Trace:
    """A program and what is known about its values."""

    program: Program
    tensors: dict[str, object] = field(default_factory=dict)  # node name -> its traced value (tensors, containers)
    numbers: dict[str, int | float] = field(default_factory=dict)  # node name -> its traced number
    notes: dict[str, dict[str, Layout]] = field(default_factory=dict)  # node name -> what the rules noted
    constants: dict[str, Tensor] = field(default_factory=dict)  # lifted constants by path
    comparisons: tuple[Comparison, ...] = ()  # what Python has asked of sizes
    reads: tuple[Read, ...] = ()  # what Python has asked of dtypes
    specialised: tuple[str, ...] = ()  # lines whose branch depended on a size or a dtype
    decided: tuple[tuple[str, str], ...] = ()  # values that Python has read: nodes or paths, with the lines
    made: frozenset[str] = frozenset()  # paths of lifted constants that forward itself has made
    dropped: Mapping[str, Tensor] = field(default_factory=dict)  # what forward has replaced unread, by name
    left: Callable[[], None] | None = None  # puts tables of sizes there that forward has kept, if it has
    cached: frozenset[int] = frozenset()  # comparisons that only tell whether such a table is kept already

    @functools.cached_property
    def steps(self) -> list[Node]:
        """The nodes that are no numbers, and are used."""
        return [node for node in without_unused(self.program) if node.name not in self.numbers]

    @functools.cached_property
    def position(self) -> dict[str, int]:
        """By node: how many steps were taken when it was recorded; what a parameter is read for may come later."""
        names = {node.name for node in self.steps if node.op != "param"}
        counts = itertools.accumulate(node.name in names for node in self.program)
        return {"": 0} | {node.name: int(count) for node, count in zip(self.program, counts, strict=True)}

    @functools.cached_property
    def arguments(self) -> list[list[tuple[Path, Leaf]]]:
        """The leaves of the arguments of every step, with their paths."""
        return [list(flat((node.args, node.kwargs))) for node in self.steps]


Path = tuple[str | int, ...]
"""Where a leaf is among the arguments of a node."""


def flat(value: Literal, path: Path = ()) -> Iterator[tuple[Path, Leaf]]:
    """Every leaf of nested arguments with its path; kinds and keys of structures are leaves too."""
    if isinstance(value, (tuple, list)):
        for i, item in enumerate(value):
            yield from flat(item, (*path, i))
    elif isinstance(value, dict):
        for key, item in value.items():
            yield from flat(item, (*path, key))
    elif isinstance(value, slice):
        for key in ("start", "stop", "step"):
            yield from flat(getattr(value, key), (*path, key))
    elif isinstance(value, Struct):
        yield (*path, value.kind, *value.keys), None
        yield from flat(value.values, path)
    else:
        yield path, value
