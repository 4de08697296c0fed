"""Writes down the program of a run: every torch call and every size that the model's Python reads.

The Python sees real tensors and real integers; sizes are integers that remember where they came from, so that
arithmetic on them is recorded too.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import torch
from torch import Tensor
from torch.utils._pytree import tree_leaves, tree_map_only

from netslim.errors import TraceError
from netslim.ir.functions import CONVERSIONS, ENTRIES, MAKERS, SIZES, effect, gives_values
from netslim.ir.program import Function, Program, name_of
from netslim.layouts.axes import Const, Reason
from netslim.layouts.engine import Args, Kwargs
from netslim.trace.contexts import attention_in_python
from netslim.trace.dtypes import WIDER, tells_dtype
from netslim.trace.numbers import TracedInt, is_computed, plain, traced
from netslim.trace.result import Trace
from netslim.trace.values import with_values
from netslim.trace.writing import Writing


class Tracer(Writing):
    """Records the torch calls of one forward."""

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
            return self._learnt(func, args, kwargs, out)
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

    # -- dtypes

    def _learnt(self, func: Function, args: Args, kwargs: Kwargs, out: object) -> object:
        """What Python is told of a tensor; noted where that tells the dtype, as `element_size` and `type` do."""
        given = [t for t in tree_leaves((args, kwargs)) if isinstance(t, Tensor) and t.dtype in WIDER]
        if given and tells_dtype(func, args, kwargs, out):
            self.told(given[0])
        return out.replace("torch.meta.", "torch.") if isinstance(out, str) else out  # as it is in memory

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

    # -- the end

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
            reads=tuple(self.reads),
            made=frozenset(self._lifted[i] for i in self._made if i in self._lifted),
        )


REQUIRES_GRAD = "torch.Tensor.requires_grad.__get__"
HOOKS = {"register_hook", "register_post_accumulate_grad_hook"}
SET_DATA = torch.Tensor.data.__set__  # type: ignore[attr-defined]


def _hint(name: str) -> str:
    return name.removesuffix(".__get__").rsplit(".", 1)[-1]
