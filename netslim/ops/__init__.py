"""Operator families. One family is one file: its rules, its slim modules, its sizes in a program, its examples.

RULES      ATen operator name (or name.overload, or library::name) -> rule: how layouts of operands and results are tied
FITS       program function name -> fit: which of its integers count channels
MODULES    leaf module class -> (slim class, shrink): how a module runs, and is rebuilt, at a smaller width
EXAMPLES   name -> function of a tensor factory: each is held to the law that slicing commutes with the operator
"""

from __future__ import annotations

from typing import Any

import torch

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

FAMILIES = (
    pointwise, conv, linear, linalg, norm, sync, pool, reduce, shape, join, index, create, recurrent, fourier, vision,
)  # fmt: skip


def _union(table: str) -> dict[Any, Any]:
    merged: dict[Any, Any] = {}
    for family in FAMILIES:
        entries = getattr(family, table, {})
        twice = merged.keys() & entries.keys()
        if twice:
            raise AssertionError(f"{table}: {sorted(map(str, twice))} are defined in two families")
        merged |= entries
    return merged


def _operator(name: str) -> Any:
    if "::" in name:
        return name  # of a library that may not be loaded
    packet = torch.ops.aten
    for part in name.split("."):
        packet = getattr(packet, part)  # a misspelt name is an AttributeError at import
    return packet


RULES = {_operator(name): rule for name, rule in _union("RULES").items()}
FITS = _union("FITS")
MODULES = _union("MODULES")
EXAMPLES = _union("EXAMPLES")
