"""The masked network: the full network with zeros for the dropped channels of every parameter.

It knows nothing of how a sub-network runs. Results that by design are statistics of the kept channels (layer norm,
softmax over channels, contractions of two activations) are computed from kept entries here as well.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping, Sequence
from typing import TypeVar

import torch
from torch import Tensor
from torch.nn import Parameter
from torch.utils._pytree import tree_map_only

from netslim.ir.functions import written_parameters
from netslim.ir.inputs import every_tensor
from netslim.ir.program import LIFTED
from netslim.layouts.axes import (
    Const,
    Elastic,
    Layout,
    Misaligned,
    Reason,
    Runs,
    count,
    is_fixed,
    positions,
    replaced,
    resolve,
)
from netslim.layouts.engine import Call, Dims, Engine, Operator, Rule
from netslim.layouts.slices import make_cut, take
from netslim.net.runtime import named_tensors, runtime
from netslim.net.slimnet import SlimNet
from netslim.net.subnet import IndexSets
from netslim.proof.blame import called
from netslim.trace import state

T = TypeVar("T")


def tensors_of(value: object) -> list[Tensor]:
    """Every tensor in a nested value."""
    return list(every_tensor(value))


def own(inputs: T) -> T:
    """Copies of all tensors in containers of them."""
    copies: T = tree_map_only(Tensor, Tensor.clone, inputs)
    return copies


def observed(net: SlimNet, inputs: Mapping[str, object] | Sequence[Tensor]) -> tuple[list[Tensor], list[Tensor]]:
    """Output tensors of a run, and those of every region inside it in the order of their calls.

    inputs: arguments by name, or all tensors in order. The run has copies of its own, since a network may write into
    them.
    """
    seen: list[Tensor] = []
    handles = [
        module.register_forward_hook(lambda _module, _args, out: seen.extend(every_tensor(out)))
        for module in runtime(net).regions.values()
    ]
    try:
        inputs = own(inputs)
        out = called(net, **inputs) if isinstance(inputs, Mapping) else called(net, *inputs)
    finally:
        for handle in handles:
            handle.remove()
    return tensors_of(out), seen


def everything(net: SlimNet, inputs: Mapping[str, object]) -> list[Tensor]:
    """What `observed` gives, as one list."""
    outputs, inside = observed(net, inputs)
    return outputs + inside


def masked_run(
    net: SlimNet,
    inputs: Mapping[str, object] | Sequence[Tensor],
    kept: Sequence[Runs],
    run: tuple[bool, ...] = (),
    *,
    buffers: bool = True,
) -> list[Tensor]:
    """Outputs of the full network with zeros for the dropped channels of every parameter and buffer.

    Without `buffers` only parameters get zeros: a network that divides by a buffer has no other masked form. What a
    block gives that does not run (see `run`, one flag per block) is multiplied by zero. The outputs are followed by the
    kept channels of the outputs of every region inside the network (see `observed`).
    Raises Misaligned, with all the groups, where a run does what the plan does not allow for.
    """
    sets = IndexSets(dict(enumerate(kept)))
    engine = MaskedEngine(runtime(net).rules, sets)
    tensors = named_tensors(net)
    skipped = {block.name: 0.0 for block, runs in zip(runtime(net).plan.blocks, run, strict=False) if not runs}
    with unmoved(net), _zeros(net, tensors, sets, buffers), net.scaled(skipped):
        for name, layouts in runtime(net).plan.layouts.items():
            engine.set(tensors[name], layouts)
        for tensor in tensors_of(inputs):
            engine.set(tensor, list(map(Const, tensor.shape)))
        with torch.inference_mode(), engine:
            outputs, inside = observed(net, inputs)
        if engine.refused:
            raise Misaligned(engine.refused)
        narrow = [take(t, make_cut(tuple(map(sets.partial, engine.dims(t))))) for t in inside]
        return [t.clone() for t in (*outputs, *narrow)]


@contextlib.contextmanager
def unmoved(net: SlimNet) -> Iterator[None]:
    """What runs write to buffers and parameters, and keep in Python, is undone when it closes: runs can be compared."""
    before = [(tensor, tensor.data, tensor.detach().clone()) for tensor in _movable(net)]
    python = None if runtime(net).shell is None else state.kept(runtime(net).top)
    try:
        yield
    finally:
        if python is not None:
            python.put_back()
        with torch.no_grad():
            for tensor, data, value in before:
                tensor.data = data
                tensor.copy_(value)


def _movable(net: SlimNet) -> Iterator[Tensor]:
    """Buffers, and the parameters that a run may write to: by a step of a program, or by Python outside of them."""
    yield from net.buffers()
    plan, python = runtime(net).plan, runtime(net).shell is not None
    programs = {id(p): p for region in plan.regions.values() for p in region.programs.values()}
    written = {path for program in programs.values() for path in written_parameters(program).values()}
    for name, parameter in net.named_parameters():
        outside = python and not any(name.startswith(f"{path}.") for path in plan.regions)
        if outside or name in written:
            yield parameter


@contextlib.contextmanager
def _zeros(net: SlimNet, tensors: Mapping[str, Tensor], sets: IndexSets, buffers: bool) -> Iterator[None]:
    """Parameters and buffers with zeros for their dropped channels, until it closes."""
    before: dict[int, tuple[Tensor, Tensor]] = {}
    with torch.no_grad():
        for name, layouts in runtime(net).plan.layouts.items():
            tensor, found = tensors[name], [sets.partial(d) for d in layouts]
            constant = LIFTED in name.split(".") or not tensor.is_floating_point()
            constant = constant or not (buffers or isinstance(tensor, Parameter))
            if id(tensor) not in before and not constant and any(f is not None for f in found):
                before[id(tensor)] = tensor, tensor.data
                tensor.data = _cut(tensor.data, found) if isinstance(tensor, Parameter) else _masked(tensor.data, found)
    try:
        yield
    finally:
        for tensor, data in before.values():
            tensor.data = data


def _cut(tensor: Tensor, index_sets: Sequence[Runs | None]) -> Tensor:
    """A copy of a tensor, with zeros."""
    tensor = tensor.clone()
    for dim, found in enumerate(index_sets):
        end = 0
        for start, length in (*(found or ()), (tensor.shape[dim], 0)) if found is not None else ():
            tensor.narrow(dim, end, start - end).zero_()
            end = start + length
    return tensor


def _masked(tensor: Tensor, index_sets: Sequence[Runs | None]) -> Tensor:
    """The same where entries may be infinite: they show as such."""
    for dim, found in enumerate(index_sets):
        if found is not None:
            keep = torch.zeros(tensor.shape[dim], dtype=tensor.dtype)
            for start, length in found:
                keep[start : start + length] = 1
            tensor = tensor * keep.view(-1, *[1] * (tensor.dim() - dim - 1))
    return tensor


class MaskedEngine(Engine):
    """Runs the masked network; statistics over channels are redone over the kept ones."""

    def __init__(self, rules: Mapping[Operator, Rule], sets: IndexSets) -> None:
        super().__init__(rules)
        self.sets = sets
        self.refused: dict[int, Reason] = {}  # groups that the run cannot do without

    def run(self, call: Call, rule: Rule) -> object:
        super().run(call, rule)
        if call.mixes:
            self._redo(call)
        return call.out

    def typed(self, call: Call, rule: Rule) -> None:
        while True:
            try:
                return super().typed(call, rule)
            except Misaligned as error:  # go on as if these were frozen, so that one run finds all
                if error.groups.keys() <= self.refused.keys():
                    raise
                self.refused = error.groups | self.refused
                call.mixes = []

    def dims(self, tensor: Tensor) -> Dims:
        found = super().dims(tensor)
        return [replaced(layout, self._frozen) for layout in found] if self.refused else found

    def _frozen(self, leaf: Elastic) -> Layout:
        return Const(leaf.size, self.refused[leaf.group]) if leaf.group in self.refused else leaf

    def _redo(self, call: Call) -> None:
        for mixed, redo in call.mixes:
            result = redo(Taker(self, mixed))
            for out, part in zip(call.outs, tensors_of(result), strict=False):
                out.copy_(self._scattered(out, part))

    def _scattered(self, out: Tensor, part: Tensor) -> Tensor:
        """`part`, which holds kept entries only, at its places in a tensor like `out`; zeros elsewhere."""
        for dim, layout in enumerate(self.dims(out)):
            kept = self.sets.partial(layout) if not is_fixed(layout) else None
            if kept is not None and part.shape[dim] == count(kept) != out.shape[dim]:
                shape = [*part.shape[:dim], out.shape[dim], *part.shape[dim + 1 :]]
                index = torch.tensor(list(positions(kept)))
                part = torch.zeros(shape, dtype=part.dtype).index_copy(dim, index, part)
        return part


class Taker:
    """take(t): a tensor without its dropped entries along the dims that a statistic runs over."""

    def __init__(self, engine: MaskedEngine, mixed: Sequence[tuple[Tensor, int]]) -> None:
        self.engine, self.dims = engine, mixed

    def __call__(self, tensor: Tensor) -> Tensor:
        layouts = self.engine.dims(tensor)
        named = {d for t, d in self.dims if t is tensor}
        return take(
            tensor, make_cut(tuple(self.engine.sets.partial(d) if i in named else None for i, d in enumerate(layouts)))
        )

    def count(self, layout: Layout) -> int:
        """How many channels of a layout are kept."""
        return count(self.engine.sets.of(resolve(layout)))
