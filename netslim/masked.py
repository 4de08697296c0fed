"""The masked network: the full program with zeros for the dropped channels of every parameter.

It knows nothing of how a sub-network runs. Results that by design are statistics of the kept channels (layer norm,
softmax over channels, contractions of two activations) are computed from kept entries here as well.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from netslim.axes import Const, Layout, Runs, count, is_fixed, positions, resolve
from netslim.engine import Call, Engine, Rule
from netslim.inputs import every_tensor
from netslim.kept import make_cut, take
from netslim.ops import RULES
from netslim.slimnet import SlimNet
from netslim.subnet import IndexSets
from netslim.trace import LIFTED


def tensors_of(value: Any) -> list[Tensor]:
    """Every tensor in a nested value."""
    return list(every_tensor(value))


def masked_run(net: SlimNet, inputs: Mapping[str, Any] | Sequence[Tensor], kept: Sequence[Runs]) -> list[Tensor]:
    """Outputs of the full network with zeros for the dropped channels of every parameter and buffer.

    inputs: arguments by name, or all tensors in order.
    """
    sets = IndexSets(dict(enumerate(kept)))
    masked: SlimNet = copy.deepcopy(net)
    engine = MaskedEngine(RULES, sets)
    tensors = dict(masked.named_parameters(remove_duplicate=False)) | dict(masked.named_buffers(remove_duplicate=False))
    for name, layouts in net.plan.layouts.items():
        with torch.no_grad():
            if tensors[name].is_floating_point() and LIFTED not in name.split("."):
                tensors[name].copy_(_masked(tensors[name], [sets.partial(d) for d in layouts]))
        engine.set(tensors[name], layouts)
    for tensor in tensors_of(inputs):
        engine.set(tensor, list(map(Const, tensor.shape)))
    with torch.inference_mode(), engine:
        out = masked(**inputs) if isinstance(inputs, Mapping) else masked(*inputs)
        return [t.clone() for t in tensors_of(out)]


def _masked(tensor: Tensor, index_sets: Sequence[Runs | None]) -> Tensor:
    mask = torch.ones_like(tensor)
    for dim, found in enumerate(index_sets):
        if found is not None:
            keep = torch.zeros(tensor.shape[dim], dtype=tensor.dtype)
            keep[list(positions(found))] = 1
            mask *= keep.view(-1, *[1] * (tensor.dim() - dim - 1))
    return tensor * mask


class MaskedEngine(Engine):
    """Runs the masked network; statistics over channels are redone over the kept ones."""

    def __init__(self, rules: Mapping[Any, Rule], sets: IndexSets) -> None:
        super().__init__(rules)
        self.sets = sets

    def run(self, call: Call, rule: Rule) -> Any:
        super().run(call, rule)
        if call.mixes:
            self._redo(call)
        return call.out

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
