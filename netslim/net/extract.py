"""A sub-network as a plain module: the network's own layers with smaller weights, and its program as a class's forward.

The class is made from printed source that needs torch alone, and its objects are pickled with that source: what
`torch.load` and `copy.deepcopy` give runs the same program, in both modes, where there is no netslim.
"""

from __future__ import annotations

import builtins
import copy
import textwrap
from collections.abc import Mapping
from dataclasses import dataclass, field
from hashlib import sha256
from typing import Any, overload

from torch import Tensor, nn

from netslim.ir.plan import Region
from netslim.ir.program import LIFTED, RESERVED, Program, is_word
from netslim.ir.transform import skips_of, without
from netslim.layouts.slices import Cut, Kept, take
from netslim.net import places
from netslim.net.runtime import runtime
from netslim.net.standalone import OWN, Preamble, Standalone
from netslim.net.subnet import Point
from netslim.net.tree import Table, walk
from netslim.ops import MODULES
from netslim.trace.meta import at

Programs = Mapping[bool, Program]
PLAIN = {slim: (plain, shrink) for plain, (slim, shrink) in MODULES.items()}


def extract(net: nn.Module, point: Point) -> nn.Module:
    """The plain network at `point`, with copies of the kept weights; it follows .train() and .eval().

    Layers and tensors are under the original's names; constants of forward are buffers called constant_0 and so on.
    Where forward could not be followed as a whole, the original's own classes, whose regions run programs.
    """
    source = Source(net, point)
    if runtime(net).plan.whole is None:
        return _shell(source)
    programs = source.programs("")
    root = _branch(source, "", net, _used(programs))
    constants = _hold_constants(source, "", root, programs)
    made = _class_name(runtime(net).plan.model)
    text = _printed(source, "", root, programs, constants, made)
    return with_state(text, made, root.__dict__)


@dataclass
class Source:
    """A converted network at a point, and the parts of its tensors made so far: shared weights stay shared."""

    net: nn.Module
    point: Point
    parts: dict[int, Tensor] = field(default_factory=dict)
    layers: dict[int, nn.Module] = field(default_factory=dict)

    @overload
    def part(self, tensor: nn.Parameter, cut: Cut | None) -> nn.Parameter: ...
    @overload
    def part(self, tensor: Tensor, cut: Cut | None) -> Tensor: ...
    def part(self, tensor: Tensor, cut: Cut | None) -> Tensor:
        """A copy of what is kept of a parameter or buffer."""
        if id(tensor) not in self.parts:
            part = take(tensor.detach(), cut).clone()
            is_parameter = isinstance(tensor, nn.Parameter)
            self.parts[id(tensor)] = nn.Parameter(part, tensor.requires_grad) if is_parameter else part
        return self.parts[id(tensor)]

    def layer(self, path: str) -> nn.Module:
        """The plain torch layer with the kept part of a slim one's weights."""
        layer = at(self.net, path)
        if id(layer) not in self.layers:
            self.layers[id(layer)] = self._plain(path, layer)
        return self.layers[id(layer)]

    def _plain(self, path: str, layer: nn.Module) -> nn.Module:
        if type(layer) not in PLAIN:
            return copy.deepcopy(layer)
        kept = (None if self.point.layers is None else self.point.layers.get(path)) or Kept()
        plain_class, shrink = PLAIN[type(layer)]
        made = plain_class.__new__(plain_class)
        made.__dict__.update({k: copy.copy(v) for k, v in layer.__dict__.items() if k != "kept"})
        tables: tuple[Table, Table] = (made._parameters, made._buffers)
        for table in tables:
            for attr, tensor in table.items():
                if tensor is not None:
                    table[attr] = self.part(tensor, kept.tensors.get(attr))
        shrink(made, kept)
        return made

    def cut(self, name: str) -> Cut | None:
        """What is kept of a tensor that programs read."""
        cuts = runtime(self.net).plan.cuts
        return self.point.cuts[cuts.index(name)] if name in cuts else None

    def programs(self, path: str) -> dict[bool, Program]:
        """A region's programs without the blocks that do not run, by mode."""
        plan, run = runtime(self.net).plan, self.point.run
        region: Region = plan.regions[path]
        return {mode: without(region.programs[mode], skips_of(plan, path, mode, run)) for mode in (True, False)}


# ---------------------------------------------------------------------------------------------- what it holds


def _used(programs: Programs) -> dict[str, set[str]]:
    """Paths of what the programs read: layers, tensors, and all that is above them."""
    nodes = [node for program in programs.values() for node in program]
    paths = {kind: {node.target for node in nodes if node.op == kind} for kind in ("module", "param")}
    parts = [path.split(".") for found in paths.values() for path in found]
    return {**paths, "above": {".".join(each[:i]) for each in parts for i in range(1, len(each) + 1)}}


def _branch(source: Source, path: str, module: nn.Module, used: Mapping[str, set[str]]) -> nn.Module:
    """What is used of a module of the network and of all below it, in the network's order."""
    if path in used["module"]:
        return source.layer(path)
    made = type(module)() if type(module) in (nn.Sequential, nn.ModuleList, nn.ModuleDict) else nn.Module()
    made.training = module.training
    below = f"{path}." if path else ""
    for kind in ("_parameters", "_buffers"):
        table, own = module.__dict__[kind], made.__dict__[kind]
        for name, tensor in table.items():
            if tensor is not None and below + name in used["param"]:
                own[name] = source.part(tensor, source.cut(below + name))
    made._non_persistent_buffers_set = module._non_persistent_buffers_set & made._buffers.keys()
    for name, child in module._modules.items():
        if child is not None and below + name in used["above"] and name != LIFTED:
            made._modules[name] = _branch(source, below + name, child, used)
    return made


