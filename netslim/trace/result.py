"""What the tracer has written down of a run, and what the values were."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

from torch import Tensor

from netslim.ir.program import Literal, Program
from netslim.layouts.axes import Layout


class Comparison(NamedTuple):
    """What Python has learnt of a size: the outcome of `target` on numbers, at a line, after the step `after`."""

    target: str
    operands: tuple[Literal, ...]
    outcome: bool
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
    specialised: tuple[str, ...] = ()  # lines whose branch depended on a size
    decided: tuple[tuple[str, str], ...] = ()  # values that Python has read: nodes or paths, with the lines
    made: frozenset[str] = frozenset()  # paths of lifted constants that forward itself has made
    dropped: Mapping[str, Tensor] = field(default_factory=dict)  # attributes that forward has replaced unread
