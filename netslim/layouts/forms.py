"""What operators give of tensors without values, remembered: torch works that out in Python, often slowly.

A network repeats its layers, and is followed several times.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch._ops import OpOverload
from torch.utils._pytree import tree_leaves, tree_map_only


@dataclass(frozen=True, slots=True)
class Form:
    """All that there is to know of a tensor on meta that shares its memory with nobody."""

    shape: tuple[int, ...]
    strides: tuple[int, ...]
    dtype: torch.dtype

    def made(self) -> Tensor:
        return torch.empty_strided(self.shape, self.strides, dtype=self.dtype, device="meta")


@dataclass(frozen=True, slots=True)
class Plain:
    """An argument that is no tensor; 1, 1.0 and True are three."""

    kind: type
    value: object


Described = Form | Plain | tuple["Described", ...]


def executed(func: OpOverload, args: Sequence[object], kwargs: Mapping[str, object]) -> object:
    """`func(*args, **kwargs)`; on meta tensors alone only once for arguments of the same form."""
    if not _makes_its_result(func):
        return func(*args, **kwargs)
    found: list[Tensor] = []
    try:
        given = _described(args, found), tuple((name, _described(value, found)) for name, value in kwargs.items())
        known = _worked_out(func, *given) if found and all(_is_form(t) for t in found) else None
    except TypeError:  # an argument without a hash
        known = None
    return func(*args, **kwargs) if known is None else tree_map_only(Form, Form.made, known[0])


@functools.cache
def _makes_its_result(func: OpOverload) -> bool:
    """By its schema: it writes into no argument, and gives none back."""
    schema = func._schema
    return all(each.alias_info is None for each in (*schema.arguments, *schema.returns))


def _is_form(tensor: Tensor) -> bool:
    return tensor.is_meta and tensor.layout == torch.strided and not tensor.is_conj() and not tensor.is_neg()


def _described(value: object, found: list[Tensor]) -> Described:
    """The argument as what can be compared; its tensors are collected."""
    if isinstance(value, Tensor):
        found.append(value)
        return Form(tuple(value.shape), value.stride() if value.layout == torch.strided else (), value.dtype)
    if isinstance(value, (tuple, list)):
        return tuple(_described(item, found) for item in value)
    return Plain(type(value), value)


@functools.lru_cache(maxsize=4096)
def _worked_out(func: OpOverload, args: Described, kwargs: tuple[tuple[str, Described], ...]) -> tuple[object] | None:
    """The result, with forms for its tensors; None where some of them share memory with arguments or each other."""
    given = _argument(args), {name: _argument(value) for name, value in kwargs}
    out = func(*given[0], **given[1])  # type: ignore[misc]
    tensors = [t for t in tree_leaves((given, out)) if isinstance(t, Tensor)]
    if len({t.untyped_storage()._cdata for t in tensors}) < len(tensors) or not all(map(_is_form, tensors)):
        return None
    return (tree_map_only(Tensor, lambda t: Form(tuple(t.shape), t.stride(), t.dtype), out),)


def _argument(described: Described) -> object:
    if isinstance(described, Form):
        return described.made()
    return described.value if isinstance(described, Plain) else tuple(map(_argument, described))
