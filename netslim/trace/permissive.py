"""Watches the Python that stays Python."""

from __future__ import annotations

import contextlib
from collections import OrderedDict
from collections.abc import Iterator

import torch
from torch import Tensor
from torch.utils.hooks import RemovableHandle

from netslim.ir.inputs import every_tensor
from netslim.ir.program import Function, Literal, Struct
from netslim.layouts.axes import Const, Reason
from netslim.layouts.ties import freeze
from netslim.trace.tracer import SET_DATA, Tracer


class PermissiveTracer(Tracer):
    """Records what it can and lets everything pass: the Python that it watches runs as it is."""

    keeps = False

    def unstored(self, value: object) -> Literal:
        """A structure without contents stands for a value that no program could hold."""
        return Struct(type(value).__name__, (), ())

    def _tensor(self, value: Tensor) -> str:
        known = id(value) in self._node_of or id(value) in self._paths
        if known:
            return super()._tensor(value)
        name = self.add("input", "", "outside")
        self.claim(name, value)
        return name

    def unnamed(self, func: Function) -> str:
        return "unnamed"

    def differentiates(self, function: type[torch.autograd.Function]) -> None:
        """It runs as it is."""

    def hooked(self, func: Function) -> object:
        return RemovableHandle(OrderedDict())

    @contextlib.contextmanager
    def recomputed(self) -> Iterator[None]:
        yield

    def write(self, into: Tensor, value: object, where: str) -> str:
        with self.silenced():
            SET_DATA(into, value)
        return ""

    def device(self, device: torch.device) -> torch.device:
        return device

    def placeholder(self, name: str, tensor: Tensor) -> Tensor:
        self.engine.set(tensor, [Const(n, Reason("model input")) for n in tensor.shape])
        self.claim(self.add("input", name, name), tensor)
        return tensor

    def output(self, value: object) -> None:
        for tensor in every_tensor(value):
            for layout in self.engine.dims(tensor):
                freeze(layout, lambda: Reason("model output"))
