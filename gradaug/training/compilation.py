"""A network for torch.compile, which runs as many different ones."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from netslim import SlimNet
from netslim.errors import InputError
from netslim.versions import COMPILES

COMPILATIONS = 256
"""Sub-networks of different widths and depths that torch.compile may compile; beyond, they run uncompiled."""


def compiled(net: SlimNet) -> Callable[[Tensor], object]:
    """`net` with a compilation for every sub-network and resolution that comes up. InputError under an old torch."""
    if not COMPILES:
        raise InputError(f"--compile needs a newer torch than {torch.__version__}: upgrade it, or leave it out")
    return torch.compile(net, dynamic=False, recompile_limit=COMPILATIONS)  # type: ignore[call-overload]
