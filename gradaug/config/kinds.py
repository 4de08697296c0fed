"""What type a setting has, read from its annotation: a value is held to it before anybody asks for its range.

    kinds = of_fields(TrainConfig)
    kinds["lr"].read(1)                    # 1.0
    kinds["resolutions"].read([32, 28])    # (32, 28)
    kinds["epochs"].read(1.5)              # ValueError; kinds["epochs"].words is "a whole number"

Numbers of numpy and torch, and their arrays, are what ``tolist`` makes of them. What ``read`` returns is plain Python.
Nothing here imports torch.
"""

from __future__ import annotations

import functools
import numbers
import reprlib
import typing
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from types import NoneType, UnionType
from typing import Generic, TypeVar

Scalar = bool | int | float | str | None
Setting = Scalar | tuple[Scalar, ...]
"""The value of a setting."""
Written = Scalar | list[Scalar]
"""The same in a file, which has no tuples."""
JSON = Scalar | Sequence["JSON"] | Mapping[str, "JSON"]
"""What a result or a record holds, ready for :mod:`json`."""

T_co = TypeVar("T_co", covariant=True)

LARGEST = 2**63 - 1
"""Of whole numbers: what a tensor holds."""


@dataclass(frozen=True, slots=True)
class Kind(Generic[T_co]):
    """A type: the words that an error message says it with, and the reading of a value."""

    words: str
    """Completes "--lr must be ..."."""
    read: Callable[[object], T_co]
    """The value as plain Python; ValueError for one of another type."""


@functools.cache
def of_fields(cls: type) -> dict[str, Kind[Setting]]:
    """The kinds of a dataclass's fields, by name."""
    return {name: kind(hint) for name, hint in typing.get_type_hints(cls).items()}


def kind(hint: object) -> Kind[Setting]:
    """The kind that an annotation says: bool, int, float, str, a tuple of one of them, or any of these or None."""
    if isinstance(hint, UnionType):
        (inner,) = (kind(each) for each in typing.get_args(hint) if each is not NoneType)
        return Kind(inner.words, lambda value: None if value is None else inner.read(value))
    if typing.get_origin(hint) is tuple:
        return listed(_SINGLE[typing.get_args(hint)[0]])
    return _SINGLE[hint]


def listed(each: Kind[T_co]) -> Kind[tuple[T_co, ...]]:
    """Lists and tuples of one kind."""
    return Kind(f"a list of {each.words.removeprefix('a ')}s", lambda value: _listed(each.read, value))


def shown(value: object) -> str:
    """A value for a message: one line, cut short, whatever it is."""
    try:
        return " ".join(_SHORT.repr(value).split())
    except Exception:
        return f"a {type(value).__name__}"


def plain(value: object) -> object:
    """Scalars and arrays of numpy and torch as numbers and lists; anything else as it is."""
    try:
        return getattr(value, "tolist", lambda: value)()
    except Exception:  # it has no values
        return value


def _whole(value: object) -> int:
    value = plain(value)
    if isinstance(value, bool) or not isinstance(value, numbers.Integral) or not -LARGEST <= int(value) <= LARGEST:
        raise ValueError
    return int(value)


def _number(value: object) -> float:
    value = plain(value)
    if isinstance(value, bool) or not isinstance(value, numbers.Real):
        raise ValueError
    try:
        return float(value)
    except OverflowError as error:
        raise ValueError from error


def _truth(value: object) -> bool:
    value = plain(value)
    if not isinstance(value, bool):
        raise ValueError
    return value


def _text(value: object) -> str:
    value = plain(value)
    if not isinstance(value, str):
        raise ValueError
    return str.__str__(value)


def _listed(read: Callable[[object], T_co], value: object) -> tuple[T_co, ...]:
    value = plain(value)
    if not isinstance(value, (list, tuple)):
        raise ValueError
    return tuple(read(each) for each in value)


TRUTH = Kind("true or false", _truth)
WHOLE = Kind("a whole number", _whole)
NUMBER = Kind("a number", _number)
_SINGLE: dict[object, Kind[Scalar]] = {bool: TRUTH, int: WHOLE, float: NUMBER, str: Kind("a text", _text)}
_SHORT = reprlib.Repr()
_SHORT.maxlevel, _SHORT.maxstring, _SHORT.maxother = 2, 60, 60
