"""The copy of a model that is traced: its Python without its weights, and the layers that count as one call."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from torch import Tensor, nn
from torch._ops import OpOverload
from torch.nn.utils.parametrize import is_parametrized
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_map_only

from netslim.errors import TraceError, is_interruption
from netslim.ir.program import LIFTED
from netslim.layouts.engine import Args, Kwargs, is_mixed, on_one_device
from netslim.source.sharded import blank, plain_copy


def meta_copy(model: nn.Module) -> nn.Module:
    """A copy of `model` whose float parameters and buffers live on the meta device: no weight is copied.

    Integer buffers keep their values, since networks index with them, and so do constants that a converted network
    holds: they had theirs when it was followed. Raises TraceError when the model cannot be copied.
    """
    memo: dict[int, object] = {}
    buffers = [tensor for name, tensor in model.named_buffers() if LIFTED not in name.split(".")]
    for tensor in [*model.parameters(), *buffers]:
        if isinstance(tensor, nn.parameter.UninitializedParameter):
            raise TraceError(f"{type(model).__name__} has lazy layers: run it once on an image before converting it.")
        if isinstance(tensor, nn.Parameter):
            memo[id(tensor)] = nn.Parameter(blank(tensor), tensor.requires_grad)
        elif tensor.is_floating_point():
            memo[id(tensor)] = blank(tensor)
    memo |= computed(model)
    return copied(model, memo)


def copied(model: nn.Module, memo: Mapping[int, object]) -> nn.Module:
    """A copy of a model. Raises TraceError, with the attribute, where there is none."""
    try:
        return plain_copy(model, dict(memo))
    except Exception as error:
        if is_interruption(error):
            raise
        place = next(_uncopied(model, memo), "")
        raise TraceError(
            f"{type(model).__name__} cannot be copied{place and f', because of {place}'} "
            f"({type(error).__name__}: {error}); keep what copy.deepcopy refuses outside of the model."
        ) from error


def _uncopied(model: nn.Module, memo: Mapping[int, object]) -> Iterator[str]:
    """The attributes that cannot be copied."""
    known = {**memo, **{id(module): module for module in model.modules()}}
    for path, module in model.named_modules():
        for name, value in vars(module).items():
            try:
                copy.deepcopy(value, {**known})
            except Exception:
                yield f"its attribute {f'{path}.{name}' if path else name!s} of class {type(value).__name__}"


class OneDevice(TorchDispatchMode):
    """Constants follow the other operands of a call to the meta device, as they do while a model is followed.

    So they do in functions that torch makes of several operators, as its LSTM, which compare devices before these.
    """

    def __init__(self) -> None:
        super().__init__()
        self._functions = _Functions()

    def __enter__(self) -> OneDevice:
        self._functions.__enter__()
        super().__enter__()
        return self

    def __exit__(self, *exception: Any) -> None:
        super().__exit__(*exception)
        self._functions.__exit__(*exception)

    def __torch_dispatch__(
        self, func: OpOverload, types: Sequence[type], args: Args = (), kwargs: Kwargs | None = None
    ) -> object:
        args, kwargs = on_one_device(args, kwargs or {})
        return func(*args, **kwargs)


class _Functions(TorchFunctionMode):
    """The same for functions, before they are operators. Whole numbers may be sizes, whose values count."""

    def __torch_function__(
        self, func: Callable[..., object], types: Sequence[type], args: Args = (), kwargs: Kwargs | None = None
    ) -> object:
        kwargs = kwargs or {}
        if is_mixed(args, kwargs):
            args, kwargs = tree_map_only(Tensor, lambda t: t.to("meta") if t.is_floating_point() else t, (args, kwargs))
        return func(*args, **kwargs)


def computed(model: nn.Module) -> dict[int, object]:
    """A copying memo for tensors that modules hold but computed themselves, also in dicts and lists: detached copies.

    Old weight_norm does so, and what keeps a table from one call to the next.
    """
    left: list[object] = [vars(module) for module in model.modules()]
    known, memo = set[int](), dict[int, object]()
    while left:
        value = left.pop()
        if isinstance(value, Tensor):
            if value.grad_fn is not None:
                memo[id(value)] = value.detach().clone()
        elif isinstance(value, (dict, list, tuple)) and id(value) not in known:  # which may hold each other
            known.add(id(value))
            left += value.values() if isinstance(value, dict) else value
    return memo


def is_leaf(module: nn.Module, slim: Mapping[type[nn.Module], object]) -> bool:
    """Whether a module is recorded as one call: a torch layer that netslim can slim, or one without parameters."""
    plain = type(module).__module__.startswith(("torch.nn.modules.", "torchvision.ops.stochastic_depth"))
    hooked = module._forward_pre_hooks or module._forward_hooks or is_parametrized(module)
    if not plain or hooked or isinstance(module, _TRACED_THROUGH) or any(True for _ in module.children()):
        return False
    own = set(module.__dict__["_parameters"]) | set(module._buffers)
    if type(module) in slim:
        return not any(isinstance(v, Tensor) for v in vars(module).values())
    return not own


_TRACED_THROUGH = (nn.Sequential, nn.ModuleList, nn.ModuleDict, nn.Unflatten, nn.MultiheadAttention, nn.RNNBase)


def at(root: nn.Module, path: str) -> nn.Module:
    """The module at a path, whatever its children are called. Raises KeyError where there is none."""
    for name in path.split(".") if path else ():
        root = root._modules[name]  # type: ignore[assignment]
    return root
