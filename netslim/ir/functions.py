"""What is known of a function by its name: whether it writes in place, gives a view, reads a size, adds, joins.

Whoever asks what a function does asks here, so that a name that is missing or misspelt can be so in one place only.

Most of it is what torch's own operator schemas say, so that it holds for functions nobody thought of; the rest are
functions of Python that no schema describes. `memory` follows a program with it: which values share memory, and which
values' memory a step writes to.
"""

from __future__ import annotations

import functools
import inspect
import operator
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import NamedTuple

import torch

from netslim.ir.program import OPERATORS, Function, Literal, Node, Program, Ref, is_listed, leaves
from netslim.ir.program import function as _function


def _tensor(names: str) -> set[str]:
    return {f"torch.Tensor.{name}" for name in names.split()}


SUMS = {"operator.add", "torch.add", *_tensor("add add_ __add__ __radd__ __iadd__")}
CATS = {"torch.cat", "torch.concat", "torch.concatenate"}
ENTRIES = {"torch.numel", *_tensor("numel nelement")}
SIZES = ENTRIES | _tensor("size shape.__get__ __len__")
"""What gives sizes of a tensor as numbers."""
COUNTS = _tensor("size numel")
"""The two of them that a program calls, whatever the model's Python wrote."""
DTYPE = "torch.Tensor.dtype.__get__"
FORMS = COUNTS | {DTYPE} | _tensor("device.__get__")
"""What a program reads of a tensor's form: it does not depend on the entries."""
COMPARISONS = {f"operator.{name}" for name in "lt le gt ge eq ne truth".split()}
ARITHMETIC = {
    *(f"operator.{name}" for name in "add sub mul truediv floordiv mod neg pos abs pow".split()),
    *(f"math.{name}" for name in "sqrt floor ceil trunc log exp pow log2".split()),
    *(f"builtins.{name}" for name in "round max min float".split()),
    *COMPARISONS,
}
"""What a program works out with numbers that it has read."""
_FREE = FORMS | ARITHMETIC | {"operator.getitem"}  # called for their results alone
VALUES = {
    "torch.equal", "torch.allclose", "torch.is_nonzero",
    *_tensor("item tolist numpy equal allclose is_nonzero __array__ __bool__ __nonzero__ __int__ __float__ __index__"),
    *_tensor("__complex__ __contains__ __long__"),
}  # fmt: skip
"""What gives values of a tensor to Python."""
CONVERSIONS = _tensor("float double half bfloat16 to type type_as")
COPY = "torch.Tensor.clone"
ZEROS = ("torch.Tensor.narrow", "torch.zeros_like", "torch.Tensor.expand")
"""What puts zeros in the place of a value, in this order: one channel of another, zeros like it, as many as needed."""
MAKERS = {f"torch.{name}" for name in "tensor as_tensor arange linspace eye tril_indices triu_indices".split()}

_VIEWS = {
    "operator.getitem", "torch.functional.broadcast_tensors", "torch.functional.meshgrid", "torch.as_tensor",
    *_tensor("T.__get__ H.__get__ mT.__get__ mH.__get__ data.__get__ real.__get__ imag.__get__ __getitem__"),
    *_tensor("float double half bfloat16 bool byte char short int long cfloat cdouble type type_as to cpu cuda xpu"),
}  # fmt: skip
_MAY_GIVE_BACK = ("dropout", "atleast_")  # in evaluation, and where there is nothing to do, the argument itself
_SETTERS = {"operator.setitem", "torch.Tensor.__setitem__"}
_RUNNING = ("running_mean", "running_var")  # written in training mode, though the schema does not say so
_FLAGS = (("inplace", "input"), ("max_norm", "weight"))  # an option, and the argument that it makes a function write to


def gives_values(fn: Function) -> bool:
    """Whether a torch function gives values of a tensor to Python; by torch's name for it, as no program calls most."""
    return torch.overrides.resolve_name(fn) in VALUES


def form_only(node: Node) -> frozenset[str]:
    """The values of which a call reads the form alone, so that their entries do not matter to it."""
    found = node.args[:1] if node.target in _LIKE else node.args[1:] if node.target in _AS else ()
    refs = node.refs if node.target in FORMS else [leaf.name for leaf in leaves(found) if isinstance(leaf, Ref)]
    return frozenset(refs)


