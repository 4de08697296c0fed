"""Numbers that came from a tensor's size and remember their node, so that arithmetic on them is recorded.

Python loses that memory in many places (`int`, `len`, `range`, numpy): what a program then holds is a number, and
`confirmation` finds out how it follows from the sizes. A comparison is told to the tracer with its outcome.
"""

from __future__ import annotations

import operator
from collections.abc import Callable
from math import ceil, floor, trunc
from typing import Any, Protocol, overload

import torch
from torch import Tensor
from torch.utils._pytree import tree_leaves

from netslim.ir.program import Function
from netslim.layouts.engine import Args, Kwargs


class Recorder(Protocol):
    """Who writes the arithmetic down: the tracer."""

    numbers: dict[str, int | float]

    def number(self, fn: Function, operands: tuple[object, ...]) -> object:
        """The result of `fn`, as a traced number while the tracer is at work."""

    def compared(self, fn: Function, operands: tuple[object, ...], outcome: object) -> None:
        """Note what Python has learnt of a number."""


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


def _both(reflected: bool) -> Callable[..., object]:
    def method(self: TracedNumber, other: object) -> object:
        if not isinstance(other, (int, float)):
            return NotImplemented
        return (other // self, other % self) if reflected else (self // other, self % other)

    return method


_plain_power = _arithmetic(operator.pow, False)


def _power(self: TracedNumber, exponent: Any, modulus: Any = None) -> object:
    """A power; one that is taken modulo a number is the remainder of the power, but for an inverse."""
    if modulus is None:
        return _plain_power(self, exponent)
    if not all(isinstance(o, int) for o in (self, exponent, modulus)) or exponent < 0:
        return pow(*(plain(o) for o in (self, exponent, modulus)))  # type: ignore[call-overload]
    return self**exponent % modulus


def _shift(name: str, by: Function) -> Callable[..., object]:
    """A shift by a plain number is a product or a quotient."""

    def method(self: TracedInt, count: int) -> object:
        if type(count) is not int or count < 0:
            return getattr(int, name)(plain(self), plain(count))
        return self.tracer.number(by, (self, 2**count))

    return method


def _rounded(self: TracedNumber, digits: int | None = None) -> object:
    return self.tracer.number(round, (self,) if digits is None else (self, digits))


def _comparison(base: type, name: str, fn: Function) -> Callable[..., object]:
    compare = getattr(base, name)

    def method(self: TracedNumber, *others: object) -> object:
        outcome = compare(self, *others)
        if outcome is not NotImplemented:
            self.tracer.compared(fn, (self, *others), outcome)
        return outcome

    return method


def _equip(cls: type, base: type) -> None:
    methods: dict[str, object] = {"__hash__": base.__hash__, "__round__": _rounded}
    for name in "add sub mul truediv floordiv mod pow".split():
        methods[f"__{name}__"] = _arithmetic(getattr(operator, name), False)
        methods[f"__r{name}__"] = _arithmetic(getattr(operator, name), True)
    methods["__pow__"] = _power
    for name in "neg pos abs".split():
        methods[f"__{name}__"] = _arithmetic(getattr(operator, name), False)
    for name, fn in (("floor", floor), ("ceil", ceil), ("trunc", trunc)):
        methods[f"__{name}__"] = _arithmetic(fn, False)
    for name in "lt le gt ge eq ne".split():
        methods[f"__{name}__"] = _comparison(base, f"__{name}__", getattr(operator, name))
    methods["__bool__"] = _comparison(base, "__bool__", operator.truth)
    methods |= {"__divmod__": _both(False), "__rdivmod__": _both(True)}
    if base is int:
        methods["__lshift__"] = _shift("__lshift__", operator.mul)
        methods["__rshift__"] = _shift("__rshift__", operator.floordiv)
    for name, method in methods.items():
        setattr(cls, name, method)


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
        return {plain(k): plain(v) for k, v in value.items()} if type(value) is dict else value
    if isinstance(value, slice):
        return slice(plain(value.start), plain(value.stop), plain(value.step))
    return value


def is_computed(value: object) -> bool:
    """Whether a tensor, or a number that came from one, is in `value`."""
    return any(isinstance(leaf, (TracedInt, TracedFloat, Tensor)) for leaf in tree_leaves(value))
