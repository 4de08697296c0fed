"""Numbers that came from a tensor's size and remember their node, so that arithmetic on them is recorded."""

from __future__ import annotations

import operator
from collections.abc import Callable
from math import ceil, floor, trunc
from typing import Any, Protocol

import torch

from netslim.layouts.engine import user_line


class Recorder(Protocol):
    """Who writes the arithmetic down: the tracer."""

    specialised: dict[str, None]

    def number(self, fn: Callable[..., Any], operands: tuple[Any, ...]) -> Any:
        """The result of `fn`, as a traced number."""


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


def _comparison(base: type, name: str) -> Callable[..., Any]:
    plain = getattr(base, name)

    def method(self: Any, *others: Any) -> Any:
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
