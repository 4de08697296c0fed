"""Batch norm over the batches of all processes, for any network, without touching its modules.

    with synchronised_norms():
        net(images)               # every F.batch_norm that uses batch statistics takes those of all processes

nn.SyncBatchNorm would have to replace modules, knows nothing of functional batch norm, and runs on GPUs alone.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
import torch.distributed as dist
import torch.nn.functional as F
from torch import Tensor
from torch.overrides import TorchFunctionMode

from gradaug.distributed.processes import current, peers


class synchronised_norms(TorchFunctionMode):  # noqa: N801 - used like contextlib's
    """Inside, ``F.batch_norm`` in training computes mean and variance over all processes.

    The processes must run the same batch norms in the same order. One exchange for the mean and one for the variance,
    in forward and in backward.
    """

    def __torch_function__(
        self,
        func: Callable[..., object],
        types: Sequence[type],
        args: Sequence[Any] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> object:
        kwargs = kwargs or {}
        if func is not F.batch_norm or current().size == 1:
            return func(*args, **kwargs)
        return _batch_norm(*args, **kwargs)


def _batch_norm(
    x: Tensor,
    running_mean: Tensor | None,
    running_var: Tensor | None,
    weight: Tensor | None = None,
    bias: Tensor | None = None,
    training: bool = False,
    momentum: float = 0.1,
    eps: float = 1e-5,
) -> Tensor:
    if not training:
        return F.batch_norm(x, running_mean, running_var, weight, bias, False, momentum, eps)
    wide = x.float() if x.dtype in (torch.float16, torch.bfloat16) else x
    dims = [i for i in range(x.ndim) if i != 1]
    shape = [1, -1, *[1] * (x.ndim - 2)]
    count = wide.new_tensor([x.numel() / x.shape[1]])
    total = _Sum.apply(torch.cat([wide.sum(dims), count]))
    mean, number = total[:-1] / total[-1], total[-1].detach()
    centred = wide - mean.view(shape)
    var = _Sum.apply(centred.square().sum(dims)) / number
    if running_mean is not None and running_var is not None:
        with torch.no_grad():
            running_mean.lerp_(mean.detach().to(running_mean), momentum)
            running_var.lerp_((var.detach() * number / (number - 1).clamp(min=1)).to(running_var), momentum)
    scale = (var + eps).rsqrt() if weight is None else (var + eps).rsqrt() * weight
    out = centred * scale.view(shape)
    return (out if bias is None else out + bias.view(shape)).to(x.dtype)


class _Sum(torch.autograd.Function):
    """A sum over the processes; the gradient of every process's loss flows back through it."""

    @staticmethod
    def forward(
        ctx: object,  # noqa: ARG004
        value: Tensor,
    ) -> Tensor:
        value = value.clone()
        with peers():
            dist.all_reduce(value)
        return value

    @staticmethod
    def backward(
        ctx: object,  # noqa: ARG004
        gradient: Tensor,
    ) -> Tensor:
        gradient = gradient.contiguous().clone()
        with peers():
            dist.all_reduce(gradient)
        return gradient
