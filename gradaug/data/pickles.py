"""The pickles of CIFAR as data, by an interpreter that calls nothing but the few constructors below.

    content = plain(path.read_bytes())      # {"data": Array(...), "labels": [6, 9, ...], ...}
    pixels = content["data"].numpy()

A pickle is a program for a stack. Its instructions are decoded by :mod:`pickletools`; carried out are those that make
numbers, texts, lists, tuples, dictionaries and numpy's arrays of numbers, and not a line of numpy runs before their
parts have been checked. Anything else is a ValueError.
"""

from __future__ import annotations

import math
import pickletools
import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeVar

import numpy as np

MOST_DIMENSIONS = 8
K = TypeVar("K")


@dataclass
class Type:
    """A numpy dtype as its pickle has it."""

    code: str
    order: str = "|"

    def build(self, state: tuple[object, ...]) -> None:
        self.order = _text(state[1])


@dataclass
class Array:
    """A numpy array as its pickle has it."""

    shape: object = None
    type: object = None
    columns_first: object = False
    data: object = None

    def build(self, state: tuple[object, ...]) -> None:
        _, self.shape, self.type, self.columns_first, self.data = state

    def numpy(self) -> np.ndarray:
        """The array; ValueError unless its parts fit together."""
        if not isinstance(self.type, Type) or not re.fullmatch("[<>=|][iu][1248]", self.type.order + self.type.code):
            raise ValueError("an array of something else than whole numbers")
        if not isinstance(self.shape, tuple) or len(self.shape) > MOST_DIMENSIONS or not all(map(_is_size, self.shape)):
            raise ValueError("an array without a shape")
        data, dtype = _bytes(self.data), np.dtype(self.type.order.replace("|", "=") + self.type.code)
        if len(data) != math.prod(self.shape) * dtype.itemsize:
            raise ValueError("an array whose data does not have its size")
        return np.frombuffer(data, dtype).reshape(self.shape, order="F" if self.columns_first else "C")


def plain(pickled: bytes) -> object:
    """The value that a pickle holds. ValueError says what it does instead."""
    machine = _Machine()
    try:
        for instruction, argument, _ in pickletools.genops(pickled):
            machine.carry_out(instruction.name, argument)
        return machine.pop()
    except (ArithmeticError, AttributeError, LookupError, TypeError) as error:
        raise ValueError(f"it is no pickle ({type(error).__name__})") from error


@dataclass(frozen=True)
class _Name:
    """Something that the pickle names, to be called."""

    name: str


class _Machine:
    def __init__(self) -> None:
        self.stack: list[object] = []
        self.outer: list[list[object]] = []
        self.memo: dict[object, object] = {}

    def push(self, value: object) -> None:
        self.stack.append(value)

    def pop(self) -> object:
        return self.stack.pop()

    def since_mark(self) -> list[object]:
        items, self.stack = self.stack, self.outer.pop()
        return items

    def carry_out(self, name: str, argument: object) -> None:
        if name in _VALUES:
            self.push(argument)
        elif name in _ACTIONS:
            _ACTIONS[name](self, argument)
        else:
            raise ValueError(f"it has the instruction {name}")

    def mark(self, _: object) -> None:
        self.outer.append(self.stack)
        self.stack = []

    def append(self, _: object) -> None:
        value = self.pop()
        _exactly(list, self.stack[-1]).append(value)

    def extend(self, _: object) -> None:
        values = self.since_mark()
        _exactly(list, self.stack[-1]).extend(values)

    def set_item(self, _: object) -> None:
        value, key = self.pop(), self.pop()
        _exactly(dict, self.stack[-1]).update(_pairs([key, value]))

    def set_items(self, _: object) -> None:
        items = self.since_mark()
        _exactly(dict, self.stack[-1]).update(_pairs(items))

    def put(self, index: object) -> None:
        self.memo[index] = self.stack[-1]

    def refer(self, dotted: object) -> None:
        module, _, name = _text(dotted).partition(" ")
        self.push(_named(module, name))

    def refer_to_stack(self, _: object) -> None:
        name, module = self.pop(), self.pop()
        self.push(_named(module, name))

    def call(self, _: object) -> None:
        arguments, what = _exactly(tuple, self.pop()), _exactly(_Name, self.pop())
        self.push(_CALLS[what.name](*arguments))

    def build(self, _: object) -> None:
        state, what = _exactly(tuple, self.pop()), self.stack[-1]
        if not isinstance(what, (Array, Type)):
            raise ValueError("it sets the state of something else than an array")
        what.build(state)


