"""A tree of torch's modules as the lines of an `__init__` that builds it."""

from __future__ import annotations

import inspect
import sys
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor, nn

from netslim.errors import ArchiveError
from netslim.net.codegen import Printer
from netslim.net.places import child, is_attribute, is_numbered, tensor


class Builder:
    """Prints what builds a module and all below it; what is shared is built once."""

    def __init__(self) -> None:
        self.seen: dict[int, str] = {}

    def lines(self, expr: str, module: nn.Module) -> Iterator[str]:
        """Lines that give the module that `expr` is already what it holds. ArchiveError for what no source can."""
        for name, parameter in module._parameters.items():
            yield from self._tensor(expr, name, parameter, module, f"nn.Parameter({_zeros(parameter)})")
        for name, buffer in module._buffers.items():
            kept = "" if name not in module._non_persistent_buffers_set else ", persistent=False"
            if self._is_new(buffer) and is_attribute(name, module):
                self.seen[id(buffer)] = expr + tensor(name, module)
                yield f"{expr}.register_buffer({name!a}, {_zeros(buffer)}{kept})"
            else:
                yield from self._tensor(expr, name, buffer, module, _zeros(buffer))
                if kept:
                    yield f"{expr}._non_persistent_buffers_set.add({name!a})"
        for name, below in module._modules.items():
            if below is not None:
                yield from self._child(expr, name, below, module)

    def _is_new(self, value: Any) -> bool:
        return value is None or id(value) not in self.seen

    def _tensor(self, expr: str, name: str, value: Tensor | None, holder: nn.Module, made: str) -> Iterator[str]:
        place = expr + tensor(name, holder)
        if not self._is_new(value):
            yield f"{place} = {self.seen[id(value)]}"
        elif value is not None:
            self.seen[id(value)] = place
            if isinstance(value, nn.Parameter) and not value.requires_grad:
                made = f"{made[:-1]}, requires_grad=False)"
            if f".{name}" == tensor(name, holder) and not isinstance(value, nn.Parameter):
                yield f"{expr}.register_buffer({name!a}, {made})"
            else:
                yield f"{place} = {made}"

    def _child(self, expr: str, name: str, module: nn.Module, holder: nn.Module) -> Iterator[str]:
        place = expr + child(name, holder)
        if id(module) in self.seen:
            yield _held(expr, place, holder, self.seen[id(module)])
            return
        self.seen[id(module)] = place
        if type(module) in _CONTAINERS:
            yield _held(expr, place, holder, f"nn.{type(module).__name__}()")
            yield from self.lines(place, module)
            return
        made, settings = _constructed(place, module)
        yield _held(expr, place, holder, made)
        yield from settings
        yield from self._own_tensors(place, module)

    def _own_tensors(self, place: str, layer: nn.Module) -> Iterator[str]:
        """What of a layer's tensors its constructor does not say: shared ones, and those that do not learn."""
        for table in (layer._parameters, layer._buffers):
            for name, value in table.items():
                if not self._is_new(value):
                    yield f"{place}{tensor(name, layer)} = {self.seen[id(value)]}"
                elif value is not None:
                    self.seen[id(value)] = place + tensor(name, layer)
                    if isinstance(value, nn.Parameter) and not value.requires_grad:
                        yield f"{self.seen[id(value)]}.requires_grad_(False)"


_CONTAINERS = (nn.Module, nn.Sequential, nn.ModuleList, nn.ModuleDict)


def _held(expr: str, place: str, holder: nn.Module, made: str) -> str:
    """A line that puts a new child in its place."""
    if type(holder) in (nn.Sequential, nn.ModuleList) and is_numbered(holder):
        return f"{expr}.append({made})"
    return f"{place} = {made}"


def _zeros(value: Tensor | None) -> str:
    if value is None:
        return "None"
    dtype = "" if value.dtype == torch.float32 else f", dtype={value.dtype}"
    return f"torch.zeros({tuple(value.shape)}{dtype})"


# ----------------------------------------------------------------------------------------------------- layers


