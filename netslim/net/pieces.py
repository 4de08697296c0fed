"""The steps between convolutions and matrix products as functions of their own, which a compiler makes kernels of.

A piece is one function for all places of a network where the same steps stand, whatever their widths: what it runs on
comes in as arguments, the kept parts of parameters too. So a compiler that takes sizes as symbols compiles a piece once
for every width and resolution. Convolutions, products and skipped blocks stay outside, in Python.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn.modules.batchnorm import _BatchNorm
from torch.utils._python_dispatch import _get_current_dispatch_mode

from netslim.ir.functions import last
from netslim.ir.program import Function, Node, is_listed
from netslim.layouts.slices import Kept, put_back, take
from netslim.net.codegen import compile_source
from netslim.net.tree import Table, is_slim
from netslim.ops import pointwise, reduce, shape

Compiler = Callable[[Function, str], Function]
"""Makes a compiled function of one that was printed, which is called by the steps that stand in it."""


class Pieces:
    """The pieces of a network, by what stands in them.

    compiler: compiles each of them, once. batch_norm: whether batch norm is part of pieces.
    """

    def __init__(self, compiler: Compiler, batch_norm: bool) -> None:
        self.compiler, self.batch_norm = compiler, batch_norm
        self.known: dict[tuple[str, ...], Piece] = {}

    def piece(self, source: str, layers: Sequence[nn.Module]) -> Piece:
        """The piece of this source, that calls layers like these."""
        key = (source, *map(_signature, layers))
        if key not in self.known:
            self.known[key] = Piece(source, layers, self.compiler)
        return self.known[key]

    def take(self, node: Node, layer: Callable[[str], nn.Module]) -> bool:
        """Whether a step can be part of one: elementwise, a reduction, a norm, or another form of a tensor."""
        return self._layer(layer(node.target)) if node.op == "module" else node.op == "call" and _is_taken(node.target)

    def _layer(self, layer: nn.Module) -> bool:
        if isinstance(layer, _BatchNorm):
            return self.batch_norm and layer.momentum is not None and is_slim(layer)
        if isinstance(layer, (nn.LayerNorm, nn.RMSNorm)):
            return is_slim(layer)
        return type(layer).__module__ == nn.ReLU.__module__ and not (isinstance(layer, nn.RReLU) or layer._parameters)


class Piece:
    """Steps of a forward, compiled."""

    def __init__(self, source: str, layers: Sequence[nn.Module], compiler: Compiler) -> None:
        self.steps = ", ".join(_said(source, layers))
        self.function = compile_source(source, {"called": called})
        self.compiled = compiler(self.function, self.steps)
        self.stand_ins: dict[tuple[object, ...], nn.Module] = {}

    def __call__(
        self, layers: Sequence[nn.Module], run: Sequence[bool], sizes: Sequence[int], training: bool, *values: object
    ) -> tuple[Any, ...]:
        """What the steps make of `values`. They run as they are without gradients, and where somebody looks on."""
        if not torch.is_grad_enabled() or torch.compiler.is_compiling() or _get_current_dispatch_mode() is not None:
            results: tuple[Any, ...] = self.function(layers, [None] * len(layers), run, sizes, training, *values)
            return results
        tensors = [_kept(layer) for layer in layers]
        stand_ins = [self._stand_in(i, layer) for i, layer in enumerate(layers)]
        results = self.compiled(stand_ins, tensors, run, sizes, training, *values)
        for layer, kept in zip(layers, tensors, strict=True):
            _write_back(layer, kept)
        return results

    def _stand_in(self, place: int, layer: nn.Module) -> nn.Module:
        """A layer whose tensors come in from outside, cut: nothing in it depends on widths."""
        kept = _cuts(layer)
        whole = kept is None and isinstance(layer, _BatchNorm)
        key = (place, layer.training, whole, kept is not None and kept.track)
        if key not in self.stand_ins:
            made = type(layer).__new__(type(layer))
            tables = {table: _empty(vars(layer)[table]) for table in ("_parameters", "_buffers")}
            made.__dict__.update({**vars(layer), **tables})
            if is_slim(layer):
                vars(made)["kept"] = None if whole else Kept(track=kept is not None and kept.track)
            self.stand_ins[key] = made
        return self.stand_ins[key]


def _empty(table: Table) -> Table:
    """Something for every tensor, which the piece never reads."""
    return {name: None if tensor is None else torch.empty(0) for name, tensor in table.items()}


def called(layer: nn.Module, tensors: dict[str, Tensor] | None) -> Callable[..., object]:
    """How a piece calls a layer: with these tensors in the place of its own, if there are any."""
    return layer if tensors is None else lambda *args, **kwargs: functional_call(layer, tensors, args, kwargs)


def _cuts(layer: nn.Module) -> Kept | None:
    return vars(layer)["kept"] if is_slim(layer) and "kept" in vars(layer) else None


def _kept(layer: nn.Module) -> dict[str, Tensor]:
    """The kept parts of a layer's tensors; a whole parameter as a view, as torch.compile knows one by its sizes."""
    kept = _cuts(layer)
    cuts = {} if kept is None else kept.tensors
    every: dict[str, Tensor | None] = {**layer._parameters, **layer._buffers}
    return {
        name: tensor.view_as(tensor)
        if isinstance(tensor, nn.Parameter) and name not in cuts
        else take(tensor, cuts.get(name))
        for name, tensor in every.items()
        if tensor is not None
    }


