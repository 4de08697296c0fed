"""The legal range of a setting: a test and the words that an error message says it with.

A range is asked about values of the setting's own type alone; the type is the business of :mod:`gradaug.config.kinds`.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

T = TypeVar("T")
T_contra = TypeVar("T_contra", contravariant=True)


@dataclass(frozen=True, slots=True)
class Range(Generic[T_contra]):
    """What a setting may be; None is always allowed where the setting's type has it."""

    words: str
    """Completes "--lr must be ..."."""
    holds: Callable[[T_contra], bool]


def one_of(*names: str) -> Range[str]:
    return Range(f"one of {', '.join(names)}", lambda value: value in names)


def some_of(*names: str) -> Range[Sequence[str]]:
    """A list of different names."""
    return Range(
        f"a list of {', '.join(names)}", lambda value: all(v in names for v in value) and len(set(value)) == len(value)
    )


def at_least(least: int, noun: str = "") -> Range[float]:
    return Range(f"at least {least}{noun and ' ' + noun}", lambda value: value >= least)


def each(words: str, holds: Callable[[T], bool]) -> Range[Sequence[T]]:
    """A list with at least one value, each of which passes."""

    def every(values: Sequence[T]) -> bool:
        return len(values) > 0 and all(map(holds, values))

    return Range(words, every)


ANYTHING: Range[object] = Range("anything", lambda _: True)
COUNT = at_least(1)
NATURAL: Range[float] = Range("zero or a positive integer", lambda value: value >= 0)
POSITIVE: Range[float] = Range("a positive number", lambda value: 0 < value < math.inf)
NON_NEGATIVE: Range[float] = Range("zero or a positive number", lambda value: 0 <= value < math.inf)
RATIO: Range[float] = Range("in (0, 1]", lambda value: 0 < value <= 1)
SHARE: Range[float] = Range("in [0, 1]", lambda value: 0 <= value <= 1)
BELOW_ONE: Range[float] = Range("in [0, 1)", lambda value: 0 <= value < 1)
