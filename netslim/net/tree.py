"""The modules of a converted network: plain containers, torch's own layers, and slim ones."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from typing import Any, NoReturn, Protocol, TypeGuard, TypeVar

from torch import Tensor, nn

from netslim.errors import InputError
from netslim.layouts.slices import Kept
from netslim.ops import MODULES
from netslim.trace.meta import computed, is_leaf

T = TypeVar("T")

Table = dict[str, Any]
"""A module's own table of parameters or of buffers, by name; torch has a type for each, and none for either."""


class Tree(nn.Module):
    """A container of the original model: it holds modules and parameters under their names and does nothing else."""

    def __init__(self, origin: str = "") -> None:
        super().__init__()
        self.__dict__[_ORIGIN] = origin

    def _get_name(self) -> str:
        return origin(self) or "Tree"

    def forward(self, *args: object, **kwargs: object) -> NoReturn:
        raise InputError(f"{self._get_name()} is a part of a converted network and cannot run alone; call the network.")


_ORIGIN = "netslim.origin"  # torch allows a dot in no name of a child, parameter or buffer


def origin(module: nn.Module) -> str:
    """The name of the class that a Tree stands for; nothing for other modules."""
    name: str = vars(module).get(_ORIGIN, "")
    return name


OWN = {"forward"}
"""What a converted network puts into a module of the user's that runs a program."""


class Namesake(nn.Module):
    """A member of a converted network and a child of the user's that have one name.

    It is called, read and listed as the member. torch's own accessors (functional_call) find the child's modules and
    tensors through it, since it shares the child's tables; what the member does not have is the child's. So a child's
    child may still stand before what the member has: the package itself asks `runtime`, which nothing stands before.
    """

    def __init__(self, child: nn.Module, member: object) -> None:
        super().__init__()
        self.__dict__.update({name: value for name, value in vars(child).items() if name in self.__dict__})
        self.__dict__[_BOTH] = (member, child)

    def __getattr__(self, name: str) -> Any:
        if name in self._parameters or name in self._buffers or name in self._modules:
            return super().__getattr__(name)
        member, child = self.__dict__[_BOTH]
        return getattr(member if hasattr(member, name) else child, name)

    def __call__(self, *args: object, **kwargs: object) -> object:
        return self.__dict__[_BOTH][0](*args, **kwargs)

    def __len__(self) -> int:
        return len(_listed(self))

    def __iter__(self) -> Iterator[object]:
        return iter(_listed(self))

    def __getitem__(self, index: object) -> object:
        return _listed(self)[index]

    def __bool__(self) -> bool:
        return bool(self.__dict__[_BOTH][0])


_BOTH = "netslim.both"


def _listed(both: Namesake) -> Any:
    """The member where it is a list, else the child."""
    member, child = both.__dict__[_BOTH]
    return member if hasattr(type(member), "__len__") else child


def beside(net: nn.Module, name: str, member: T) -> T:
    """A member of a converted network, together with the child of its name where there is one."""
    child = net._modules.get(name)
    return member if child is None else Namesake(child, member)  # type: ignore[return-value]


def walk(root: nn.Module, prefix: str = "") -> Iterator[tuple[str, nn.Module]]:
    """Every module under every path it has (a shared module has several)."""
    for name, child in root._modules.items():
        if child is not None:
            path = f"{prefix}{name}"
            yield path, child
            yield from walk(child, f"{path}.")


def slim_tree(model: nn.Module, memo: dict[int, nn.Module] | None = None) -> nn.Module:
    """A copy of a model made of slim layers, torch containers and Trees; sharing is kept, user classes are not."""
    memo = {} if memo is None else memo
    if id(model) in memo:
        return memo[id(model)]
    if is_leaf(model, MODULES):
        module = copy.deepcopy(model, memo)
        module = slim(module)
    else:
        module = _container(model)
        module.training = model.training
        for name, tensor in model._parameters.items():
            module._parameters[name] = copy.deepcopy(tensor, memo)
        for name, buffer in model._buffers.items():
            module._buffers[name] = copy.deepcopy(buffer, memo)
        module._non_persistent_buffers_set = set(model._non_persistent_buffers_set)
        for name, child in model._modules.items():
            module._modules[name] = None if child is None else slim_tree(child, memo)
    memo[id(model)] = module
    return module


def shell_tree(model: nn.Module) -> nn.Module:
    """A copy of a model with slim layers in the place of its own; all other modules stay what they are."""
    memo = computed(model)
    for module in model.modules():
        if module is not model and is_leaf(module, MODULES):
            memo[id(module)] = slim(copy.deepcopy(module, memo))
    return copy.deepcopy(model, memo)


def lift(root: nn.Module, path: str, tensor: Tensor) -> None:
    """Hold a constant of a program at `path`, outside the state_dict."""
    *parents, last = path.split(".")
    for name in parents:
        if name not in root._modules:
            root._modules[name] = Tree("constants")
        root = root._modules[name]  # type: ignore[assignment]
    root.register_buffer(last, tensor.detach().clone(), persistent=False)


class SlimLayer(Protocol):
    """A layer as `slim` makes it: it runs on the part of its tensors that is `kept`, or whole where that is None."""

    kept: Kept | None
    _parameters: dict[str, nn.Parameter | None]
    _buffers: dict[str, Tensor | None]


def is_slim(module: nn.Module) -> TypeGuard[SlimLayer]:
    """By its class: an attribute called `kept` may be one of the model's own."""
    return type(module) in _SLIM


_SLIM = frozenset(slim_class for slim_class, _ in MODULES.values())


def slim(module: nn.Module) -> nn.Module:
    """The slim form of a layer, holding the same tensors; a module without one is returned as it is."""
    if type(module) not in MODULES:
        return module
    slim_class = MODULES[type(module)][0]
    made = slim_class.__new__(slim_class)
    made.__dict__.update(module.__dict__)
    return made


def _container(model: nn.Module) -> nn.Module:
    for kind in (nn.Sequential, nn.ModuleList, nn.ModuleDict, nn.ParameterList, nn.ParameterDict):
        if type(model) is kind:
            return kind()
    return Tree(type(model).__name__)
