"""Running statistics estimated anew: a sub-network has none of its own, as training leaves them to the full network.

Which they are is read off what a network does, not off its classes: every norm that it calls with a running mean and
variance, as a module or as a function.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from gradaug.inputs import copied, device_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from gradaug.data import Batch

_PYTHON = "input running_mean running_var weight bias own momentum eps"
_ATEN = "input weight bias running_mean running_var own momentum eps cudnn_enabled"
_NORMS: dict[Callable[..., object], tuple[str, str]] = {
    F.batch_norm: (_PYTHON, "training"),
    F.instance_norm: (_PYTHON, "use_input_stats"),
    torch.batch_norm: (_ATEN, "training"),
    torch.instance_norm: (_ATEN, "use_input_stats"),
}
"""The arguments of each in order, and what it calls `own`: whether it takes the statistics of its input."""


def recalibrate(net: nn.Module, batches: Iterable[Batch]) -> nn.Module:
    """Replaces the running statistics of every norm by their mean over `batches`; nothing else of `net` changes.

    The network runs in eval mode (dropout stays off), its norms with the statistics of their input. Returns `net`.
    """
    estimate(net, batches)
    return net


@torch.no_grad()
def estimate(net: nn.Module, batches: Iterable[Batch]) -> int:
    """As :func:`recalibrate`; returns how many norms there were, 0 where nothing has changed."""
    net.eval()
    found = _Estimating()
    for images, _ in batches:
        with found:
            net(copied(images, device_of(net)))
        if not found.calls:
            break
    for module in net.modules():
        counter, mean = getattr(module, "num_batches_tracked", None), getattr(module, "running_mean", None)
        if isinstance(counter, Tensor) and isinstance(mean, Tensor) and mean.data_ptr() in found.calls:
            counter.fill_(found.calls[mean.data_ptr()])
    return len(found.calls)


class _Estimating(TorchFunctionMode):
    """Norms that read running statistics use those of their input, and put the mean over the calls so far in place."""

    def __init__(self) -> None:
        super().__init__()
        self.calls: dict[int, int] = {}
        """By the memory of a running mean: how often it was met."""

    def __torch_function__(
        self,
        func: Callable[..., object],
        types: Sequence[type],
        args: tuple[object, ...] = (),
        kwargs: dict[str, object] | None = None,
    ) -> object:
        names, own = _NORMS.get(func, ("", ""))
        if not names:
            return func(*args, **(kwargs or {}))
        ordered = names.replace("own", own).split()
        given = {**dict(zip(ordered, args, strict=False)), **(kwargs or {})}
        mean, variance = given.get("running_mean"), given.get("running_var")
        if not (isinstance(mean, Tensor) and isinstance(variance, Tensor)) or given.get(own, func is F.instance_norm):
            return func(*args, **(kwargs or {}))
        return func(**self._estimated(given, own, mean, variance))

    def _estimated(self, given: dict[str, object], own: str, mean: Tensor, variance: Tensor) -> dict[str, object]:
        calls = self.calls[mean.data_ptr()] = self.calls.get(mean.data_ptr(), 0) + 1
        if calls == 1:  # whatever is there, an infinity too, is gone
            mean.zero_()
            variance.fill_(1)
        return {**given, own: True, "momentum": 1 / calls}
