"""Which parameters are the scales of norms: read off what a run does, not off classes or names."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torch._ops import OpOverload
from torch.utils._python_dispatch import TorchDispatchMode

from netslim.cost import light
from netslim.layouts.engine import Args, Kwargs, on_one_device
from netslim.net.runtime import runtime
from netslim.net.slimnet import SlimNet


def scales(net: SlimNet) -> list[str]:
    """Names of the parameters that batch, layer, group, instance and RMS norms multiply by, in a run in eval mode."""
    copied, given = light(net, dict(runtime(net).plan.inputs))
    seen = _Scales()
    with torch.no_grad(), seen:
        copied.eval()(**given)
    return [name for name, parameter in copied.named_parameters() if id(parameter) in seen.found]


class _Scales(TorchDispatchMode):
    """Collects what norms have as their weight; constants follow the other operands to the meta device."""

    def __init__(self) -> None:
        super().__init__()
        self.found: set[int] = set()

    def __torch_dispatch__(
        self, func: OpOverload, types: Sequence[type], args: Args = (), kwargs: Kwargs | None = None
    ) -> object:
        args, kwargs = on_one_device(args, kwargs or {})
        names = [argument.name for argument in func._schema.arguments]
        if "norm" in func._schema.name and "weight" in names:
            weight = {**dict(zip(names, args, strict=False)), **kwargs}.get("weight")
            if isinstance(weight, Tensor):
                self.found.add(id(weight))
        return func(*args, **kwargs)