_LIKE = {f"torch.{name}_like" for name in "zeros ones full empty".split()} | {
    f"torch.Tensor.new_{name}" for name in "zeros ones full empty tensor".split()
}
_AS = _tensor("to type_as view_as reshape_as expand_as")


def last(target: str) -> str:
    """The name alone: torch.Tensor.add_ -> add."""
    return target.removesuffix(".__get__").rpartition(".")[2].strip("_")


class Effect(NamedTuple):
    """What a call does to memory.

    writes: places of arguments (positions and names) that it writes to; flags: (places of a flag, places that it
    writes to where the flag is given and not False); views: whether its result may share the memory of its arguments.
    """

    writes: frozenset[int | str] = frozenset()
    flags: tuple[tuple[frozenset[int | str], frozenset[int | str]], ...] = ()
    views: bool = False


_FIRST: frozenset[int | str] = frozenset({0, "self", "input"})


@functools.cache
def effect(target: str) -> Effect:
    """What a call of the function named `target` does to memory."""
    names, schemas = _python_parameters(target), _schemas(target)
    writes: set[int | str] = {"out", *(_FIRST if _is_inplace(target) else ())}
    writes |= _places(names, *_RUNNING)
    for schema in () if names else schemas:
        for i, argument in enumerate(schema.arguments):
            if argument.name in _RUNNING or _is_written(argument):
                writes |= {argument.name} if argument.kwarg_only else {i, argument.name}
    flags = [(_places(names, flag), _places(names, into)) for flag, into in _FLAGS if flag in names]
    shared = any(r.alias_info and not r.alias_info.is_write for schema in schemas for r in schema.returns)
    views = shared or target in _VIEWS or any(word in last(target) for word in _MAY_GIVE_BACK)
    return Effect(frozenset(writes), tuple(flags), views)


def _places(names: tuple[str, ...], *wanted: str) -> frozenset[int | str]:
    return frozenset(place for i, name in enumerate(names) if name in wanted for place in (i, name))


def _is_written(argument: torch._C.Argument) -> bool:
    kind = str(argument.type)
    return bool(argument.alias_info and argument.alias_info.is_write and "Tensor" in kind)


def _is_inplace(target: str) -> bool:
    """By its name: add_, __iadd__, setitem."""
    name = target.rpartition(".")[2]
    if name.startswith("__"):
        return target in _SETTERS or (name.startswith("__i") and name[3:-2] in _OPERATORS)
    return target in _SETTERS or name.endswith("_")


def _schemas(target: str) -> list[torch._C.FunctionSchema]:
    """The schemas of the operators of a function's name: all overloads of ATen's, or a registered operator's own."""
    found: object = torch
    if not target.startswith("torch."):
        return []
    if target.startswith(OPERATORS):
        for part in target.split(".")[1:]:
            found = getattr(found, part, None)
    else:
        found = getattr(torch.ops.aten, target.removesuffix(".__get__").rpartition(".")[2], None)
    if isinstance(found, torch._ops.OpOverload):
        return [found._schema]
    if not isinstance(found, torch._ops.OpOverloadPacket):
        return []
    schemas = [getattr(found, name)._schema for name in found.overloads()]
    return [schema for schema in schemas if target.startswith(OPERATORS) or not _is_of_a_list(schema)]


def _is_of_a_list(schema: torch._C.FunctionSchema) -> bool:
    """Whether it is a method of TorchScript's lists (sort, append), which have the names of tensors'."""
    return bool(schema.arguments) and str(schema.arguments[0].type).startswith("List") and not schema.returns


def _python_parameters(target: str) -> tuple[str, ...]:
    """Parameter names of a function that is written in Python, in order."""
    if not is_listed(target):
        return ()
    try:
        return tuple(inspect.signature(_function(target)).parameters)
    except (TypeError, ValueError):  # a builtin: its schemas say it
        return ()


def written(node: Node) -> list[str]:
    """The values that a call is given and writes to, by name."""
    given: dict[int | str, Literal] = {}
    given |= enumerate(node.args)
    given |= node.kwargs.items()
    does = effect(node.target)
    places = set(does.writes)
    for flag, into in does.flags:
        if any(given.get(place) not in (None, False) for place in flag):
            places |= into
    return [leaf.name for leaf in leaves([given[p] for p in places if p in given]) if isinstance(leaf, Ref)]


