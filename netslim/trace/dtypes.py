"""Which functions tell Python the dtype of a tensor: those that answer otherwise for another one."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor
from torch.utils._python_dispatch import _disable_current_modes
from torch.utils._pytree import tree_map_only

from netslim.ir.program import Function
from netslim.layouts.engine import Args, Kwargs

WIDER: Mapping[torch.dtype, torch.dtype] = {
    torch.float16: torch.float64, torch.bfloat16: torch.float64, torch.float32: torch.float64,
    torch.float64: torch.float32, torch.complex64: torch.complex128, torch.complex128: torch.complex64,
}  # fmt: skip
"""Another dtype for each that a network's precision decides."""

_known: dict[Function, bool] = {}


def tells_dtype(func: Function, args: Args, kwargs: Kwargs, out: object) -> bool:
    """Whether a function that gives no tensor depends on the dtype of those that it is given; asked once of each."""
    if func not in _known:
        _known[func] = _differs(func, args, kwargs, out)
    return _known[func]


def _differs(func: Function, args: Args, kwargs: Kwargs, out: object) -> bool:
    """By its answers for tensors that differ in nothing else."""
    if not isinstance(out, (str, int, float, tuple, torch.dtype)):
        return False

    def answer(wider: bool) -> object:
        def other(tensor: Tensor) -> Tensor:
            dtype = WIDER.get(tensor.dtype, tensor.dtype) if wider else tensor.dtype
            return torch.empty_strided(tensor.shape, tensor.stride(), dtype=dtype, device="meta")

        return func(*tree_map_only(Tensor, other, args), **tree_map_only(Tensor, other, kwargs))

    with _disable_current_modes():
        try:
            return bool(answer(False) != answer(True))
        except Exception:  # it wants values, which nobody has
            return False