_VALUES = frozenset(
    "INT LONG LONG1 LONG4 BININT BININT1 BININT2 FLOAT BINFLOAT STRING BINSTRING SHORT_BINSTRING UNICODE BINUNICODE "
    "SHORT_BINUNICODE BINUNICODE8 BINBYTES SHORT_BINBYTES BINBYTES8 BYTEARRAY8".split()
)
"""Instructions that push their argument."""
_ACTIONS: dict[str, Callable[[_Machine, object], object]] = {
    "PROTO": lambda _machine, _: None,
    "FRAME": lambda _machine, _: None,
    "STOP": lambda _machine, _: None,
    "NONE": lambda machine, _: machine.push(None),
    "NEWTRUE": lambda machine, _: machine.push(True),
    "NEWFALSE": lambda machine, _: machine.push(False),
    "EMPTY_LIST": lambda machine, _: machine.push([]),
    "EMPTY_DICT": lambda machine, _: machine.push({}),
    "EMPTY_TUPLE": lambda machine, _: machine.push(()),
    "MARK": _Machine.mark,
    "LIST": lambda machine, _: machine.push(machine.since_mark()),
    "DICT": lambda machine, _: machine.push(_pairs(machine.since_mark())),
    "TUPLE": lambda machine, _: machine.push(tuple(machine.since_mark())),
    "TUPLE1": lambda machine, _: machine.push((machine.pop(),)),
    "TUPLE2": lambda machine, _: machine.push((machine.pop(), machine.pop())[::-1]),
    "TUPLE3": lambda machine, _: machine.push((machine.pop(), machine.pop(), machine.pop())[::-1]),
    "APPEND": _Machine.append,
    "APPENDS": _Machine.extend,
    "SETITEM": _Machine.set_item,
    "SETITEMS": _Machine.set_items,
    "POP": lambda machine, _: machine.pop(),
    "PUT": _Machine.put,
    "BINPUT": _Machine.put,
    "LONG_BINPUT": _Machine.put,
    "MEMOIZE": lambda machine, _: machine.put(len(machine.memo)),
    "GET": lambda machine, index: machine.push(machine.memo[index]),
    "BINGET": lambda machine, index: machine.push(machine.memo[index]),
    "LONG_BINGET": lambda machine, index: machine.push(machine.memo[index]),
    "GLOBAL": _Machine.refer,
    "STACK_GLOBAL": _Machine.refer_to_stack,
    "REDUCE": _Machine.call,
    "BUILD": _Machine.build,
}
_CALLS: dict[str, Callable[..., object]] = {
    "_reconstruct": lambda _class, _shape, _code: Array(),
    "_frombuffer": lambda data, type_, shape, order: Array(shape, type_, order == "F", data),
    "scalar": lambda type_, data: Array((), type_, False, data),
    "dtype": lambda code, *_: Type(_text(code)),
    "encode": lambda text, _: _text(text).encode("latin-1"),
}
"""What stands for numpy's functions, and for that of Python's which makes bytes of a text."""
_MODULES = {
    "numpy": ("dtype", "ndarray"),
    "numpy.core.multiarray": ("_reconstruct", "scalar"),
    "numpy._core.multiarray": ("_reconstruct", "scalar"),
    "numpy.core.numeric": ("_frombuffer",),
    "numpy._core.numeric": ("_frombuffer",),
    "_codecs": ("encode",),
}


def _named(module: object, name: object) -> _Name:
    module, name = _text(module), _text(name)
    if name not in _MODULES.get(module, ()):
        raise ValueError(f"it would call {module[:50]}.{name[:50]}")
    return _Name(name)


def _exactly(kind: type[K], value: object) -> K:
    if not isinstance(value, kind) or type(value) is not kind:
        raise ValueError(f"it has a {type(value).__name__} where a {kind.__name__} belongs")
    return value


def _pairs(items: list[object]) -> dict[str, object]:
    return dict(zip(map(_text, items[::2]), items[1::2], strict=True))


def _text(value: object) -> str:
    """A text; Python 2 wrote its texts as bytes."""
    return value.decode("latin-1") if isinstance(value, bytes) else _exactly(str, value)


def _bytes(value: object) -> bytes | bytearray:
    """The data of an array; Python 2 wrote bytes as texts."""
    if isinstance(value, str):
        return value.encode("latin-1")
    if not isinstance(value, (bytes, bytearray)):
        raise ValueError("an array without data")
    return value


def _is_size(value: object) -> bool:
    return type(value) is int and value >= 0
