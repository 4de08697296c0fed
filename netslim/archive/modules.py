"""Modules and tensors as data, and back: containers by name, layers by torch's class and the settings that it has.

A class of torch's is built without running its constructor; it gets no setting but those that its own code assigns, so
that a file can neither hide a method nor add to what a layer does.
"""

from __future__ import annotations

import dis
import functools
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from types import FunctionType
from typing import Any, Protocol

from torch import Tensor, nn

from netslim.archive import schema as s
from netslim.archive.literals import value_data, value_from
from netslim.archive.plans import text
from netslim.errors import ArchiveError
from netslim.net.extract import PLAIN
from netslim.net.runtime import runtime
from netslim.net.slimnet import SlimNet
from netslim.net.tree import OWN, Tree, origin, slim
from netslim.trace.tracer import LIFTED

_PRIVATE = {"training", "kept"} | OWN | set(nn.Module().__dict__)


class Classes(Protocol):
    """Where the model's own classes come from."""

    @property
    def classes(self) -> Mapping[str, type[nn.Module]]:
        """By the path of the module."""


@dataclass
class Stored:
    """The entries of modules, the tensors that they name, and the modules of classes of the model's own, by path.

    more: what the model has put on layers of torch's beyond their settings; only its own Python can read that.
    """

    entries: list[s.ModuleData] = field(default_factory=list)
    tensors: dict[str, Tensor] = field(default_factory=dict)
    python: dict[str, nn.Module] = field(default_factory=dict)
    more: dict[str, dict[str, Any]] = field(default_factory=dict)
    seen: dict[int, str] = field(default_factory=dict)

    def add(self, path: str, module: nn.Module | None) -> None:
        """Takes in a module, after those above it. Raises ArchiveError for what cannot be stored."""
        if module is None:
            return self.entries.append(s.ModuleData(path, "none", "", False, {}, [], []))
        if id(module) in self.seen:
            return self.entries.append(s.ModuleData(path, "same", self.seen[id(module)], False, {}, [], []))
        self.seen[id(module)] = path
        kind, of = _kind(module)
        if kind == "python":
            self.python[path] = module
        attributes = _attributes(path, module, of) if kind == "torch" else {}
        more = {k: v for k, v in vars(module).items() if k not in attributes and k not in _PRIVATE}
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
    """Everything that a network holds but the constants of its programs."""
    found = Stored()
    found.add("", runtime(net).top)
    for path, module in below(net):
        if LIFTED not in path.split("."):
            found.add(path, module)
    return found


def below(root: nn.Module, prefix: str = "") -> Iterator[tuple[str, nn.Module | None]]:
    """Every module below `root` by path, and the places that hold none."""
    for name, child in root._modules.items():
        yield f"{prefix}{name}", child
        if child is not None:
            yield from below(child, f"{prefix}{name}.")


def _kind(module: nn.Module) -> tuple[Any, str]:
    if isinstance(module, (SlimNet, Tree)):
        return "tree", origin(module)
    name = _class_name(module)
    return ("torch", name) if name else ("python", "")


def _class_name(module: nn.Module) -> str:
    """The name of a module's class if it is torch's, or a slim one of it; else nothing."""
    plain = PLAIN.get(type(module), (type(module),))[0]
    name = f"{plain.__module__}.{plain.__qualname__}"
    return name if layer_class(name) is plain else ""


def _attributes(path: str, module: nn.Module, name: str) -> dict[str, Any]:
    """The settings of a layer of the class `name`; what others put on it is no part of what it computes."""
    found: dict[str, Any] = {}
    for key in vars(module).keys() & _settings(name):
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
def _settings(name: str) -> frozenset[str]:
    """What the code of a class (and of its bases below nn.Module) assigns on its objects; no method is among them."""
    plain: Any = layer_class(name)
    mine = [kind for kind in plain.__mro__ if kind not in nn.Module.__mro__]
    functions = [value for kind in mine for value in vars(kind).values() if isinstance(value, FunctionType)]
    names = {step.argval for fn in functions for step in dis.get_instructions(fn) if step.opname == "STORE_ATTR"}
    return frozenset(n for n in names if not (callable(getattr(plain, n, None)) or n in _PRIVATE or n[:2] == "__"))


# ------------------------------------------------------------------------------------------------- back


class Unbuilt(Exception):
    """The entries make no network; the text is a clause."""


