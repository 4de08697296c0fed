"""A setting that somebody gives to a Python object, held to the type and range that :class:`TrainConfig` gives it.

checked("alpha", 0.5)  # 0.5
checked("num_subnets", np.int64(4))  # 4
checked("num_subnets", 0)  # InputError: num_subnets must be at least 1, not 0

What it returns is plain Python, of whatever kind of number it was.
"""

from __future__ import annotations

from typing import Any, TypeVar

from gradaug.config import kinds
from gradaug.config import settings as config
from gradaug.config.ranges import RATIO
from netslim.errors import InputError

T = TypeVar("T")


def checked(name: str, value: object) -> Any:
    """`value` as plain Python; InputError unless the setting `name` of a run may have it."""
    return config.read(name, value, name)


def whole(name: str, value: object, least: int = 0) -> int:
    """`value` as a whole number; InputError for anything else, and for one below `least`."""
    found = _read(kinds.WHOLE, name, value, f"a whole number, at least {least}")
    if found < least:
        raise InputError(f"{name} must be a whole number, at least {least}, not {found}")
    return found


def ratio(name: str, value: object) -> float:
    """`value` as a float; InputError unless it is in (0, 1]."""
    found = _read(kinds.NUMBER, name, value, RATIO.words)
    if not RATIO.holds(found):
        raise InputError(f"{name} must be {RATIO.words}, not {found}")
    return found


def names(what: str, given: object) -> tuple[str, ...]:
    """Different names as a tuple; InputError for anything else: one name alone would be read letter by letter."""
    if not isinstance(given, (tuple, list)) or not all(isinstance(name, str) for name in given):
        raise InputError(f"{what} must be a list of names, not {given!r}")
    if len(set(given)) < len(given):
        raise InputError(f"{what} must be different names, not {given!r}")
    return tuple(given)


def truth(name: str, value: object) -> bool:
    """`value` if it is True or False; InputError for what would only count as one of them."""
    return _read(kinds.TRUTH, name, value, "true or false")


def share_or_count(name: str, value: object) -> float | int:
    """A whole number is a count of channels, any other number a ratio; InputError for anything else."""
    try:
        return whole(name, kinds.WHOLE.read(value), 1)
    except ValueError:
        return ratio(name, value)


def _read(kind: kinds.Kind[T], name: str, value: object, words: str) -> T:
    try:
        return kind.read(value)
    except ValueError as error:
        raise InputError(f"{name} must be {words}, not {kinds.shown(value)}") from error


def function(name: str, value: T, needed: bool = False) -> T:
    """`value`; InputError unless it can be called, or is None where it is not `needed`."""
    if not callable(value) and (needed or value is not None):
        raise InputError(f"{name} must be a function{'' if needed else ' or None'}, not {value!r}")
    return value