def _hold_constants(source: Source, path: str, root: nn.Module, programs: Programs) -> dict[str, str]:
    """Buffers of `root` for the constants of the programs, outside the state_dict: {path in the network: name}."""
    prefix, names = f"{path}.{LIFTED}." if path else f"{LIFTED}.", dict[str, str]()
    targets = [node.target for program in programs.values() for node in program if node.op == "param"]
    for target in dict.fromkeys(target for target in targets if target.startswith(prefix)):
        number = len(names)
        while hasattr(root, f"constant_{number}"):
            number += 1
        names[target] = f"constant_{number}"
        held: Table = at(source.net, target.rpartition(".")[0])._buffers
        part = source.part(held[target.rpartition(".")[2]], source.cut(target))
        root.register_buffer(names[target], part, persistent=False)
    return names


# ------------------------------------------------------------------------------------------------ its source


def _class_name(model: str) -> str:
    taken = OWN | RESERVED | vars(builtins).keys()
    return model if is_word(model) and model[:1] != "_" and model not in taken else "Extracted"


def _printed(
    source: Source,
    path: str,
    root: nn.Module,
    programs: Programs,
    constants: Mapping[str, str],
    name: str,
) -> str:
    """Source of the class `name`, whose forward runs the programs; for a region, of what stands for its forward."""
    prefix, whole, preamble = f"{path}." if path else "", not path, Preamble()

    def path_of(full: str, kind: str) -> str:
        return places.place(constants.get(full, full.removeprefix(prefix)), kind, root, whole)

    printer = Standalone(path_of, source.point.sizes, preamble, name)
    function = printer.function(programs, runtime(source.net).plan.regions[path].known)
    opening = _WHOLE.format(name=name) if whole else _PART.format(name=name, function=function)
    method = textwrap.indent(function, "    ") if whole else ""
    return "\n".join(preamble.lines(function)) + f"\n\n\n{opening}{method}{_PICKLED.replace('NAME', name)}"


_WHOLE = '''class {name}(nn.Module):
    """A network that needs torch alone; cut out of a larger one."""

'''
_PART = '''{function}

class {name}:
    """The forward of a module whose class is the model's own."""

    def __init__(self, module):
        self.module = module

    def __call__(self, *args, **kwargs):
        return forward(self.module, *args, **kwargs)
'''
_PICKLED = """
    __module__ = "extracted"

    def __reduce_ex__(self, protocol):
        return eval, (make, {"source": source, "filename": filename, "make": make}), self.__dict__

    def __deepcopy__(self, memo):
        made = memo[id(self)] = type(self).__new__(type(self))
        made.__dict__.update(copy.deepcopy(self.__dict__, memo))
        return made


import copy
import linecache
import weakref

linecache.cache[filename] = len(source), None, source.splitlines(True), filename
weakref.finalize(NAME, linecache.cache.pop, filename, None).atexit = False
"""


def with_state(source: str, name: str, state: Mapping[str, Any]) -> Any:
    """An object of the class `name` of the source, with these attributes."""
    filename = f"<extracted {name} {sha256(source.encode()).hexdigest()[:12]}>"
    make = f"exec(compile(source, filename, 'exec'), globals()) or {name}.__new__({name})"
    made = eval(make, {"source": source, "filename": filename, "make": make})
    made.__dict__.update(state)
    return made


# -------------------------------------------------------------------------------- networks that run their Python


def _shell(source: Source) -> nn.Module:
    """The original's own classes, whose regions run programs."""
    net = source.net
    shell = _plain_shell(source)
    for path in runtime(net).plan.regions:
        module, programs = at(shell, path), source.programs(path)
        module._modules.pop(LIFTED, None)
        constants = _hold_constants(source, path, module, programs)
        name = _class_name(type(module).__name__)
        text = _printed(source, path, module, programs, constants, name)
        module.__dict__["forward"] = with_state(text, name, {"module": module})
    return shell


def _plain_shell(source: Source) -> nn.Module:
    """The modules of a network that runs Python of its own, with plain layers and the kept part of every tensor."""
    net, memo = source.net, dict[int, object]()
    modules = [("", runtime(net).top), *walk(net)]
    for path, module in modules:
        if type(module) in PLAIN and id(module) not in memo:
            memo[id(module)] = source.layer(path)
    cuts = dict(zip(runtime(net).plan.cuts, source.point.cuts, strict=True))
    for path, module in modules:
        for name, tensor in [*module._parameters.items(), *module._buffers.items()]:
            if tensor is not None and id(module) not in memo:
                memo[id(tensor)] = source.part(tensor, cuts.get(f"{path}.{name}" if path else name))
    shell = copy.deepcopy(runtime(net).top, memo)
    for path in runtime(net).plan.regions:
        del at(shell, path).__dict__["forward"]
    return shell.train(net.training)
