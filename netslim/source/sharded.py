"""Modules that ``torch.distributed.fsdp.fully_shard`` was given: their parameters are spread over several processes.

Outside of a forward each process holds a part of every parameter, a DTensor. Such modules are of a class of their own
and carry hooks, so that nobody can copy them; what needs the weights as one process has them takes a plain copy.
"""

from __future__ import annotations

import copy
import sys
from collections.abc import Iterable
from typing import Any, TypeGuard, TypeVar

import torch
from torch import Tensor, nn

M = TypeVar("M", bound=nn.Module)


def sharded(modules: Iterable[nn.Module]) -> list[Any]:
    """Those that `fully_shard` was given."""
    kind = _kind()
    return [] if kind is None else [module for module in modules if isinstance(module, kind)]


def is_spread(tensor: object) -> TypeGuard[Any]:
    """Whether several processes hold a tensor together (a DTensor)."""
    return isinstance(tensor, Tensor) and hasattr(tensor, "device_mesh")


def plain_class(module: nn.Module) -> type[nn.Module]:
    """The class that a module had before it was sharded."""
    kind = _kind()
    return next(one for one in type(module).__mro__ if kind is None or not issubclass(one, kind))


def settle(model: nn.Module) -> None:
    """Every parameter is spread, as an optimizer wants it; forwards whose gradient nobody takes leave them whole."""
    for module in sharded(model.modules()):
        module.reshard()


def whole(tensor: Tensor) -> Tensor:
    """A tensor's values from all processes, each of which must call this; other tensors are as they are."""
    if not is_spread(tensor):
        return tensor
    device = tensor.device_mesh.device_type  # another than the tensor's where weights wait on the CPU
    full: Tensor = (tensor if tensor.device.type == device else tensor.to(device)).full_tensor()
    return full.to(tensor.device)


def unsharded(model: M) -> M:
    """A plain copy of a sharded model, for which every process must call this; other models are as they are."""
    settle(model)
    spread = [parameter for parameter in model.parameters() if is_spread(parameter)]
    if not spread and not sharded(model.modules()):
        return model
    return plain_copy(model, {id(p): nn.Parameter(whole(p.detach()), p.requires_grad) for p in spread})


def blank(tensor: Tensor) -> Tensor:
    """A tensor like this one on the meta device, whole in this process."""
    if is_spread(tensor):
        return torch.empty_strided(tensor.shape, tensor.stride(), dtype=tensor.dtype, device="meta")
    return torch.empty_like(tensor, device="meta")


def plain_copy(model: M, memo: dict[int, Any]) -> M:
    """``copy.deepcopy(model, memo)``, but that the copy of a sharded model is plain; `memo` has its parameters."""
    found = sharded(model.modules())
    memo |= {id(module): plain_class(module).__new__(plain_class(module)) for module in found}
    for module in reversed(found):  # those inside first: a module may look at what is below it
        memo[id(module)].__setstate__(copy.deepcopy(_bare(module.__getstate__()), memo))
    made = copy.deepcopy(model, memo)
    for module in made.modules() if found else ():
        state = _bare(vars(module))
        vars(module).clear()
        vars(module).update(state)
    return made


def _kind() -> Any:
    """The class of sharded modules; there is none before torch's module is imported."""
    return getattr(sys.modules.get("torch.distributed.fsdp"), "FSDPModule", None)


def _bare(state: dict[str, Any]) -> dict[str, Any]:
    """What a module holds, without what `fully_shard` has put there."""
    hooks = {name: value for name, value in state.items() if "_hooks" in name and isinstance(value, dict)}
    theirs = {key for held in hooks.values() for key, hook in held.items() if _is_theirs(hook)}
    kept = {name: value for name, value in state.items() if not name.startswith(_MARKS)}
    return kept | {name: _without(held, theirs) for name, held in hooks.items() if theirs & held.keys()}


_MARKS = ("_is_fsdp_managed_module", "_fsdp_use_orig_params", "__composable_api_")


def _is_theirs(hook: object) -> bool:
    return str(getattr(getattr(hook, "hook", hook), "__module__", "")).startswith("torch.distributed.")


def _without(held: dict[Any, Any], keys: set[Any]) -> dict[Any, Any]:
    return type(held)((key, value) for key, value in held.items() if key not in keys)