def _write_back(layer: nn.Module, tensors: Mapping[str, Tensor]) -> None:
    """Running statistics of scattered channels are a copy, which is written back."""
    kept = _cuts(layer)
    if kept is not None and kept.track and layer.training:
        for name in kept.tensors.keys() & layer._buffers.keys():
            whole = layer._buffers[name]
            assert whole is not None, "it is cut"
            put_back(whole, kept.tensors[name], tensors[name])


def _signature(layer: nn.Module) -> str:
    """What tells layers apart for a piece: all but their tensors' entries and sizes."""
    plain = {
        name: value for name, value in vars(layer).items() if isinstance(value, (bool, int, float, str, type(None)))
    }
    plain |= {name: len(value) for name, value in vars(layer).items() if name == "normalized_shape"}
    own = sorted(
        name for table in (layer._parameters, layer._buffers) for name, tensor in table.items() if tensor is not None
    )
    return repr((type(layer).__qualname__, own, sorted((n, repr(v)) for n, v in plain.items() if n not in _OWN)))


_OWN = {"training", "kept", "num_features"}
"""Of a layer: what a stand-in has of its own, and what its forward does not read."""


def _said(source: str, layers: Sequence[nn.Module]) -> Iterable[str]:
    """The steps by their names, for people."""
    for line in source.splitlines():
        _, equals, call = line.partition(" = called(layers[")
        if equals:
            yield type(layers[int(call.partition("]")[0])]).__name__.removeprefix("Slim")
        elif "(" in line and " = " in line:
            yield last(line.partition(" = ")[2].partition("(")[0])


_NAMES = {name.partition(".")[0] for family in (pointwise, reduce, shape) for name in family.RULES}
_NAMES |= {"layer_norm", "rms_norm", "narrow"}


def computes(node: Node) -> bool:
    """Whether a step makes entries, and no other form or copy of a tensor alone."""
    return node.op == "module" or last(node.target) not in _FORMS


_FORMS = {name.partition(".")[0] for name in shape.RULES} | {"narrow", "clone", "contiguous"}


def _is_taken(target: str) -> bool:
    """Whether a function is one: by its family, or by torch's tag; no random one, and none of Python's numbers."""
    found = getattr(torch.ops.aten, last(target), None)
    if not (is_listed(target) and target.startswith("torch.") and isinstance(found, torch._ops.OpOverloadPacket)):
        return False
    tags = {tag for name in found.overloads() for tag in getattr(found, name).tags}
    return torch.Tag.nondeterministic_seeded not in tags and (torch.Tag.pointwise in tags or last(target) in _NAMES)
