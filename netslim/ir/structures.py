"""Outputs of classes of the model's own: what is known of one as data, and making it anew without running its code.

A file names a class by its module. It is looked up among what is imported already, must be a class of data (a named
tuple, a dataclass, or made of a dict, a list or a tuple), and none of its methods is called: an object is given its
items and attributes. Where there is no such class, a plain container of the same items stands for it.
"""

from __future__ import annotations

import dataclasses
import functools
import sys
from collections import OrderedDict, namedtuple
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

from netslim.ir.program import Literal, Struct

_BASES: dict[str, Any] = {
    "namedtuple": tuple, "OrderedDict": OrderedDict, "dict": dict, "list": list, "tuple": tuple, "object": object,
}  # fmt: skip
BASES = frozenset(_BASES)
"""What a structure may be made of; `object` is that of a dataclass."""


def taken_apart(value: object) -> tuple[Struct, list[object]] | None:
    """The structure of an object, without values, and its items and attributes; None where it is none of these."""
    kind = type(value)
    base = _base(kind)
    if base is None:
        return None
    attributes = dict(getattr(value, "__dict__", {}))
    keys: tuple[Any, ...] = ()
    items: list[object] = []
    if base in ("OrderedDict", "dict"):
        keys, items = tuple(dict.keys(value)), list(dict.values(value))  # type: ignore[arg-type]
    elif base == "namedtuple":
        keys, items = tuple(kind._fields), list(tuple.__iter__(value))  # type: ignore[attr-defined, arg-type]
    elif base != "object":
        items = list(_BASES[base].__iter__(value))
        keys = tuple(range(len(items)))
    struct = Struct(kind.__name__, keys, (), _module(kind), base, tuple(attributes), kind)
    return struct, items + list(attributes.values())


def _base(kind: type) -> str | None:
    if issubclass(kind, tuple):
        return "namedtuple" if isinstance(getattr(kind, "_fields", None), tuple) else "tuple"
    plain = next((name for name in ("OrderedDict", "dict", "list") if issubclass(kind, _BASES[name])), None)
    return plain or ("object" if dataclasses.is_dataclass(kind) else None)


def can_be_made(struct: Struct, values: Sequence[object]) -> bool:
    """Whether an object of the class is all that its items and attributes are: it has no slots, and no base in C."""
    made = class_of(struct)
    if made is None or any(vars(each).get("__slots__") for each in made.__mro__):
        return False
    try:
        _make(made, struct.base, struct.keys, struct.names, values)
    except TypeError:
        return False
    return True


def _module(kind: type) -> str:
    """Where a class can be imported from by its name; nothing where it cannot."""
    held = vars(sys.modules[kind.__module__]) if kind.__module__ in sys.modules else {}
    return kind.__module__ if held.get(kind.__name__) is kind else ""


def class_of(struct: Struct) -> type | None:
    """The class of a structure, if it is imported here and is of that kind. Nothing is imported or run for it."""
    held = vars(sys.modules[struct.module]) if struct.module in sys.modules else {}
    found = struct.made or held.get(struct.kind)
    if not isinstance(found, type) or any("__del__" in vars(each) for each in found.__mro__):
        return None
    fields = getattr(found, "_fields", None) == struct.keys or struct.base != "namedtuple"
    return found if _base(found) == struct.base and fields else None


def plain(struct: Struct) -> Literal:
    """The same items in a container that needs no class of the model's, but for named tuples."""
    items = struct.values[: len(struct.keys)]
    if struct.base in ("list", "tuple"):
        return list(items) if struct.base == "list" else items
    if struct.base in ("OrderedDict", "dict"):
        return Struct("OrderedDict", struct.keys, items, base="OrderedDict")
    if struct.base == "object":
        public = {name: item for name, item in zip(struct.names, struct.values, strict=True) if name[:1] != "_"}
        return Struct(struct.kind, tuple(public), tuple(public.values()))
    return replace(struct, values=items, names=())


def maker(struct: Struct) -> Callable[[Sequence[object]], object]:
    """What makes an object of a structure from its values: one function for all structures that are alike."""
    return _maker(class_of(struct), struct.kind, struct.base, struct.keys, struct.names)


@functools.lru_cache(256)
def _maker(
    made: type | None, kind: str, base: str, keys: tuple[str | int, ...], names: tuple[str, ...]
) -> Callable[[Sequence[object]], object]:
    if made is not None:
        return functools.partial(_make, made, base, keys, names)
    if base in ("namedtuple", "object"):
        fields = [str(key) for key in (names if base == "object" else keys)]
        return functools.partial(_make, namedtuple(kind, fields, rename=True), "namedtuple", fields, ())
    return functools.partial(_make, _BASES[base], base, keys, ())


def _make(made: type, base: str, keys: Sequence[str | int], names: Sequence[str], values: Sequence[object]) -> object:
    items, attributes = values[: len(keys)], values[len(keys) :]
    if issubclass(made, tuple):
        found: Any = tuple.__new__(made, items)
    else:
        found = _BASES[base].__new__(made)
        if base in ("OrderedDict", "dict"):
            for key, item in zip(keys, items, strict=True):
                _BASES[base].__setitem__(found, key, item)
        elif base == "list":
            list.extend(found, items)
    if names:
        vars(found).update(zip(names, attributes, strict=True))
    return found
