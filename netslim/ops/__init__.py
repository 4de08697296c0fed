"""Operator families. One family is one file: its rules, its slim modules, its sizes in a program, its examples.

RULES      ATen operator name (or name.overload, or library::name) -> rule: how layouts of operands and results are tied
FITS       program function name -> fit: which of its integers count channels
MODULES    leaf module class -> (slim class, shrink): how a module runs, and is rebuilt, at a smaller width
EXAMPLES   name -> function of a tensor factory: each is held to the law that slicing commutes with the operator

A family has all four, if only empty ones: `Family` in family.py says what they are.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TypeVar

import torch
from torch import nn

from netslim.layouts.engine import Operator, Rule
from netslim.ops import (
    conv,
    create,
    fourier,
    index,
    join,
    linalg,
    linear,
    norm,
    pointwise,
    pool,
    recurrent,
    reduce,
    shape,
    sync,
    vision,
)  # fmt: skip
from netslim.ops.family import Example, Family, Slim
from netslim.ops.fitting import Fit

FAMILIES: tuple[Family, ...] = (
    pointwise, conv, linear, linalg, norm, sync, pool, reduce, shape, join, index, create, recurrent, fourier, vision,
)  # fmt: skip


K = TypeVar("K")
V = TypeVar("V")


def _union(tables: Iterable[Mapping[K, V]]) -> dict[K, V]:
    merged: dict[K, V] = {}
    for entries in tables:
        twice = merged.keys() & entries.keys()
        if twice:
            raise AssertionError(f"{sorted(map(str, twice))} are defined in two families")
        merged.update(entries)
    return merged


def _operator(name: str) -> Operator:
    if "::" in name:
        return name  # of a library that may not be loaded
    packet, _, overload = name.partition(".")
    found = getattr(torch.ops.aten, packet)  # a misspelt name is an AttributeError at import
    return getattr(found, overload) if overload else found


_RULES = _union(family.RULES for family in FAMILIES)
RULES: dict[Operator, Rule] = {_operator(name): rule for name, rule in _RULES.items()}
FITS: dict[str, Fit] = _union(family.FITS for family in FAMILIES)
MODULES: dict[type[nn.Module], Slim] = _union(family.MODULES for family in FAMILIES)
EXAMPLES: dict[str, Example] = _union(family.EXAMPLES for family in FAMILIES)
