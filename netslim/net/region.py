"""Running a region: its programs compiled into functions, and its arguments flattened to the tensors they take."""

from __future__ import annotations

import copy
from collections.abc import Callable, Collection, Sequence
from contextlib import AbstractContextManager, nullcontext
from functools import partial

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from netslim.errors import InputError
from netslim.ir.inputs import arguments
from netslim.ir.plan import Block, Plan, Region
from netslim.ir.program import Function, Size, leaves
from netslim.layouts.slices import put_back, take
from netslim.net.codegen import Guards, Printer, Words, compile_source, is_printable
from netslim.net.pieces import Pieces
from netslim.net.piecing import PiecePrinter
from netslim.net.subnet import Point
from netslim.net.tree import Tree
from netslim.trace.meta import at as find

Run = dict[bool, Function]
At = Callable[[Point], AbstractContextManager[None]]


def compiled(
    region: Region,
    path: str,
    module: nn.Module,
    blocks: Sequence[Block] = (),
    through: Sequence[Callable[[Tensor], Tensor]] = (),
    at: At = lambda _: nullcontext(),
    pieces: Pieces | None = None,
) -> Run:
    """The forward of the region at `path`, by mode: functions of the `module` there, a point, and flat input tensors.

    blocks: all blocks of the network, in the order of the point's `run`. through: what the programs call by that name.
    at: brings the layers to a point for a while. pieces: those that training mode runs, compiled.
    """

    def expression(full: str, kind: str, words: Words) -> str:
        return _expression(full.removeprefix(f"{path}." if path else ""), kind, module, taken, words)

    def layer(full: str) -> nn.Module:
        return find(module, full.removeprefix(f"{path}." if path else ""))

    def function(mode: bool) -> Function:
        printer = PiecePrinter(expression, layer, pieces) if pieces and mode else Printer(expression)
        source = printer.source(region.programs[mode], _guards(path, mode, blocks))
        names = {"take": take, "put_back": put_back, "through": through, "again": partial(again, at)}
        return compile_source(source, {**names, **printer.constants})

    taken = None if path else _CONTAINERS | set(dir(type(module)))
    train = function(True)
    return {True: train, False: train if region.same and not pieces else function(False)}


def _guards(path: str, mode: bool, blocks: Sequence[Block]) -> Guards:
    guards = Guards()
    for i, block in enumerate(blocks):
        if block.region == path:
            for skip in block.skips[mode].parts:
                guards.ends[skip.end] = i, skip.instead, skip.value
                for name in skip.body:
                    guards.around[name] = (*guards.around.get(name, ()), i)
    return guards


_CONTAINERS = frozenset(
    name
    for made in (Tree(), nn.Sequential(), nn.ModuleList(), nn.ModuleDict(), nn.ParameterList(), nn.ParameterDict())
    for name in dir(made)
)


def _expression(path: str, kind: str, module: nn.Module, taken: Collection[str] | None, words: Words) -> str:
    """The Python expression of a module or parameter below `module`, which is `self`.

    A printable name is an attribute unless it is `taken` by what containers are; where that is None, none is (below
    `module` are classes of the model's).
    """
    parts, expr = path.split("."), "self"
    for i, part in enumerate(parts):
        last = kind == "param" and i == len(parts) - 1
        table = "_modules" if not last else "_parameters" if part in module._parameters else "_buffers"
        if taken is not None and is_printable(part) and part not in taken:
            expr = f"{expr}.{part}"
        elif part.isdecimal() and part.isascii() and not last:
            expr = f"{expr}._modules[{part!r}]"
        else:
            expr = f"{expr}.{table}[{words.place(part)}]"
        module = module if last else module._modules[part]  # type: ignore[assignment]
    return expr


def again(at: At, point: Point, stretch: Function, *args: object) -> object:
    """Run a stretch, and run it again in the backward pass, at the same point, instead of keeping what it computes."""

    def run(*given: object) -> object:
        with at(point):
            return stretch(*given)

    if not torch.is_grad_enabled():
        return stretch(*args)
    return checkpoint(stretch if torch.compiler.is_compiling() else run, *args, use_reentrant=False)


def flattened(region: Region, args: tuple[object, ...], kwargs: dict[str, object]) -> list[Tensor]:
    """The tensors of a call's arguments, in order. Raises InputError where they are not those of the example.

    What was no tensor in the example is part of the program: it must have the same value.
    """
    return arguments(region.known, args, kwargs)


class RegionForward:
    """The forward of a region inside a module that runs its own Python: put in the place of the module's own.

    Called with other arguments than those that were followed, it is the module's own, where that is right.

    It holds all that it runs by, so that a copy of the module alone goes on at the width that it was copied at.
    """

    point: Point

    def __init__(self, module: nn.Module, path: str, plan: Plan, run: Run | None = None) -> None:
        self.module, self.path, self.plan, self.run = module, path, plan, run

    def __call__(self, *args: object, **kwargs: object) -> object:
        region = self.plan.regions[self.path]
        if self.run is None:
            self.run = compiled(region, self.path, self.module, self.plan.blocks)
        try:
            tensors = flattened(region, args, kwargs)
        except InputError:
            if not self._is_python_right():
                raise
            return type(self.module).forward(self.module, *args, **kwargs)
        return self.run[self.module.training](self.module, self.point, *tensors)

    def _is_python_right(self) -> bool:
        """Whether the module's own forward is, at this point: nothing in it is cut or counted, but by its layers."""
        region = self.plan.regions[self.path]
        nodes = [node for program in region.programs.values() for node in program]
        counted = any(isinstance(leaf, Size) for node in nodes for leaf in leaves((node.args, node.kwargs)))
        cut = any(node.op == "param" and node.args for node in nodes)
        return self.point.layers is None or (not (counted or cut) and all(self.point.run))

    def __deepcopy__(self, memo: dict[int, object]) -> RegionForward:
        made = RegionForward(copy.deepcopy(self.module, memo), self.path, self.plan)
        made.point = self.point
        return made

    def __getstate__(self) -> dict[str, object]:
        return {**self.__dict__, "run": None}
