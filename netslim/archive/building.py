"""Modules from their entries in a file, around its tensors.

A class of torch's is built without running its constructor; it gets no setting but those that its own code assigns, so
that a file can neither hide a method nor add to what a layer does.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor, nn

from netslim.archive import schema as s
from netslim.archive.literals import value_from
from netslim.archive.modules import below, class_name, layer_class, settings_of
from netslim.ir.program import LIFTED, leaves
from netslim.net.tree import Tree, slim


class Classes(Protocol):
    """Where the model's own classes come from."""

    @property
    def classes(self) -> Mapping[str, type[nn.Module]]:
        """By the path of the module."""


class Unbuilt(Exception):
    """The entries make no network; the text is a clause."""


DEEPEST = 100
"""Modules within modules."""


def built(entries: list[s.ModuleData], tensors: Mapping[str, Tensor], own: Classes | None) -> nn.Module:
    """The modules that the entries describe, around the given tensors. Raises Unbuilt where they do not fit."""
    _check_places(entries)
    made: dict[str, nn.Module | None] = {}
    shared: dict[tuple[str, bool], nn.Parameter] = {}
    for entry in entries:
        module = _module(entry, made, own)
        if module is not None and entry.kind != "same":
            _give_tensors(module, entry, tensors, shared)
            module = slim(module)
        made[entry.path] = module
        if entry.path:
            parent, _, name = entry.path.rpartition(".")
            made[parent]._modules[name] = module  # type: ignore[union-attr]
    root = made.get("")
    if root is None:
        raise Unbuilt("it has no network")
    return root


@dataclass
class _Open:
    """A module whose children are being listed: how many modules it comes to, under all their paths, and how deep."""

    path: str
    size: int = 1
    depth: int = 1

    def take(self, size: int, depth: int) -> None:
        self.size, self.depth = self.size + size, max(self.depth, depth + 1)


def _check_places(entries: list[s.ModuleData]) -> None:
    """Every module comes right after those above it; one that stands for another, after all of that other.

    So there is no circle, and the number of paths is known before anything is built. Raises Unbuilt otherwise.
    """
    opened: list[_Open] = []
    closed: dict[str, _Open] = {}

    def close(parent: str | None) -> None:
        while opened and opened[-1].path != parent:
            done = opened.pop()
            closed[done.path] = done
            if opened:
                opened[-1].take(done.size, done.depth)

    for entry in entries:
        parent, _, name = entry.path.rpartition(".")
        if entry.path:
            close(parent)
        if bool(opened) != bool(entry.path) or (entry.path and not name) or entry.path in closed:
            raise Unbuilt(f"its module {entry.path!r} is in none, or comes twice")
        if name in ("training", LIFTED):
            raise Unbuilt(f"a module of it is called {name!r}")
        if entry.kind == "same":
            other = closed.get(entry.of)
            if other is None:
                raise Unbuilt(f"{entry.path!r} is to be the module {entry.of!r}, which it does not have")
            closed[entry.path] = _Open(entry.path)
            opened[-1].take(other.size, other.depth)
        elif entry.kind == "none":
            closed[entry.path] = _Open(entry.path)
        else:
            opened.append(_Open(entry.path))
    close(None)
    whole = closed.get("", _Open(""))
    if whole.size > s.MODULES or whole.depth > DEEPEST:
        raise Unbuilt(f"its modules are more than {s.MODULES:,}, or more than {DEEPEST} deep")


def _module(entry: s.ModuleData, made: Mapping[str, nn.Module | None], own: Classes | None) -> nn.Module | None:
    """A module without tensors and children."""
    if entry.kind in ("same", "none"):
        if entry.attributes or entry.parameters or entry.buffers:
            raise Unbuilt(f"{entry.path!r} is no module of its own and has settings")
        if entry.kind == "none":
            return None
        if made.get(entry.of) is None:
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
        if name not in settings_of(entry.of):
            raise Unbuilt(f"it sets {name!r} of a {plain.__name__}, which has no such setting")
        value = value_from(data)
        if any(isinstance(leaf, float) and leaf != leaf for leaf in leaves(value)):
            raise Unbuilt(f"the setting {name!r} of a {plain.__name__} is no number")
        module.__dict__[name] = value
    return module


def _give_tensors(
    module: nn.Module, entry: s.ModuleData, tensors: Mapping[str, Tensor], shared: dict[tuple[str, bool], nn.Parameter]
) -> None:
    held: list[s.ParameterData | s.BufferData] = [*entry.parameters, *entry.buffers]
    names = [found.name for found in held]
    if len(set(names)) < len(names) or any("." in name or name == "training" for name in names):
        raise Unbuilt(f"{entry.path!r} has two tensors of one name, or one whose name cannot be")
    for found in held:
        if found.tensor is not None and found.tensor not in tensors:
            raise Unbuilt(f"it does not hold the tensor {found.tensor!r}")
    for parameter in entry.parameters:
        module._parameters[parameter.name] = _parameter(parameter, tensors, shared)
    for buffer in entry.buffers:
        module._buffers[buffer.name] = None if buffer.tensor is None else tensors[buffer.tensor]
        if not buffer.persistent:
            module._non_persistent_buffers_set.add(buffer.name)


def _parameter(
    data: s.ParameterData, tensors: Mapping[str, Tensor], shared: dict[tuple[str, bool], nn.Parameter]
) -> nn.Parameter | None:
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


COMPUTED = {torch.float16, torch.bfloat16, torch.float32, torch.float64, torch.complex64}
"""What layers compute in."""


def check_dtypes(root: nn.Module) -> None:
    """Raises Unbuilt for a layer of torch's whose parameters differ in dtype, or are none that layers compute with."""
    for path, module in below(root):
        if module is None or not class_name(module):
            continue
        dtypes = {t.dtype for t in module._parameters.values() if t is not None}
        if len(dtypes) > 1 or not dtypes <= COMPUTED:
            raise Unbuilt(f"the parameters of {path!r} are {', '.join(sorted(map(str, dtypes)))}")
