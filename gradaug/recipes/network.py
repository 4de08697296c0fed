"""The network of a recipe: data that says which constructor of which library to call, with which plain values.

A recipe is a file from anywhere, so by itself it may name torchvision's, timm's and gradaug's networks alone, without
weights. Any other source is code of somebody's choice: it runs where the person who starts the run names it too.
"""

from __future__ import annotations

import math
import re
import shlex
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from gradaug.config import kinds
from netslim.errors import InputError

KEYS = ("source", "input", "arguments")
LIBRARIES = re.compile(
    r"(torchvision|gradaug\.models):[A-Za-z][A-Za-z0-9_]*|timm:[A-Za-z][A-Za-z0-9_]*(\.(?!py$)[A-Za-z0-9_]+)?"
)
"""Sources that a recipe may name by itself: a name that the library lists, never a path or an attribute of one."""
READS_FILES = ("weights", "pretrained", "checkpoint", "cache")
"""How the arguments begin with which these libraries' constructors read files, or fetch them."""

LONGEST_TEXT, MOST_VALUES, LARGEST_NUMBER = 200, 200, 2**31
"""Of the arguments."""
MOST_SIDES, LARGEST_INPUT = 6, 2**26
"""Dimensions of one input, and its elements."""


@dataclass(frozen=True)
class Model:
    """What to convert: ``netslim convert SOURCE --arg ... --input-shape ...``."""

    source: str
    input: tuple[int, ...]
    arguments: dict[str, kinds.JSON] = field(default_factory=dict)

    def command(self) -> str:
        """The command that converts it."""
        arguments = [part for name, value in self.arguments.items() for part in ("--arg", f"{name}={value}")]
        shape = ",".join(map(str, self.input))
        return shlex.join(["netslim", "convert", self.source, *arguments, "--input-shape", shape])

    def require_allowed(self, named: Collection[str]) -> None:
        """InputError for a source that is neither a library's nor among those that the person has `named`."""
        if LIBRARIES.fullmatch(self.source):
            reads = next((name for name in self.arguments if name.startswith(READS_FILES)), None)
            if reads is not None:
                raise InputError(
                    f"the recipe's network has the argument {reads}, which reads or fetches files: a recipe's network "
                    "starts without weights; convert it yourself (netslim convert --weights) and give it with --model"
                )
        elif self.source not in named:
            raise InputError(
                f"the recipe's network is {self.source}, whose code would be run: by itself a recipe may name "
                "torchvision:NAME, timm:NAME and gradaug.models:NAME alone; if you trust that code, add "
                f"--allow-code {shlex.quote(self.source)}"
            )


def parsed(content: kinds.JSON) -> Model:
    """A recipe's ``model``; ValueError says what is wrong with it."""
    if not isinstance(content, Mapping) or not {"source", "input"} <= content.keys():
        raise ValueError("model needs source and input, such as [3, 32, 32]")
    unknown = [str(key) for key in content if key not in KEYS]
    if unknown:
        raise ValueError(f"model has the key {kinds.shown(unknown[0])}; it takes {', '.join(KEYS)}")
    return Model(_source(content["source"]), _input(content["input"]), _arguments(content.get("arguments")))


def _source(content: kinds.JSON) -> str:
    if not _is_text(content) or not content:
        raise ValueError(f"source must be a text such as torchvision:resnet50, not {kinds.shown(content)}")
    return str(content)


def _input(content: kinds.JSON) -> tuple[int, ...]:
    try:
        shape = kinds.listed(kinds.WHOLE).read(content)
    except ValueError:
        shape = ()
    if not 0 < len(shape) <= MOST_SIDES or min(shape) < 1 or math.prod(shape) > LARGEST_INPUT:
        raise ValueError(f"input must be the sizes of one input, such as [3, 32, 32], not {kinds.shown(content)}")
    return shape


def _arguments(content: kinds.JSON) -> dict[str, kinds.JSON]:
    if content is None:
        return {}
    if not isinstance(content, Mapping):
        raise ValueError(f"arguments are names with a value each, such as num_classes: 10, not {kinds.shown(content)}")
    for count, value in enumerate(_values(content)):
        if count == MOST_VALUES:
            raise ValueError(f"the arguments have more than {MOST_VALUES} values")
        if not _is_bounded(value):
            raise ValueError(f"{kinds.shown(value)} is no argument of a network: texts, numbers and lists of them are")
    return dict(content)


def _values(content: Sequence[kinds.JSON] | Mapping[str, kinds.JSON]) -> Iterator[kinds.JSON]:
    """Every value and every key in lists and mappings in each other."""
    inner: Sequence[kinds.JSON] = [*content, *content.values()] if isinstance(content, Mapping) else content
    for value in inner:
        if isinstance(value, (Mapping, list, tuple)):
            yield from _values(value)
        else:
            yield value


def _is_bounded(value: object) -> bool:
    if isinstance(value, (int, float)):
        return abs(value) <= LARGEST_NUMBER  # and not nan
    return value is None or _is_text(value)


def _is_text(value: object) -> bool:
    return isinstance(value, str) and len(value) <= LONGEST_TEXT and value.isprintable()
