"""How much a run computes."""

from __future__ import annotations

from collections.abc import Sequence

from torch._ops import OpOverload
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import flop_registry

from netslim.layouts.engine import Args, Kwargs
from netslim.proof.blame import called


class Counting(TorchDispatchMode):
    """Counts FLOPs, and leaves every operator as it is."""

    total = 0

    def __torch_dispatch__(
        self, func: OpOverload, types: Sequence[type], args: Args = (), kwargs: Kwargs | None = None
    ) -> object:
        out = called(func, *args, **(kwargs or {}))
        count = flop_registry.get(func.overloadpacket)
        self.total += count(*args, **(kwargs or {}), out_val=out) if count else 0
        return out
