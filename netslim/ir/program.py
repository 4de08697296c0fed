"""A network's forward as plain data: a list of nodes, each one call, over values named by earlier nodes.

A program is what tracing returns, what the rewriter edits, what converted.pt stores and what the source of
`SlimNet.forward` is printed from (net/codegen.py). Its literals are numbers, strings, dtypes and containers of them;
`Ref`, `Size` and `Mode` stand for what is known only when it runs.
"""

from __future__ import annotations

import builtins
import contextlib
import functools
import importlib
import keyword
import math
import operator
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from types import BuiltinFunctionType, EllipsisType
from typing import Any, TypeAlias, overload

import torch

from netslim.errors import ArchiveError
from netslim.ir.own import BY_DTYPE, REQUIRE, by_dtype, require


@dataclass(frozen=True, slots=True)
class Ref:
    """The value of an earlier node."""

    name: str


@dataclass(frozen=True, slots=True)
class Size:
    """An integer that depends on the widths: entry `index` of the plan's sizes."""

    index: int


@dataclass(frozen=True, slots=True)
class Mode:
    """`self.training`, or its negation."""

    negated: bool = False


Function = Callable[..., Any]
"""A function of torch's or Python's: what it takes and gives, only it knows."""
Leaf = (
    Ref | Size | Mode | bool | int | float | complex | str | EllipsisType
    | torch.dtype | torch.device | torch.layout | torch.memory_format | None
)  # fmt: skip
"""What a literal is made of."""
Literal: TypeAlias = "Leaf | tuple[Literal, ...] | list[Literal] | dict[Any, Literal] | slice | Struct"
"""An argument of a call: leaves, and containers of them."""


@dataclass(frozen=True, slots=True)
class Node:
    """One step: op is input | param | module | call | output, target what is read or called.

    grad: whether gradients flow through it; the model ran it outside `torch.no_grad`.
    cast: whether autocast may choose its dtype; the model ran it outside `torch.autocast(..., enabled=False)`.
    again: the number of the stretch that it is part of, which is computed again in the backward pass
    (`torch.utils.checkpoint`); 0 for none.
    """

    name: str
    op: str
    target: str
    args: tuple[Literal, ...] = ()
    kwargs: dict[str, Literal] = field(default_factory=dict)
    where: str = ""
    grad: bool = True
    cast: bool = True
    again: int = 0
    _refs: tuple[str, ...] | None = field(default=None, init=False, repr=False, compare=False)

    @property
    def refs(self) -> tuple[str, ...]:
        """Names of the values this node reads, in order, with repetitions."""
        if (found := self._refs) is None:  # asked for many times
            found = tuple(leaf.name for leaf in leaves((self.args, self.kwargs)) if isinstance(leaf, Ref))
            object.__setattr__(self, "_refs", found)
        return found


@dataclass(frozen=True, slots=True)
class Program:
    """Nodes in execution order; the inputs come first and the only output node last."""

    nodes: tuple[Node, ...]

    def __iter__(self) -> Iterator[Node]:
        return iter(self.nodes)

    @property
    def inputs(self) -> tuple[Node, ...]:
        return tuple(node for node in self.nodes if node.op == "input")


@dataclass(frozen=True)
class Struct:
    """A container of the output that is no plain tuple, list or dict (netslim/ir/structures.py).

    kind, module: the class, and where it is; nothing where it cannot be imported. base: what it is made of.
    values: those of its `keys`, then those of its attributes, `names`. made: the class itself, where it was met.
    """

    kind: str
    keys: tuple[str | int, ...]
    values: tuple[Literal, ...]
    module: str = ""
    base: str = "namedtuple"
    names: tuple[str, ...] = ()
    made: type | None = field(default=None, compare=False)

    def __getstate__(self) -> dict[str, object]:
        """Without a class that nobody could import."""
        return {**self.__dict__, "made": self.made if self.module else None}

    def __deepcopy__(self, memo: object) -> Struct:
        return self


# ------------------------------------------------------------------------------------------------- literals


@overload
def map_leaves(fn: Callable[[Leaf], Literal], value: tuple[Literal, ...]) -> tuple[Literal, ...]: ...
@overload
def map_leaves(fn: Callable[[Leaf], Literal], value: dict[str, Literal]) -> dict[str, Literal]: ...
@overload
def map_leaves(fn: Callable[[Leaf], Literal], value: Literal) -> Literal: ...
def map_leaves(fn: Callable[[Leaf], Literal], value: Literal) -> Literal:
    """Apply `fn` to every leaf of nested tuples, lists, dicts, slices and Structs."""

    def again(item: Literal) -> Literal:
        return map_leaves(fn, item)

    if isinstance(value, (tuple, list)):
        return type(value)(map(again, value)) if type(value) in (tuple, list) else tuple(map(again, value))
    if isinstance(value, dict):
        return {key: again(item) for key, item in value.items()}
    if isinstance(value, slice):
        return slice(again(value.start), again(value.stop), again(value.step))
    if isinstance(value, Struct):
        return replace(value, values=tuple(map(again, value.values)))
    return fn(value)


def leaves(value: Literal) -> list[Leaf]:
    """Every leaf of a nested value."""
    found: list[Leaf] = []
    _collect(value, found)
    return found


def _collect(value: Literal, found: list[Leaf]) -> None:
    if isinstance(value, (tuple, list)):
        for item in value:
            _collect(item, found)
    elif isinstance(value, (dict, Struct)):
        _collect(tuple(value.values()) if isinstance(value, dict) else value.values, found)
    else:
        found += [value.start, value.stop, value.step] if isinstance(value, slice) else [value]


