"""Numbers that came from a tensor's size and remember their node, so that arithmetic on them is recorded.

Python loses that memory in many places (`int`, `len`, `range`, numpy): what a program then holds is a number, and
`recordings` finds out how it follows from the sizes. A comparison is told to the tracer with its outcome.
"""

from __future__ import annotations

import operator
from collections.abc import Callable
from math import ceil, floor, trunc
from typing import Any, Protocol

import torch


class Recorder(Protocol):
    """Who writes the arithmetic down: the tracer."""

    def number(self, fn: Callable[..., Any], operands: tuple[Any, ...]) -> Any:
        """The result of `fn`, as a traced number while the tracer is at work."""

    def compared(self, fn: Callable[..., Any], operands: tuple[Any, ...], outcome: bool) -> None:
        """Note what Python has learnt of a number."""


class TracedInt(int):
    """An integer that came from a tensor's size, and remembers its node."""

    node: str
    tracer: Recorder


class TracedFloat(float):
    """A float computed from sizes."""

    node: str
    tracer: Recorder


def _arithmetic(op: Callable[..., Any], reflected: bool) -> Callable[..., Any]:
    def method(self: Any, *others: Any) -> Any:
        operands = (*others, self) if reflected else (self, *others)
        if not all(isinstance(o, (int, float)) for o in others):
            return NotImplemented
        return self.tracer.number(op, operands)

    return method


def _both(reflected: bool) -> Callable[..., Any]:
    def method(self: Any, other: Any) -> Any:
        a, b = (other, self) if reflected else (self, other)
        return (a // b, a % b) if isinstance(other, (int, float)) else NotImplemented

    return method


def _shift(base: type, name: str, by: Callable[..., Any]) -> Callable[..., Any]:
    """A shift by a plain number is a product or a quotient."""
    shifted = getattr(base, name, None)

    def method(self: Any, count: Any) -> Any:
        if isinstance(count, (TracedInt, TracedFloat)) or not isinstance(count, int) or count < 0:
            return shifted(plain(self), plain(count)) if shifted else NotImplemented
        return self.tracer.number(by, (self, 2**count))

    return method


def _rounded(self: Any, digits: int | None = None) -> Any:
    return self.tracer.number(round, (self,) if digits is None else (self, digits))


def _comparison(base: type, name: str, fn: Callable[..., Any]) -> Callable[..., Any]:
    compare = getattr(base, name)

    def method(self: Any, *others: Any) -> Any:
        outcome = compare(self, *others)
        if outcome is not NotImplemented:
            self.tracer.compared(fn, (self, *others), outcome)
        return outcome

    return method


def _equip(cls: type, base: type) -> None:
    methods: dict[str, Callable[..., Any]] = {"__hash__": base.__hash__, "__round__": _rounded}
    for name in "add sub mul truediv floordiv mod pow".split():
        methods[f"__{name}__"] = _arithmetic(getattr(operator, name), False)
        methods[f"__r{name}__"] = _arithmetic(getattr(operator, name), True)
    for name in "neg pos abs".split():
        methods[f"__{name}__"] = _arithmetic(getattr(operator, name), False)
    for name, fn in (("floor", floor), ("ceil", ceil), ("trunc", trunc)):
        methods[f"__{name}__"] = _arithmetic(fn, False)
    methods |= {"__divmod__": _both(False), "__rdivmod__": _both(True)}
    if base is int:
        methods["__lshift__"] = _shift(base, "__lshift__", operator.mul)
        methods["__rshift__"] = _shift(base, "__rshift__", operator.floordiv)
    for name in "lt le gt ge eq ne".split():
        methods[f"__{name}__"] = _comparison(base, f"__{name}__", getattr(operator, name))
    methods["__bool__"] = _comparison(base, "__bool__", operator.truth)
    for name, method in methods.items():
        setattr(cls, name, method)


_equip(TracedInt, int)
_equip(TracedFloat, float)


def plain(value: Any) -> Any:
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
