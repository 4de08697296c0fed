"""Writes down the program of a run: every torch call and every size that the model's Python reads.

The Python sees real tensors and real integers; sizes are integers that remember where they came from, so that
arithmetic on them is recorded too.
"""

from __future__ import annotations

import contextlib
import keyword
from collections.abc import Iterator
from dataclasses import replace
from numbers import Integral, Real
from types import EllipsisType
from typing import overload

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode
from torch.utils._pytree import tree_leaves, tree_map_only

from netslim.errors import TraceError
from netslim.ir.functions import CONVERSIONS, DTYPE, ENTRIES, MAKERS, SIZES, effect, gives_values
from netslim.ir.program import LIFTED, RESERVED, Function, Literal, Node, Program, Ref, name_of
from netslim.ir.structures import can_be_made, taken_apart
from netslim.layouts.axes import Const, Layout, Reason
from netslim.layouts.engine import Args, Engine, Kwargs, user_line
from netslim.trace.contexts import attention_in_python
from netslim.trace.numbers import TracedFloat, TracedInt, is_computed, plain, traced
from netslim.trace.result import Comparison, Trace
from netslim.trace.values import with_values


class Tracer(TorchFunctionMode):
    """Records the torch calls of one forward."""

    keeps = True  # whether all that the next call depends on is to be recorded

    def __init__(self, root: nn.Module, engine: Engine, constants: dict[str, Tensor], making: bool = False) -> None:
        """making: whether tensors that forward makes of plain numbers are calls, rather than constants."""
        super().__init__()
        self.making, self.open = making, True
        self.engine, self.quiet, self.grad, self.cast = engine, False, True, True
        self.again = self._stretches = 0
        self.nodes: list[Node] = []
        self.tensors: dict[str, object] = {}
        self.numbers: dict[str, int | float] = {}
        self.notes: dict[str, dict[str, Layout]] = {}
        self.comparisons: list[Comparison] = []
        self.constants = constants
        self.decided: dict[tuple[str, str], None] = {}
        self._made: dict[int, Tensor] = {}  # constants that this forward makes, as they were when they were made
        self._node_of: dict[int, str] = {}
        self._dtype_read: Tensor | None = None
        self._alive: list[Tensor] = []
        self._used: set[str] = set(RESERVED)
        self._paths = {id(t): name for name, t in reversed([*root.named_parameters(), *root.named_buffers()])}
        self._lifted = {id(t): n for n, t in constants.items()}

    def line(self) -> str:
        """Where the model's source is now."""
        return user_line()

    # -- nodes

    def new_name(self, hint: str) -> str:
        hint = "".join(c if c.isalnum() else "_" for c in hint).strip("_").lower() or "value"
        hint = f"v{hint}" if hint[0].isdigit() else hint
        name, i = hint, 0
        while name in self._used or name in _KEYWORDS:
            i += 1
            name = f"{hint}_{i}"
        self._used.add(name)
        return name

    def add(
        self, op: str, target: str, hint: str, args: tuple[Literal, ...] = (),
        kwargs: dict[str, Literal] | None = None, where: str = "",
    ) -> str:  # fmt: skip
        name = self.new_name(hint)
        computes = op in ("call", "module")  # a parameter that is read once may be used in both ways
        grad, cast, again = self.grad or not computes, self.cast or not computes, self.again if computes else 0
        self.nodes.append(Node(name, op, target, args, kwargs or {}, where, grad, cast, again))
        return name

    def claim(self, name: str, value: object) -> None:
        """Remember which node the tensors in `value` come from."""
        self.tensors[name] = value
        if isinstance(value, Tensor):
            self._node_of[id(value)] = name
            self._alive.append(value)
        elif isinstance(value, (tuple, list)):
            for i, item in enumerate(value):
                if isinstance(item, (Tensor, tuple, list)):
                    part = self.add("call", "operator.getitem", f"{name}_{i}", (Ref(name), i))
                    self.claim(part, item)

    @overload
    def encode(self, value: tuple[object, ...]) -> tuple[Literal, ...]: ...
    @overload
    def encode(self, value: dict[str, object]) -> dict[str, Literal]: ...
    @overload
    def encode(self, value: object) -> Literal: ...
    def encode(self, value: object) -> Literal:
        """A literal for the program: tensors and traced numbers become references."""
        if isinstance(value, Tensor):
            return Ref(self._tensor(value))
        if isinstance(value, (TracedInt, TracedFloat)):  # one of another run was kept in a cache of Python's
            return Ref(value.node) if value.tracer is self else self.encode(plain(value))
        if isinstance(value, (tuple, list)):
            items = map(self.encode, value)
            return list(items) if isinstance(value, list) else tuple(items)
        if isinstance(value, dict):
            return {k: self.encode(v) for k, v in value.items()}
        if isinstance(value, slice):
            return slice(self.encode(value.start), self.encode(value.stop), self.encode(value.step))
        if isinstance(value, torch.device):
            return self.device(value)
        if isinstance(value, torch.dtype):
            return self._dtype(value)
        if value is None or isinstance(value, (bool, complex, *_PLAIN)):
            return value
        if isinstance(value, str):
            return str(value)
        if isinstance(value, Integral):  # numpy's, or of an enumeration
            return int(value)
        if isinstance(value, Real):
            return float(value)
        return self.unstored(value)

    def unstored(self, value: object) -> Literal:
        """What stands for a value that no program could hold. Raises TraceError."""
        raise TraceError(
            f"a {type(value).__name__} is passed to a torch function at {self.line()}; netslim cannot store it."
        )

    def _tensor(self, value: Tensor) -> str:
        name = self._node_of.get(id(value))
        if name is not None:
            return name
        path = self._paths.get(id(value)) or self._lifted.get(id(value))
        if path is None:
            if self.engine.produced(value):
                raise TraceError(
                    f"a tensor used at {self.line()} was computed out of sight (in a scripted or compiled function)."
                )
            path = f"{LIFTED}.c{len(self.constants)}"
            self.constants[path] = self._made.get(id(value), value)
            self._lifted[id(value)] = path
        name = self.add("param", path, path.replace(".", "_"))
        self.claim(name, value)
        return name

    def device(self, device: torch.device) -> Ref | torch.device:
        """A device literal; the one that the trace runs on stands for that of the first input."""
        if device.type != "meta":
            return device
        first = next(node.name for node in self.nodes if node.op == "input")
        return Ref(self.add("call", "torch.Tensor.device.__get__", "device", (Ref(first),)))

    def _dtype(self, dtype: torch.dtype) -> Ref | torch.dtype:
        """A dtype; one that was just read from a tensor stands for that tensor's, so that other precisions run."""
        read, self._dtype_read = self._dtype_read, None
        if read is None or read.dtype != dtype or not dtype.is_floating_point:
            return dtype
        return Ref(self.add("call", DTYPE, "dtype", (Ref(self._tensor(read)),)))

    def unnamed(self, func: Function) -> str:
        """The name to record for a function that is not on the allowlist."""
        raise TraceError(
            f"{getattr(func, '__qualname__', func)} at {self.line()} is no function that netslim can store."
        )

    def placeholder(self, name: str, tensor: Tensor) -> Tensor:
        """The meta tensor that stands for an input."""
        value = torch.empty_like(tensor, device="meta") if tensor.is_floating_point() else tensor.clone()
        known = self.engine.known(tensor)
        self.engine.set(value, known or [Const(n, Reason("model input")) for n in value.shape])
        self.claim(self.add("input", name, name), value)
        return value

    # -- calls

    def __torch_function__(
        self, func: Function, types: object, args: Args = (), kwargs: Kwargs | None = None
    ) -> object:
        kwargs = kwargs or {}
        if self.quiet:
            return func(*args, **kwargs)
        name = name_of(func)
        if name in SIZES:
            return self._size(name, args, kwargs)
        if name is None and getattr(func, "__name__", "") in HOOKS:
            return self.hooked(func)
        if name == REQUIRES_GRAD:
            return self.requires_grad(args[0])
        if name == DTYPE:
            self._dtype_read = args[0]
        if name == "torch.nn.functional.multi_head_attention_forward":
            with attention_in_python(), self:
                return func(*args, **kwargs)
        if gives_values(func):
            given = (t for t in tree_leaves(args) if isinstance(t, Tensor))
            self.decided |= {(known, self.line()): None for t in given if (known := self.known(t))}
            args = tree_map_only(Tensor, lambda t: with_values(t, self._node_of.get(id(t)), self), args)
        if name is None and getattr(func, "__name__", "") == "__set__" and func == SET_DATA:
            with self:
                into = args[0].data
            return self.write(into, args[1], self.line())
        self.engine.notes = {}
        out = func(*plain(args), **plain(kwargs))
        if name in CONVERSIONS and out is args[0]:  # under autocast it would be another one
            with self.silenced():
                out = out.detach()
        if not any(isinstance(t, Tensor) for t in tree_leaves(out)) and not (name and effect(name).writes - {"out"}):
            return out
        if name in MAKERS and not (self.making or out.is_meta or is_computed((args, kwargs))):
            with self.silenced():
                self._made[id(out)] = out.clone()
            self.engine.forget(self._made[id(out)])
            self.engine.forget(out)  # the same at every call: a constant of the model
            return out
        name = name or self.unnamed(func)
        node = self.add("call", name, _hint(name), self.encode(tuple(args)), self.encode(kwargs), self.line())
        self._finish(node, out)
        return out

    def write(self, into: Tensor, value: object, where: str) -> str:
        """Record that a tensor's entries are put in the place of another's. Raises TraceError where it has others."""
        if not isinstance(value, Tensor) or (value.shape, value.dtype) != (into.shape, into.dtype):
            form = f"of shape {tuple(into.shape)} and {into.dtype}"
            raise TraceError(f"forward replaces a tensor {form} by another form{where and f' at {where}'}.")
        with self.silenced():
            into.copy_(value)
        args, self.grad, before = self.encode((into, value)), False, self.grad
        node = self.add("call", "torch.Tensor.copy_", "copy_", args, where=where)
        self.grad, self.tensors[node] = before, into
        return node

    def known(self, tensor: Tensor) -> str | None:
        """The node or the path of a tensor, None for one that no call has given or read."""
        return self._node_of.get(id(tensor)) or self._paths.get(id(tensor)) or self._lifted.get(id(tensor))

    def call_module(self, path: str, forward: Function, args: Args, kwargs: Kwargs) -> object:
        """Run a leaf module, recording one node."""
        if self.quiet:
            return forward(*args, **kwargs)
        encoded = self.encode(tuple(args)), self.encode(kwargs)
        self.engine.notes, where = {}, self.line()
        with self.silenced():
            out = forward(*plain(args), **plain(kwargs))
        node = self.add("module", path, path.replace(".", "_"), *encoded, where)
        self._finish(node, out)
        return out

    @contextlib.contextmanager
    def silenced(self) -> Iterator[None]:
        self.quiet, before = True, self.quiet
        try:
            yield
        finally:
            self.quiet = before

    def _finish(self, node: str, out: object) -> None:
        if self.engine.notes:
            self.notes[node] = self.engine.notes
        if out is not None:
            self.claim(node, out)

    # -- the backward pass

    def requires_grad(self, tensor: Tensor) -> bool:
        """As it is in training: what forward is given and computes has gradients there, where it can."""
        key = id(tensor)
        computed = (key in self._node_of or self.engine.produced(tensor)) and key not in {**self._paths, **self._lifted}
        with self.silenced():
            return tensor.dtype.is_floating_point and self.grad if computed else tensor.requires_grad

    def hooked(self, func: Function) -> object:
        """Raises TraceError: a hook of the backward pass is a function of the model's."""
        return self.unnamed(func)

    def differentiates(self, function: type[torch.autograd.Function]) -> None:
        """Raises TraceError: a program's backward pass is torch's own."""
        if not self.quiet:
            raise TraceError(
                f"forward calls {function.__name__}, which has a backward pass of its own, at {self.line()}; netslim "
                "cannot store that."
            )

    @contextlib.contextmanager
    def recomputed(self) -> Iterator[None]:
        """Inside is a stretch that is computed again; one within another is part of it."""
        before = self.again
        self._stretches += not before
        self.again = before or self._stretches
        try:
            yield
        finally:
            self.again = before

    # -- numbers

    def _size(self, name: str, args: Args, kwargs: Kwargs) -> int | float | torch.Size:
        tensor, shape = args[0], tuple(args[0].shape)
        dim = args[1] if len(args) > 1 else kwargs.get("dim")
        if name == "torch.Tensor.__len__":
            return shape[0]
        if name in ENTRIES:
            node = self.add("call", "torch.Tensor.numel", "numel", (self.encode(tensor),), where=self.line())
            return traced(tensor.numel(), node, self)
        if dim is not None:
            return self._dim(tensor, int(dim) % len(shape))
        return torch.Size([self._dim(tensor, i) for i in range(len(shape))])

    def _dim(self, tensor: Tensor, dim: int) -> TracedInt:
        node = self.add("call", "torch.Tensor.size", "size", (self.encode(tensor), dim), where=self.line())
        return traced(tensor.shape[dim], node, self)

    def number(self, fn: Function, operands: tuple[object, ...]) -> object:
        """Arithmetic on traced numbers, recorded."""
        value = fn(*(plain(o) for o in operands))
        if self.quiet or not self.open:
            return value
        name = name_of(fn)
        assert name is not None
        return traced(value, self.add("call", name, "n", self.encode(operands), where=self.line()), self)

    def compared(self, fn: Function, operands: tuple[object, ...], outcome: object) -> None:
        """Note the outcome of a comparison of traced numbers with others."""
        name = name_of(fn)
        if self.quiet or not self.open or name is None or not all(isinstance(o, (int, float)) for o in operands):
            return
        after = self.nodes[-1].name if self.nodes else ""
        self.comparisons.append(Comparison(name, tuple(map(self.encode, operands)), bool(outcome), self.line(), after))

    # -- the end

    def output(self, value: object) -> Literal:
        """The returned structure, with references for tensors."""
        if value is None or isinstance(value, (Tensor, *_LITERALS)):
            return self.encode(value)
        if type(value) is tuple:
            return tuple(map(self.output, value))
        if type(value) is list:
            return list(map(self.output, value))
        if type(value) is dict:
            return {k: self.output(v) for k, v in value.items()}
        apart = taken_apart(value)
        if apart is not None and can_be_made(*apart):
            return replace(apart[0], values=tuple(map(self.output, apart[1])))
        raise TraceError(
            f"the model returns a {type(value).__name__}; return tensors in tuples, lists or dicts instead."
        )

    def finished(self) -> Trace:
        """What was recorded. Numbers that Python keeps beyond the run are plain ones from now on."""
        self.open = False
        return Trace(
            program=Program(tuple(self.nodes)),
            tensors=self.tensors,
            numbers=self.numbers,
            notes=self.notes,
            constants=self.constants,
            comparisons=tuple(self.comparisons),
            decided=tuple(self.decided),
            made=frozenset(self._lifted[i] for i in self._made if i in self._lifted),
        )


REQUIRES_GRAD = "torch.Tensor.requires_grad.__get__"
HOOKS = {"register_hook", "register_post_accumulate_grad_hook"}
SET_DATA = torch.Tensor.data.__set__  # type: ignore[attr-defined]
_LITERALS = (bool, int, float, complex, str, torch.dtype, torch.device, torch.layout, torch.memory_format)
_PLAIN = (EllipsisType, torch.dtype, torch.device, torch.layout, torch.memory_format)
_KEYWORDS = {word.lower() for word in keyword.kwlist}


def _hint(name: str) -> str:
    return name.removesuffix(".__get__").rsplit(".", 1)[-1]
