"""Modules and tensors as data: containers by name, layers by torch's class and the settings that it has.

A class of torch's is built without running its constructor; it gets no setting but those that its own code assigns, so
that a file can neither hide a method nor add to what a layer does.
"""

from __future__ import annotations

import dis
import functools
from collections.abc import Iterator
from dataclasses import dataclass, field
from types import FunctionType
from typing import Literal

from torch import Tensor, nn

from netslim.archive import schema as s
from netslim.archive.literals import Value, value_data
from netslim.archive.plans import text
from netslim.errors import ArchiveError
from netslim.ir.program import LIFTED
from netslim.net.extract import PLAIN
from netslim.net.runtime import runtime
from netslim.net.slimnet import SlimNet
from netslim.net.tree import OWN, Tree, origin

DERIVED = {"_flat_weights", "_flat_weight_refs"}
"""What recurrent layers keep of their parameters, by other names."""
PRIVATE = {"training", "kept"} | OWN | DERIVED | set(nn.Module().__dict__)


@dataclass
class Stored:
    """The entries of modules, the tensors that they name, and the modules of classes of the model's own, by path.

    shell: whether Python of the model's calls them. more: what the model has put on layers of torch's beyond their
    settings; only its own Python can read that.
    """

    shell: bool = False
    entries: list[s.ModuleData] = field(default_factory=list)
    tensors: dict[str, Tensor] = field(default_factory=dict)
    python: dict[str, nn.Module] = field(default_factory=dict)
    more: dict[str, dict[str, object]] = field(default_factory=dict)
    seen: dict[int, str] = field(default_factory=dict)

    def add(self, path: str, module: nn.Module | None) -> None:
        """Takes in a module, after those above it. Raises ArchiveError for what cannot be stored."""
        if module is None:
            return self.entries.append(s.ModuleData(path, "none", "", False, {}, [], []))
        if id(module) in self.seen:
            return self.entries.append(s.ModuleData(path, "same", self.seen[id(module)], False, {}, [], []))
        self.seen[id(module)] = path
        kind, of = _kind(module, self.shell)
        if kind == "python":
            self.python[path] = module
        attributes = _attributes(path, module, of) if kind == "torch" else {}
        more = {k: v for k, v in vars(module).items() if k not in attributes and k not in PRIVATE}
        if kind == "torch" and more:
            self.more[path] = more
        parameters = [
            s.ParameterData(name, self._tensor(path, name, tensor), tensor is not None and tensor.requires_grad)
            for name, tensor in module._parameters.items()
        ]
        buffers = [
            s.BufferData(name, self._tensor(path, name, tensor), name not in module._non_persistent_buffers_set)
            for name, tensor in module._buffers.items()
        ]
        self.entries.append(s.ModuleData(path, kind, text(of), module.training, attributes, parameters, buffers))
        return None

    def _tensor(self, path: str, name: str, tensor: Tensor | None) -> str | None:
        if tensor is None:
            return None
        if id(tensor) not in self.seen:
            self.seen[id(tensor)] = f"{path}.{name}" if path else name
            self.tensors[self.seen[id(tensor)]] = tensor
        return self.seen[id(tensor)]


def stored(net: SlimNet) -> Stored:
    """Everything that a network holds but the constants of its programs; a module of several paths once."""
    whole = runtime(net).plan.whole is not None
    found = Stored(not whole)

    def add(path: str, module: nn.Module | None) -> None:
        known = module is None or id(module) in found.seen
        found.add(path, module)
        for name, child in () if known or module is None else module._modules.items():
            if name != LIFTED:
                add(f"{path}.{name}" if path else name, child)

    root = net if whole else runtime(net).shell
    assert root is not None
    add("", root)
    return found


def below(root: nn.Module, prefix: str = "") -> Iterator[tuple[str, nn.Module | None]]:
    """Every module below `root` by path, and the places that hold none."""
    for name, child in root._modules.items():
        yield f"{prefix}{name}", child
        if child is not None:
            yield from below(child, f"{prefix}{name}.")


def _kind(module: nn.Module, shell: bool) -> tuple[Literal["tree", "torch", "python"], str]:
    if isinstance(module, (SlimNet, Tree)):
        return "tree", origin(module)
    hooked = shell and (module._forward_pre_hooks or module._forward_hooks)  # they are Python, and part of what it does
    name = "" if hooked else class_name(module)
    return ("torch", name) if name else ("python", "")


def class_name(module: nn.Module) -> str:
    """The name of a module's class if it is torch's, or a slim one of it; else nothing."""
    plain = PLAIN.get(type(module), (type(module),))[0]
    name = f"{plain.__module__}.{plain.__qualname__}"
    return name if layer_class(name) is plain else ""


def _attributes(path: str, module: nn.Module, name: str) -> dict[str, Value]:
    """The settings of a layer of the class `name`; what others put on it is no part of what it computes."""
    found: dict[str, Value] = {}
    for key in vars(module).keys() & settings_of(name):
        try:
            found[key] = value_data(vars(module)[key])
        except ValueError as error:
            raise ArchiveError(f"{path} ({name}): its setting {key!r} cannot be stored: {error}.") from error
    return dict(sorted(found.items()))


@functools.cache
def layer_class(name: str) -> type[nn.Module] | None:
    """The class of torch.nn (or torchvision's StochasticDepth) of this name, or None."""
    if name == "torchvision.ops.stochastic_depth.StochasticDepth":
        from torchvision.ops import StochasticDepth

        return StochasticDepth
    module, _, last = name.rpartition(".")
    found = getattr(nn, last, None) if module.startswith("torch.nn.modules.") and last.isascii() else None
    known = isinstance(found, type) and issubclass(found, nn.Module) and found.__module__ == module
    return found if known else None


@functools.cache
def settings_of(name: str) -> frozenset[str]:
    """What the code of a class (and of its bases below nn.Module) assigns on its objects; no method is among them."""
    plain = layer_class(name) or nn.Module
    mine = [kind for kind in plain.__mro__ if kind not in nn.Module.__mro__]
    functions = [value for kind in mine for value in vars(kind).values() if isinstance(value, FunctionType)]
    names = {step.argval for fn in functions for step in dis.get_instructions(fn) if step.opname == "STORE_ATTR"}
    return frozenset(n for n in names if not (callable(getattr(plain, n, None)) or n in PRIVATE or n[:2] == "__"))