def built(entries: list[s.ModuleData], tensors: Mapping[str, Tensor], own: Classes | None) -> nn.Module:
    """The modules that the entries describe, around the given tensors. Raises Unbuilt where they do not fit."""
    made: dict[str, nn.Module | None] = {}
    shared: dict[tuple[str, bool], Any] = {}
    for entry in entries:
        if entry.path in made:
            raise Unbuilt(f"two of its modules are at {entry.path!r}")
        parent, _, name = entry.path.rpartition(".")
        if entry.path and not (name and isinstance(made.get(parent), nn.Module)):
            raise Unbuilt(f"its module {entry.path!r} is in none")
        module = _module(entry, made, own)
        if module is not None and entry.kind != "same":
            _give_tensors(module, entry, tensors, shared)
            module = slim(module)
        made[entry.path] = module
        if entry.path:
            made[parent]._modules[name] = module  # type: ignore[union-attr]
    root = made.get("")
    if root is None:
        raise Unbuilt("it has no network")
    return root


def _module(entry: s.ModuleData, made: Mapping[str, nn.Module | None], own: Classes | None) -> nn.Module | None:
    """A module without tensors and children."""
    if entry.kind in ("same", "none"):
        if entry.attributes or entry.parameters or entry.buffers:
            raise Unbuilt(f"{entry.path!r} is no module of its own and has settings")
        if entry.kind == "none":
            return None
        if made.get(entry.of) is None or f"{entry.path}.".startswith(f"{entry.of}."):
            raise Unbuilt(f"{entry.path!r} is to be the module {entry.of!r}, which it does not have")
        return made[entry.of]
    module: nn.Module
    if entry.kind == "tree":
        module = Tree(entry.of)
    elif entry.kind == "torch":
        module = _layer(entry)
    else:
        kind = None if own is None else own.classes.get(entry.path)
        if not (isinstance(kind, type) and issubclass(kind, nn.Module)):
            raise Unbuilt(f"it holds no class for its module {entry.path!r}")
        module = _new(kind)
    module.training = entry.training
    return module


def _new(kind: type[nn.Module]) -> nn.Module:
    module = kind.__new__(kind)
    nn.Module.__init__(module)
    return module


def _layer(entry: s.ModuleData) -> nn.Module:
    plain = layer_class(entry.of)
    if plain is None:
        raise Unbuilt(f"it asks for a module of class {entry.of!r}, which is not one that netslim builds")
    module = _new(plain)
    for name, data in entry.attributes.items():
        if name not in _settings(entry.of):
            raise Unbuilt(f"it sets {name!r} of a {plain.__name__}, which has no such setting")
        module.__dict__[name] = value_from(data)
    return module


def _give_tensors(
    module: nn.Module, entry: s.ModuleData, tensors: Mapping[str, Tensor], shared: dict[tuple[str, bool], Any]
) -> None:
    held: list[s.ParameterData | s.BufferData] = [*entry.parameters, *entry.buffers]
    names = [found.name for found in held]
    if len(set(names)) < len(names) or any("." in name for name in names):
        raise Unbuilt(f"{entry.path!r} has two tensors of one name, or one with a point in it")
    for found in held:
        if found.tensor is not None and found.tensor not in tensors:
            raise Unbuilt(f"it does not hold the tensor {found.tensor!r}")
    for parameter in entry.parameters:
        module._parameters[parameter.name] = _parameter(parameter, tensors, shared)
    for buffer in entry.buffers:
        module._buffers[buffer.name] = None if buffer.tensor is None else tensors[buffer.tensor]
        if not buffer.persistent:
            module._non_persistent_buffers_set.add(buffer.name)


def _parameter(data: s.ParameterData, tensors: Mapping[str, Tensor], shared: dict[tuple[str, bool], Any]) -> Any:
    """A parameter; the same one wherever its tensor is named."""
    if data.tensor is None:
        return None
    tensor = tensors[data.tensor]
    if data.trainable and not (tensor.is_floating_point() or tensor.is_complex()):
        raise Unbuilt(f"its parameter {data.tensor!r} is {tensor.dtype}, which cannot be trained")
    if (data.tensor, not data.trainable) in shared:
        raise Unbuilt(f"its parameter {data.tensor!r} is both trained and not")
    return shared.setdefault((data.tensor, data.trainable), nn.Parameter(tensor, data.trainable))


def named_tensors(entries: list[s.ModuleData]) -> list[str]:
    """The tensors that entries name, each once."""
    found: list[str | None] = []
    for entry in entries:
        found += [parameter.tensor for parameter in entry.parameters]
        found += [buffer.tensor for buffer in entry.buffers]
    return list(dict.fromkeys(name for name in found if name is not None))


def check_dtypes(root: nn.Module) -> None:
    """Raises Unbuilt for a layer of torch's whose parameters differ in dtype, or are none that layers compute with."""
    for path, module in below(root):
        if module is None or not _class_name(module):
            continue
        dtypes = {t.dtype for t in module._parameters.values() if t is not None}
        if len(dtypes) > 1 or not all(d.is_floating_point or d.is_complex for d in dtypes):
            raise Unbuilt(f"the parameters of {path!r} are {', '.join(sorted(map(str, dtypes)))}")