# -------------------------------------------------------------------------------------------------------- programs


@dataclass(frozen=True)
class Memory:
    """Whose memory the values of a program may be in, and the memory that its steps write to.

    owners: {value: the values in whose memory it may lie, itself where it has its own}; writes: {step: owners}.
    """

    owners: Mapping[str, frozenset[str]]
    writes: Mapping[str, frozenset[str]]


Layers = Callable[[Node], tuple[bool, bool]]
"""Whether the layer that a node calls may give back its argument's memory, and whether it writes to it."""


def memory(program: Program, layers: Layers = lambda _: (True, True)) -> Memory:
    """Follow a program's values through views and writes; without `layers`, any layer may do both."""
    owners: dict[str, frozenset[str]] = {}
    writes: dict[str, frozenset[str]] = {}
    for node in program:
        shared, into = _module(node, layers) if node.op == "module" else _call(node) if node.op == "call" else ((), ())
        owners[node.name] = _owners(owners, (*shared, *into)) or frozenset({node.name})
        if into:
            writes[node.name] = _owners(owners, into)
    return Memory(owners, writes)


def _call(node: Node) -> tuple[list[str], list[str]]:
    return list(node.refs) if effect(node.target).views else [], written(node)


def _module(node: Node, layers: Layers) -> tuple[list[str], list[str]]:
    views, inplace = layers(node)
    first = [leaf.name for leaf in leaves(node.args[:1]) if isinstance(leaf, Ref)]
    return first if views else [], first if inplace else []


def _owners(owners: Mapping[str, frozenset[str]], names: tuple[str, ...] | list[str]) -> frozenset[str]:
    return frozenset().union(*(owners.get(name, frozenset({name})) for name in names))


def without_unused(nodes: Iterable[Node]) -> list[Node]:
    """The nodes without parameters, reads of sizes, arithmetic and unpackings that nobody uses.

    Further calls all stay: who knows what they do besides.
    """
    used: set[str] = set()
    needed: list[Node] = []
    for node in reversed(list(nodes)):
        if node.name in used or not (node.op == "param" or (node.op == "call" and node.target in _FREE)):
            used.update(node.refs)
            needed.append(node)
    return needed[::-1]


def written_parameters(program: Program) -> dict[str, str]:
    """The `param` nodes of a program whose memory it may write to, through whatever views, and what they read."""
    touched = set().union(*memory(program).writes.values())
    return {node.name: node.target for node in program if node.op == "param" and node.name in touched}


# ------------------------------------------------------------------------------------------------------- operators


def operator_of(target: str) -> tuple[Function, bool] | None:
    """Python's operator for a method such as torch.Tensor.__rsub__, and whether its operands come in reverse.

    None for a method that is no operator, or one that writes in place.
    """
    name = target.removeprefix("torch.Tensor.__").removesuffix("__")
    if not target.startswith("torch.Tensor.__") or _is_inplace(target):
        return None
    reflected = name not in _OPERATORS and name.startswith("r") and name[1:] in _OPERATORS
    found = _OPERATORS.get(name[1:] if reflected else name)
    return None if found is None else (found, reflected)


_OPERATORS: dict[str, Function] = {
    name: getattr(operator, name)
    for name in "add sub mul truediv floordiv mod pow matmul lshift rshift neg pos abs invert lt le gt ge eq ne getitem"
    .split()
} | {"and": operator.and_, "or": operator.or_, "xor": operator.xor, "div": operator.truediv}  # fmt: skip


# ------------------------------------------------------------------------------------------- how a call is written

ITEMS = {"torch.Tensor.__getitem__": "operator.getitem", "torch.Tensor.__setitem__": "operator.setitem"}
"""Methods that read and write items, and the functions of Python that do so to whatever they are given."""


def attribute_of(target: str) -> str | None:
    """The attribute of a tensor that a function reads: torch.Tensor.dtype.__get__ -> dtype; None for another."""
    method = method_of(target) or ""
    return method.removesuffix(".__get__") if method.endswith(".__get__") else None


def method_of(target: str) -> str | None:
    """The method of a tensor that a function is: torch.Tensor.add_ -> add_, operator.setitem too; None for another."""
    if target in _SETTERS:
        return "__setitem__"
    return target.removeprefix("torch.Tensor.") if target.startswith("torch.Tensor.") else None