# ------------------------------------------------------------------------------------------------ functions


_REACHES_OUT = re.compile(
    r"torch\.(.+_file|from_numpy|frombuffer|asarray|autocast|seed|(cudnn|miopen|mkldnn|quantized|mkl)_.*|lobpcg|chain_matmul|linalg\.multi_dot|functional\.(.*lowrank|chain_matmul)|.*sparse.*|_?foreach.*|fbgemm.*|nn\.functional\._.*)"
    r"|torch\.nn\.functional\.(has_torch_function.*|assert_.*)"
    r"|torch\.Tensor\.(apply_|map_|map2_|backward|.*register_.*|.*hook.*|retain.*|set_|resize.*|.*storage.*|share_memory_"
    r"|.*data_ptr|numpy|tolist|record_stream|pin_memory|to_mkldnn|_cdata\..*|_base\..*|_?grad.*|name\..*|volatile\..*"
    r"|_version\..*|module_load|__(array|cuda|deepcopy|dlpack|format|reduce|repr|setstate|dir|hash).*)"
)
"""What reads files or memory, keeps Python's functions or gives out torch's own objects: no part of a forward."""

_OPERATOR = "add sub mul truediv floordiv mod neg pos abs pow getitem setitem lt le gt ge eq ne truth"
_VISION = "roi_align roi_pool ps_roi_align ps_roi_pool deform_conv2d nms"
_MATH = "sqrt floor ceil trunc log exp pow log2"
_BUILTINS = "round max min float"


@functools.cache
def _names() -> dict[Function, str]:
    """The allowlist: every torch function that can be overridden, arithmetic, and a few constructors."""
    named: dict[Function, str] = {}
    for functions in torch.overrides.get_overridable_functions().values():
        for fn in functions:
            name = torch.overrides.resolve_name(fn)
            if name is not None and name != "torch.Tensor.module_load":
                named.setdefault(fn, name)
    for name, fn in vars(torch.nn.functional).items():
        if isinstance(fn, BuiltinFunctionType) or getattr(fn, "__module__", "") == "torch.nn.functional":
            _add(named, fn, f"torch.nn.functional.{name}")
    for name in dir(torch._C._VariableFunctions):
        if isinstance(getattr(torch, name, None), BuiltinFunctionType):
            _add(named, getattr(torch, name), f"torch.{name}")
    factories = (
        "zeros ones full empty rand randn randint arange linspace eye tensor as_tensor tril_indices triu_indices"
    )
    for name in factories.split():
        named[getattr(torch, name)] = f"torch.{name}"
    named[torch._weight_norm] = "torch._weight_norm"
    for fn in [fn for fn, name in named.items() if _REACHES_OUT.fullmatch(name)]:
        del named[fn]
    for name in "new_zeros new_ones new_full new_empty new_tensor unflatten norm".split():
        named[getattr(torch.Tensor, name)] = f"torch.Tensor.{name}"
    with contextlib.suppress(ImportError):
        importlib.import_module("torchvision")
        for name in _VISION.split():
            named[getattr(torch.ops.torchvision, name)] = f"torch.ops.torchvision.{name}"
    named |= {require: REQUIRE, by_dtype: BY_DTYPE}
    for module, names in ((operator, _OPERATOR), (math, _MATH), (builtins, _BUILTINS)):
        for name in names.split():
            named.setdefault(getattr(module, name), f"{module.__name__}.{name}")
    return named


def _add(named: dict[Function, str], fn: Function, name: str) -> None:
    last = name.rsplit(".", 1)[-1]
    if callable(fn) and not isinstance(fn, type) and not last.startswith("_") and "file" not in last:
        named.setdefault(fn, name)


def name_of(fn: Function) -> str | None:
    """The name a function is stored under, or None when it is not one that a program may call."""
    try:
        name = _names().get(fn)
    except TypeError:
        return None
    if name is None and isinstance(fn, (torch._ops.OpOverload, torch._ops.OpOverloadPacket)):
        return f"{OPERATORS}{fn}"
    return name


OPERATORS = "torch.ops."
"""Under it are operators by library and name, also those that a person has registered."""


@functools.cache
def _functions() -> dict[str, Function]:
    return {name: fn for fn, name in _names().items()}


def is_listed(name: str) -> bool:
    """Whether `name` is on the allowlist: torch's, torchvision's and Python's own functions."""
    return name in _functions()


def function(name: str) -> Function:
    """The function stored under `name`: one on the allowlist, or an operator that is registered here.

    Raises ArchiveError for any other.
    """
    if (listed := _functions().get(name)) is not None:
        return listed
    if not name.startswith(OPERATORS):
        raise ArchiveError(f"the program calls {name!r}, which is not a function that netslim runs")
    found: object = torch
    for part in name.split(".")[1:]:
        found = getattr(found, part, None)
    if not isinstance(found, (torch._ops.OpOverload, torch._ops.OpOverloadPacket)):
        raise ArchiveError(f"the program calls {name!r}, an operator that is not registered here; import its module")
    return found


LIFTED = "_lifted"
"""Under it are the constants that forward uses and the model does not register."""


def is_word(name: object) -> bool:
    """Whether a name is an identifier in ASCII that is no keyword."""
    return isinstance(name, str) and name.isascii() and name.isidentifier() and not keyword.iskeyword(name)


AUTOCAST = ("cuda", "cpu")
"""The devices whose autocast is off for a step without `cast`."""

RESERVED = frozenset(
    "self point sizes cuts track run take torch math operator put_back OrderedDict stretch again".split()
)
"""Names that the printed function uses itself."""
