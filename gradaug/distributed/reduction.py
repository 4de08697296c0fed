"""A step's gradients over the processes where DistributedDataParallel stands around the network.

    ddp = DistributedDataParallel(net)
    ga = gradaug.GradAug(ddp, mode="both")

A step has several passes over changing parts of the network, and DDP's reducer wants every parameter once. So all
passes run under ``no_sync``; before the last backward the reducer is told to begin, as Lightning tells it in manual
optimisation, and the loss of that pass is tied to every parameter with no gradient at all (:class:`_Tied`). Then the
reducer sees each parameter once, with the gradients of all passes in it, and its exchange runs beside that backward.
"""

from __future__ import annotations

import contextlib
import gc
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn.parallel import DataParallel, DistributedDataParallel

from gradaug.distributed.processes import average_gradients, current, peers
from netslim.errors import InputError
from netslim.source.wrapped import shells


def network_in(model: object) -> Any:
    """What stands inside DistributedDataParallel and torch.compile; InputError for DataParallel."""
    *around, inner = shells(model)
    if any(isinstance(shell, DataParallel) for shell in around):
        raise InputError(
            "DataParallel runs copies of the network, which know nothing of sub-networks: give GradAug the network "
            "itself, or a DistributedDataParallel around it"
        )
    return inner


def exchanging(net: nn.Module) -> nn.Module:
    """`net` in a DistributedDataParallel that leaves buffers alone, where several processes have joined."""
    return net if current().size == 1 else DistributedDataParallel(net, broadcast_buffers=False)


class Reduction:
    """When and by what the gradients of a network are averaged: by a DDP around it, or by whoever calls for it."""

    def __init__(
        self, model: object, forward: Callable[..., object], run: Callable[[Tensor], object] | None = None
    ) -> None:
        """`model`, `forward`: where a DistributedDataParallel may be, alone or in other modules, as Fabric and
        torch.compile give.

        run: takes a loss's gradient, in place of ``loss.backward()``.
        """
        self.run = run or torch.Tensor.backward
        found = [module for given in (model, forward) if isinstance(given, nn.Module) for module in given.modules()]
        self.ddp = next((module for module in found if isinstance(module, DistributedDataParallel)), None)
        if self.ddp is not None and self.ddp.static_graph:
            raise InputError(
                "sub-networks change from pass to pass: build the DistributedDataParallel without static_graph "
                "(nor does it need find_unused_parameters)"
            )
        self.parameters = [] if self.ddp is None else _known(self.ddp)

    def quiet(self) -> contextlib.AbstractContextManager[object]:
        """Around a pass: it exchanges nothing of itself."""
        return contextlib.nullcontext() if self.ddp is None else self.ddp.no_sync()

    def require(self, net: nn.Module) -> None:
        """InputError where a DistributedDataParallel around `net` would not exchange, in silence.

        A network does not know who wraps it: where processes have joined, all objects of this one are looked through,
        in a fraction of a second.
        """
        if self.ddp is not None:
            if not any(module is net for module in self.ddp.modules()):
                raise InputError("the DistributedDataParallel that GradAug was given does not hold the network")
        elif current().size > 1 and _wrapped(net):
            gc.collect()  # a wrapper that nobody uses any more is none
            if _wrapped(net):
                raise InputError(
                    "the network is inside a DistributedDataParallel that GradAug does not know, which would exchange "
                    "nothing: give GradAug the wrapper, GradAug(ddp, ...), in place of the network"
                )

    def backward(self, loss: Tensor, last: bool) -> None:
        """Adds the gradients of a pass; with those of the step's `last`, DDP puts the mean over the processes there.

        A loss without gradient adds nothing; in the last pass what earlier ones left is exchanged all the same.
        """
        if self.ddp is None or not last:
            if loss.requires_grad:
                self.run(loss)
            return
        parameters = self._reduced(self.ddp)
        bare = [parameter for parameter in parameters if parameter.grad is None]
        tied: Tensor = _Tied.apply(loss, *parameters)
        looks = self.ddp.find_unused_parameters
        with peers(), _touched(bare) as touched:
            self.ddp.reducer._rebuild_buckets()
            self.ddp.reducer.prepare_for_backward([tied] if looks else [])
            self.run(tied)
            self.ddp.require_forward_param_sync = True  # the next step begins with rank 0's buffers
            if not looks:  # else DDP has done this itself
                _forget(self.ddp, parameters, {id(p) for p in bare} - touched)

    def aside(self, loss: Tensor) -> None:
        """Adds the gradients of a loss that belongs to no pass, whether those of the passes are exchanged or not."""
        if self.ddp is None:
            self.run(loss)
            return
        parameters = self._reduced(self.ddp)
        before = [parameter.grad for parameter in parameters]
        for parameter in parameters:
            parameter.grad = None
        self.run(loss)
        average_gradients(parameters, group=self.ddp.process_group)
        for parameter, gradient in zip(parameters, before, strict=True):
            if gradient is not None:
                parameter.grad = gradient if parameter.grad is None else gradient.add_(parameter.grad)

    def _reduced(self, ddp: DistributedDataParallel) -> list[nn.Parameter]:
        """The parameters whose gradients DDP exchanges; InputError where these are others than want one."""
        if ddp._join_config.enable:
            raise InputError(
                "ddp.join() follows one backward a step, and a GradAug step has several: give every process as many "
                "batches"
            )
        now = {
            id(p)
            for name, p in ddp.module.named_parameters()
            if p.requires_grad and name not in ddp.parameters_to_ignore
        }
        if now != {id(parameter) for parameter in self.parameters}:
            raise InputError(
                "parameters were frozen, freed or replaced after the DistributedDataParallel was built, which knows "
                "only those of before: build it, and GradAug, after that"
            )
        return self.parameters

    def average(self, parameters: Iterable[nn.Parameter], figures: Tensor | None = None) -> Tensor:
        """:func:`average_gradients` of those that DDP does not hold."""
        held = {id(parameter) for parameter in self.parameters}
        left = [parameter for parameter in parameters if id(parameter) not in held]
        return average_gradients(left, figures) if left or figures is not None else torch.zeros(0)


