"""A setting as a field of a frozen dataclass: its default, section, meaning and legal range, and the reading of it.

@dataclass(frozen=True)
class Mine:
    lr: float = setting(0.1, "Optimisation", "Peak learning rate.", ranges.POSITIVE)

read(Mine, "lr", 1, "--lr")     # 1.0
"""

from __future__ import annotations

import dataclasses
from typing import Any

from gradaug.config import kinds, ranges
from netslim.errors import InputError


def setting(
    default: object,
    section: str,
    meaning: str,
    legal: ranges.Range[Any] = ranges.ANYTHING,
    flag: str = "",
    runtime: bool = False,
) -> Any:
    """A field with its description. A `runtime` setting is about where to run, not what: a resume may change it."""
    described = {"section": section, "help": meaning, "range": legal, "flag": flag, "runtime": runtime}
    return dataclasses.field(default=default, metadata=described)


def read(cls: type, name: str, value: object, called: str) -> kinds.Setting:
    """One setting as its type in plain Python; InputError, in which it is `called` so, for another type or range."""
    (field,) = (field for field in dataclasses.fields(cls) if field.name == name)
    kind, legal = kinds.of_fields(cls)[name], field.metadata["range"]
    try:
        made = kind.read(value)
    except ValueError as error:
        words = kind.words if legal is ranges.ANYTHING else f"{kind.words} ({legal.words})"
        raise InputError(f"{called} must be {words}, not {kinds.shown(value)}") from error
    if made is not None and not legal.holds(made):
        raise InputError(f"{called} must be {legal.words}, not {kinds.shown(made)}")
    return made
