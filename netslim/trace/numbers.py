"""Numbers that came from a tensor's size and remember their node, so that arithmetic on them is recorded."""

from __future__ import annotations

import operator
from collections.abc import Callable
from math import ceil, floor, trunc
from typing import Protocol, overload

import torch
from torch import Tensor
from torch.utils._pytree import tree_leaves

from netslim.ir.program import Function
from netslim.layouts.engine import Args, Kwargs, user_line


class Recorder(Protocol):
    """Who writes the arithmetic down: the tracer."""

    specialised: dict[str, None]
    numbers: dict[str, int | float]

    def number(self, fn: Function, operands: tuple[object, ...]) -> object:
        """The result of `fn`, as a traced number."""


class TracedInt(int):
    """An integer that came from a tensor's size, and remembers its node."""

    node: str
    tracer: Recorder


class TracedFloat(float):
    """A float computed from sizes."""

    node: str
    tracer: Recorder


TracedNumber = TracedInt | TracedFloat


@overload
def traced(value: int, node: str, tracer: Recorder) -> TracedInt: ...
@overload
def traced(value: float, node: str, tracer: Recorder) -> TracedNumber: ...
def traced(value: int | float, node: str, tracer: Recorder) -> TracedNumber:
    """The number that a node gives, which remembers it."""
    tracer.numbers[node] = value
    number: TracedNumber = TracedInt(value) if isinstance(value, int) else TracedFloat(value)
    number.node, number.tracer = node, tracer
    return number


def _arithmetic(op: Function, reflected: bool) -> Callable[..., object]:
    def method(self: TracedNumber, *others: object) -> object:
        operands = (*others, self) if reflected else (self, *others)
        if not all(isinstance(o, (int, float)) for o in others):
            return NotImplemented
        return self.tracer.number(op, operands)

    return method


def _comparison(base: type, name: str) -> Callable[..., object]:
    plain = getattr(base, name)

    def method(self: TracedNumber, *others: object) -> object:
        self.tracer.specialised.setdefault(user_line(), None)
        return plain(self, *others)

    return method


def _equip(cls: type, base: type) -> None:
    for name in "add sub mul truediv floordiv mod pow".split():
        setattr(cls, f"__{name}__", _arithmetic(getattr(operator, name), False))
        setattr(cls, f"__r{name}__", _arithmetic(getattr(operator, name), True))
    setattr(cls, "__neg__", _arithmetic(operator.neg, False))  # noqa: B010
    for name, fn in (("floor", floor), ("ceil", ceil), ("trunc", trunc)):
        setattr(cls, f"__{name}__", _arithmetic(fn, False))
    for name in "lt le gt ge eq ne bool".split():
        setattr(cls, f"__{name}__", _comparison(base, f"__{name}__"))
    setattr(cls, "__hash__", base.__hash__)  # noqa: B010


_equip(TracedInt, int)
_equip(TracedFloat, float)


@overload
def plain(value: Args) -> Args: ...
@overload
def plain(value: Kwargs) -> Kwargs: ...
@overload
def plain(value: object) -> object: ...
def plain(value: object) -> object:
    """`value` with traced numbers replaced by ordinary ones."""
    if isinstance(value, TracedInt):
        return int(int.__add__(value, 0))
    if isinstance(value, TracedFloat):
        return float.__add__(value, 0.0)
    if isinstance(value, (tuple, list)):
        items = [plain(v) for v in value]
        if type(value) in (tuple, torch.Size):
            return tuple(items)
        return items if type(value) is list else value
    if isinstance(value, dict):
        return {k: plain(v) for k, v in value.items()} if type(value) is dict else value
    if isinstance(value, slice):
        return slice(plain(value.start), plain(value.stop), plain(value.step))
    return value


def is_computed(value: object) -> bool:
    """Whether a tensor, or a number that came from one, is in `value`."""
    return any(isinstance(leaf, (TracedInt, TracedFloat, Tensor)) for leaf in tree_leaves(value))
