"""A setting that somebody gives to a Python object, held to the type and range that :class:`TrainConfig` gives it.

checked("alpha", 0.5)  # 0.5
checked("num_subnets", np.int64(4))  # 4
checked("num_subnets", 0)  # InputError: num_subnets must be at least 1, not 0

What it returns is plain Python, of whatever kind of number it was.
"""

from __future__ import annotations

import numbers
from collections.abc import Callable
from typing import Any

from gradaug import ranges
from gradaug.config import TrainConfig
from gradaug.ranges import RATIO
from netslim.errors import InputError


def checked(name: str, value: Any) -> Any:
    """`value` as plain Python; InputError unless the setting `name` of a run may have it."""
    field = TrainConfig.__dataclass_fields__[name]
    kind, legal = str(field.type).removesuffix(" | None"), field.metadata["range"]
    if value is None and kind != field.type:
        return None
    inner = kind.removeprefix("tuple[").removesuffix(", ...]")
    words, read = KINDS[inner]
    plain = _plain(value)
    if inner == kind:
        fits = read(plain)
    else:
        words, fits = f"a list, each of it {words}", isinstance(plain, (list, tuple)) and all(map(read, plain))
    if not fits:
        raise InputError(f"{name} must be {words if legal is ranges.ANYTHING else legal.words}, not {value!r}")
    plain = tuple(plain) if inner != kind else float(plain) if kind == "float" else plain
    if not legal.holds(plain) and plain != ():
        raise InputError(f"{name} must be {legal.words}, not {value!r}")
    return plain


def whole(name: str, value: Any, least: int = 0) -> int:
    """`value` as a whole number; InputError for anything else, and for one below `least`."""
    plain = _plain(value)
    if not _is_whole(plain) or plain < least:
        raise InputError(f"{name} must be a whole number, at least {least}, not {value!r}")
    return int(plain)


def ratio(name: str, value: Any) -> float:
    """`value` as a float; InputError unless it is in (0, 1]."""
    plain = _plain(value)
    if not _is_number(plain) or not RATIO.holds(plain):
        raise InputError(f"{name} must be {RATIO.words}, not {value!r}")
    return float(plain)


def truth(name: str, value: Any) -> bool:
    """`value` if it is True or False; InputError for what would only count as one of them."""
    if not isinstance(value, bool):
        raise InputError(f"{name} must be true or false, not {value!r}")
    return value


def share_or_count(name: str, value: Any) -> float | int:
    """A whole number is a count of channels, any other number a ratio; InputError for anything else."""
    return whole(name, value, 1) if _is_whole(_plain(value)) else ratio(name, value)


def _plain(value: Any) -> Any:
    """Numbers of numpy and torch as Python's, their arrays as lists; anything else as it is."""
    return value.tolist() if callable(getattr(value, "tolist", None)) else value


def _is_whole(value: Any) -> bool:
    return isinstance(value, numbers.Integral) and not isinstance(value, bool)


def _is_number(value: Any) -> bool:
    return isinstance(value, numbers.Real) and not isinstance(value, bool)


KINDS: dict[str, tuple[str, Callable[[Any], bool]]] = {
    "bool": ("true or false", lambda value: isinstance(value, bool)),
    "int": ("a whole number", _is_whole),
    "float": ("a number", _is_number),
    "str": ("a text", lambda value: isinstance(value, str)),
}
"""By annotation: the words of a message, and whether a value is of that type."""
