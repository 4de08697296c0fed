"""Running a region: its programs compiled into functions, and its arguments flattened to the tensors they take."""

from __future__ import annotations

import keyword
from collections.abc import Callable, Sequence
from types import SimpleNamespace
from typing import Any

from torch import Tensor, nn

from netslim.inputs import arguments
from netslim.kept import put_back, take
from netslim.ops import FUNCTIONS
from netslim.plan import Block, Region
from netslim.printing import Guards, Printer, compile_source

Run = dict[bool, Callable[..., Any]]
_OWN = SimpleNamespace(**{name.removeprefix("netslim."): fn for name, fn in FUNCTIONS.items()}, put_back=put_back)


def compiled(
    region: Region,
    prefix: str,
    taken: Callable[[str], bool],
    blocks: Sequence[Block] = (),
    through: Sequence[Callable[[Tensor], Tensor]] = (),
) -> Run:
    """The region's forward by mode: functions of the module at `prefix` and the flat input tensors.

    blocks: all blocks of the network, in the order of the point's `run`. taken: whether a name of a child or parameter
    is one that the module's class uses itself. through: what the programs call by that name.
    """

    def path(full: str, kind: str) -> str:
        return _expression(full.removeprefix(prefix), kind, taken)

    def function(mode: bool) -> Callable[..., Any]:
        printer = Printer(path)
        source = printer.source(region.programs[mode], _guards(prefix.removesuffix("."), mode, blocks))
        return compile_source(source, {"take": take, "netslim": _OWN, "through": through, **printer.constants})

    train = function(True)
    return {True: train, False: train if region.same else function(False)}


def _guards(path: str, mode: bool, blocks: Sequence[Block]) -> Guards:
    guards = Guards()
    for i, block in enumerate(blocks):
        if block.region == path:
            skip = block.skips[mode]
            guards.ends[skip.end] = i, skip.instead, skip.value
            for name in skip.body:
                guards.around[name] = (*guards.around.get(name, ()), i)
    return guards


def _expression(path: str, kind: str, taken: Callable[[str], bool]) -> str:
    """The Python expression of a module or parameter on `self`."""
    head, *rest = path.split(".")
    table = "self._modules" if rest or kind == "module" else "(self._parameters | self._buffers)"
    expr = f"{table}[{head!r}]" if taken(head) or not head.isidentifier() else f"self.{head}"
    for part in rest:
        expr = f"{expr}.{part}" if part.isidentifier() and not keyword.iskeyword(part) else f"getattr({expr}, {part!r})"
    return expr


def flattened(region: Region, args: tuple[Any, ...], kwargs: dict[str, Any]) -> list[Tensor]:
    """The tensors of a call's arguments, in order. Raises InputError where they are not those of the example.

    What was no tensor in the example is part of the program: it must have the same value.
    """
    return arguments(region.inputs, args, kwargs)


class Followed:
    """The forward of a region inside a module that runs its own Python: put in the place of the module's own."""

    def __init__(self, module: nn.Module, region: Region, run: Run) -> None:
        self.module, self.region, self.run = module, region, run

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        mode = self.module.training
        return self.run[mode](self.module, *flattened(self.region, args, kwargs))

    def __deepcopy__(self, memo: dict[int, Any]) -> None:
        """A copied network makes its own."""
