"""What a person may decide about the analysis: dimensions to freeze, dimensions to tie, rules for operators."""

from __future__ import annotations

import fnmatch
import functools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from netslim.errors import InputError, did_you_mean
from netslim.layouts.axes import Reason
from netslim.layouts.engine import Engine, Operator, Rule
from netslim.layouts.ties import freeze, unify
from netslim.ops import RULES


@dataclass(frozen=True)
class Overrides:
    """freeze: names of layers, parameters or groups, with wildcards; tie: pairs of names that keep equal channels.

    rules: operator -> rule, before netslim's own. An operator is named 'library::name', or is the torch.ops object.
    fixed_size: a forward that takes other steps on other sizes is followed for the example's alone.
    """

    freeze: Sequence[str] = ()
    tie: Sequence[tuple[str, str]] = ()
    rules: Mapping[Operator, Rule] = field(default_factory=dict)
    fixed_size: bool = False

    @property
    def all_rules(self) -> dict[Operator, Rule]:
        """netslim's rules, with these before them."""
        return RULES | {_operator(name): rule for name, rule in self.rules.items()}


def _operator(name: Operator) -> Operator:
    if not isinstance(name, str):
        return name
    library, found, rest = name.partition("::")
    if not found:
        raise InputError(f"a rule is for {name!r}, which is no operator; name it as 'aten::cumsum' or 'mylib::op'.")
    packet = getattr(torch.ops.aten, rest, None) if library == "aten" else name
    if packet is None:
        raise InputError(f"a rule is for {name!r}, and torch has no such operator.")
    return packet


def apply(overrides: Overrides, engine: Engine, tensors: Mapping[str, Tensor]) -> None:
    """Freeze and tie, after the run and before the axes are solved. Raises InputError for names that fit nothing."""
    for pattern in overrides.freeze:
        because = Reason(f"frozen on request ({pattern})")
        for tensor, dims in _matching(pattern, tensors):
            for dim in dims:
                freeze(engine.dims(tensor)[dim], functools.partial(_same, because))
    for first, second in overrides.tie:
        (a, i), (b, j) = _dimension(first, tensors), _dimension(second, tensors)
        ours, theirs = engine.dims(a)[i], engine.dims(b)[j]
        if ours.size != theirs.size:
            raise InputError(f"{first} has {ours.size} channels and {second} has {theirs.size}: they cannot be tied.")
        unify(ours, theirs, functools.partial(_same, Reason(f"tied on request ({first}, {second})")))


def _same(reason: Reason) -> Reason:
    return reason


def _matching(pattern: str, tensors: Mapping[str, Tensor]) -> list[tuple[Tensor, list[int]]]:
    """Whole tensors below a layer or of a name; one dimension where a group is named."""
    whole = [
        tensor
        for name, tensor in tensors.items()
        if fnmatch.fnmatchcase(name, pattern) or fnmatch.fnmatchcase(name, f"{pattern}.*")
    ]
    if whole:
        return [(tensor, list(range(tensor.dim()))) for tensor in whole]
    tensor, dim = _dimension(pattern, tensors)
    return [(tensor, [dim])]


def _dimension(name: str, tensors: Mapping[str, Tensor]) -> tuple[Tensor, int]:
    """The dimension that a group is called after: conv1 (dim 0 of conv1.weight), or fc.weight.1."""
    for candidate in (name, f"{name}.weight"):
        if candidate in tensors and tensors[candidate].dim():
            return tensors[candidate], 0
    base, _, dim = name.rpartition(".")
    if base in tensors and dim.isdecimal() and int(dim) < tensors[base].dim():
        return tensors[base], int(dim)
    raise InputError(f"the model has no layer, parameter or group {name!r}{did_you_mean(name, tensors)}")
