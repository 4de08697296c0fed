"""Where layers and tensors are, as Python: attributes where a name can be one, entries of torch's tables elsewhere."""

from __future__ import annotations

from torch import nn

from netslim.ir.program import is_word


def place(path: str, kind: str, holder: nn.Module, plain: bool = True) -> str:
    """The expression of a layer ("module") or tensor ("param") below `holder`, which is `self`.

    plain: what is there are torch's own classes, so that a name is an attribute unless they have one of that name.
    """
    *parts, last = path.split(".")
    expr = "self"
    for part in [*parts, *([last] if kind == "module" else [])]:
        expr += child(part, holder, plain)
        holder = holder._modules[part]  # type: ignore[assignment]
    return expr if kind == "module" else expr + tensor(last, holder, plain)


def child(name: str, holder: nn.Module, plain: bool = True) -> str:
    """What follows the expression of a module for its child."""
    if type(holder) in (nn.Sequential, nn.ModuleList) and is_numbered(holder):
        return f"[{name}]"
    return f".{name}" if plain and is_attribute(name, holder) else f"._modules[{name!a}]"


def tensor(name: str, holder: nn.Module, plain: bool = True) -> str:
    """What follows the expression of a module for its parameter or buffer."""
    if plain and is_attribute(name, holder):
        return f".{name}"
    return f".{'_parameters' if name in holder._parameters else '_buffers'}[{name!a}]"


def is_numbered(holder: nn.Module) -> bool:
    """Whether the children are called by their numbers, none of which is missing."""
    return list(holder._modules) == [str(i) for i in range(len(holder._modules))]


def is_attribute(name: str, holder: nn.Module) -> bool:
    """Whether a child or tensor of this name can be reached as an attribute, in a class's source too."""
    return is_word(name) and name[:2] != "__" and not hasattr(type(holder), name) and name not in vars(holder)