class _Tied(torch.autograd.Function):
    """A loss that hangs on `parameters` too, and has no gradient there: neither zeros to add up nor memory for them."""

    @staticmethod
    def forward(ctx: Any, loss: Tensor, *parameters: Tensor) -> Tensor:
        ctx.number = len(parameters)
        return loss.clone()

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Any:
        return (gradient, *[None] * ctx.number)


def _known(ddp: DistributedDataParallel) -> list[nn.Parameter]:
    """The parameters that the reducer was built with, as its buckets tell."""
    buckets = ddp.reducer._get_zeros_like_grad_buckets()
    return [parameter for bucket in buckets for parameter in bucket.parameters()]  # type: ignore[misc]


@contextlib.contextmanager
def _touched(parameters: Iterable[nn.Parameter]) -> Iterator[set[int]]:
    """Ids of those that a gradient reaches inside."""
    found: set[int] = set()

    def reached(parameter: Tensor) -> None:
        if parameter.grad is not None:  # torch calls this too where what arrives is no gradient
            found.add(id(parameter))

    hooks = [parameter.register_post_accumulate_grad_hook(reached) for parameter in parameters]
    try:
        yield found
    finally:
        for hook in hooks:
            hook.remove()


@torch.no_grad()
def _forget(ddp: DistributedDataParallel, parameters: list[nn.Parameter], untouched: set[int]) -> None:
    """No gradient for parameters that no pass of any process used, where DDP puts zeros: optimizers pass them by."""
    counts = torch.tensor([id(p) not in untouched for p in parameters], dtype=torch.int32, device=ddp.device)
    dist.all_reduce(counts, group=ddp.process_group)
    if untouched:
        for parameter, count in zip(parameters, counts.tolist(), strict=True):
            if count == 0:
                parameter.grad = None


def _wrapped(net: nn.Module) -> bool:
    return any(
        issubclass(type(found), DistributedDataParallel) and any(module is net for module in found.modules())
        for found in gc.get_objects()
    )