def _constructed(place: str, layer: nn.Module) -> tuple[str, list[str]]:
    """The call of a layer's constructor, and lines for settings that it does not take.

    Raises ArchiveError for a layer that torch's constructor cannot build.
    """
    kind = type(layer)
    arguments = _arguments(layer)
    try:
        with torch.device("meta"):
            made = kind(**arguments)
        settings = [f"{place}.{key} = {_literal(value)}" for key, value in _unlike(made, layer)]
        text = f"{_name(kind)}({', '.join(_shown(kind, arguments))})"
    except (TypeError, ValueError, RuntimeError) as error:
        raise ArchiveError(
            f"{place} is a {kind.__name__} that its constructor cannot build ({error}); write the network as .pt."
        ) from error
    settings += [f"{place}{tensor(key, layer)} = {_made(value)}" for key, value in _other_tensors(made, layer)]
    return text, settings


def _name(kind: type) -> str:
    """Where a class is, from the outermost package that has it."""
    parts = kind.__module__.split(".")
    packages = [".".join(parts[: i + 1]) for i in range(len(parts))]
    found = [p for p in packages if getattr(sys.modules.get(p), kind.__name__, None) is kind]
    return f"{found[0]}.{kind.__name__}".removeprefix("torch.") if found else f"{kind.__module__}.{kind.__name__}"


def _arguments(layer: nn.Module) -> dict[str, Any]:
    """The arguments of the constructor that are no defaults, read from the settings of their names."""
    found = {}
    for name, default in _signature(type(layer)).items():
        held = vars(layer).get(name, getattr(layer, name, default))
        if name in layer._parameters:
            held = layer._parameters[name] is not None  # bias=False
        if name not in ("device", "dtype") and not callable(held) and (held != default or default is _REQUIRED):
            found[name] = held
    return found


_REQUIRED = inspect.Parameter.empty


def _signature(kind: Any) -> dict[str, Any]:
    parameters = list(inspect.signature(kind.__init__).parameters.values())[1:]
    return {p.name: p.default for p in parameters if p.kind not in (p.VAR_POSITIONAL, p.VAR_KEYWORD)}


def _shown(kind: type, arguments: dict[str, Any]) -> Iterator[str]:
    """As a person writes them: those that have to be given by position, the others by name."""
    places = True
    for name, default in _signature(kind).items():
        places = places and default is _REQUIRED
        if name in arguments:
            yield _literal(arguments[name]) if places else f"{name}={_literal(arguments[name])}"


def _unlike(made: nn.Module, layer: nn.Module) -> Iterator[tuple[str, Any]]:
    """Settings in which a layer is other than what its constructor makes; what it has besides, no code of it reads."""
    for key, value in vars(made).items():
        if key not in _OF_ALL and key in vars(layer) and vars(layer)[key] != value:
            yield key, vars(layer)[key]


_OF_ALL = vars(nn.Module()).keys()


def _other_tensors(made: nn.Module, layer: nn.Module) -> Iterator[tuple[str, Tensor | None]]:
    """Parameters and buffers that are there, or of a shape, as the constructor does not make them."""
    for mine, theirs in ((layer._parameters, made._parameters), (layer._buffers, made._buffers)):
        for name, value in mine.items():
            other = theirs.get(name)
            if (None if value is None else value.shape) != (None if other is None else other.shape):
                yield name, value


def _made(value: Tensor | None) -> str:
    return f"nn.Parameter({_zeros(value)})" if isinstance(value, nn.Parameter) else _zeros(value)


def _literal(value: Any) -> str:
    """A setting as source. ValueError for what is no literal."""
    if isinstance(value, (tuple, list)):
        items = ", ".join(map(_literal, value))
        return f"[{items}]" if isinstance(value, list) else f"({items}{',' * (len(value) == 1)})"
    if value is None or isinstance(value, (bool, int, float, complex, str, torch.dtype)):
        return _PRINTER.expr(value)
    raise ValueError(f"a setting is a {type(value).__name__}")


_PRINTER = Printer(lambda path, *_: path)
