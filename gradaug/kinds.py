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
from collections.abc import Callable
from dataclasses import dataclass
from types import NoneType, UnionType
from typing import Any

LARGEST = 2**63 - 1
"""Of whole numbers: what a tensor holds."""


@dataclass(frozen=True, slots=True)
class Kind:
    """A type: the words that an error message says it with, and the reading of a value."""

    words: str
    """Completes "--lr must be ..."."""
    read: Callable[[Any], Any]
    """The value as plain Python; ValueError for one of another type."""


@functools.cache
def of_fields(cls: type) -> dict[str, Kind]:
    """The kinds of a dataclass's fields, by name."""
    return {name: kind(hint) for name, hint in typing.get_type_hints(cls).items()}


def kind(hint: Any) -> Kind:
    """The kind that an annotation says: bool, int, float, str, a tuple of one of them, or any of these or None."""
    if isinstance(hint, UnionType):
        (inner,) = (kind(each) for each in typing.get_args(hint) if each is not NoneType)
        return Kind(inner.words, lambda value: None if value is None else inner.read(value))
    if typing.get_origin(hint) is tuple:
        each = _SINGLE[typing.get_args(hint)[0]]
        return Kind(f"a list of {each.words.removeprefix('a ')}s", functools.partial(_listed, each.read))
    return _SINGLE[hint]


def shown(value: Any) -> str:
    """A value for a message: one line, cut short, whatever it is."""
    try:
        return " ".join(_SHORT.repr(value).split())
    except Exception:
        return f"a {type(value).__name__}"


def plain(value: Any) -> Any:
    """Scalars and arrays of numpy and torch as numbers and lists; anything else as it is."""
    try:
        return value.tolist()
    except Exception:  # it has no such method, or no values
        return value


def _whole(value: Any) -> int:
    value = plain(value)
    if isinstance(value, bool) or not isinstance(value, numbers.Integral) or not -LARGEST <= int(value) <= LARGEST:
        raise ValueError
    return int(value)


def _number(value: Any) -> float:
    value = plain(value)
    if isinstance(value, bool) or not isinstance(value, numbers.Real):
        raise ValueError
    try:
        return float(value)
    except OverflowError as error:
        raise ValueError from error


def _truth(value: Any) -> bool:
    value = plain(value)
    if not isinstance(value, bool):
        raise ValueError
    return value


def _text(value: Any) -> str:
    value = plain(value)
    if not isinstance(value, str):
        raise ValueError
    return str.__str__(value)


def _listed(read: Callable[[Any], Any], value: Any) -> tuple[Any, ...]:
    value = plain(value)
    if not isinstance(value, (list, tuple)):
        raise ValueError
    return tuple(read(each) for each in value)


_SINGLE = {
    bool: Kind("true or false", _truth),
    int: Kind("a whole number", _whole),
    float: Kind("a number", _number),
    str: Kind("a text", _text),
}
_SHORT = reprlib.Repr()
_SHORT.maxlevel, _SHORT.maxstring, _SHORT.maxother = 2, 60, 60
