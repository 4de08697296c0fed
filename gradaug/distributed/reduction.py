"""A step's gradients over the processes where DistributedDataParallel stands around the network.

    ddp = DistributedDataParallel(net)
    ga = gradaug.GradAug(ddp, mode="both")

A step has several passes over changing parts of the network, and DDP's reducer wants every parameter once. So all
passes run under ``no_sync``; the loss of the last one is tied to every parameter with no gradient at all
(:class:`_Tied`), and when its backward begins the reducer is told to begin too, as Lightning tells it in manual
optimisation. Then the reducer sees each parameter once, with the gradients of all passes in it, and its exchange runs
beside that backward.
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
from gradaug.distributed.sharding import FLATTENED, is_flattened, require_gathered
from netslim.errors import InputError
from netslim.layouts.slices import Adding, adding_in_place
from netslim.source.sharded import sharded
from netslim.source.wrapped import shells

UNKNOWN = (
    "the network is inside a DistributedDataParallel that GradAug does not know, which would exchange nothing: give "
    "GradAug the wrapper, GradAug(ddp, ...), in place of the network"
)


def network_in(model: object) -> Any:
    """What stands inside DistributedDataParallel and torch.compile; InputError for wrappers that cannot work."""
    *around, inner = shells(model)
    if is_flattened(inner):
        raise InputError(FLATTENED)
    if any(isinstance(shell, DataParallel) for shell in around):
        raise InputError(
            "DataParallel runs copies of the network, which know nothing of sub-networks: give GradAug the network "
            "itself, or a DistributedDataParallel around it"
        )
    return inner


def exchanging(net: nn.Module) -> nn.Module:
    """`net` in a DistributedDataParallel that leaves buffers alone, where several processes have joined."""
    if current().size == 1:
        return net
    with peers():
        return DistributedDataParallel(net, broadcast_buffers=False)


class Reduction:
    """When and by what the gradients of a network are averaged: by a DDP around it, or by whoever calls for it."""

    def __init__(
        self, model: object, forward: Callable[..., object], run: Callable[[Tensor], object] | None = None
    ) -> None:
        """`model`, `forward`: where a DistributedDataParallel may be, alone or in other modules, as Fabric and
        torch.compile give.

        run: takes a loss's gradient, in place of ``loss.backward()``.
        """
        self.run, self.adding = run or torch.Tensor.backward, Adding()
        found = [module for given in (model, forward) if isinstance(given, nn.Module) for module in given.modules()]
        self.ddp = next((module for module in found if isinstance(module, DistributedDataParallel)), None)
        if self.ddp is not None and self.ddp.static_graph:
            raise InputError(
                "sub-networks change from pass to pass: build the DistributedDataParallel without static_graph "
                "(nor does it need find_unused_parameters)"
            )
        self.parameters = [] if self.ddp is None else _known(self.ddp)
        self._before: Exchange | None = None
        self._required = False

    def quiet(self) -> contextlib.AbstractContextManager[object]:
        """Around a pass: it exchanges nothing of itself."""
        return contextlib.nullcontext() if self.ddp is None else self.ddp.no_sync()

    def adding_in_place(self, net: nn.Module) -> contextlib.AbstractContextManager[None]:
        """Around passes with their :meth:`backward`: gradients of parts of weights are added where they belong.

        Not where another takes them, who may want to see each, nor where they are to be spread over processes.
        """
        own = self.run is torch.Tensor.backward and not sharded(net.modules())
        return adding_in_place(self.adding) if own else contextlib.nullcontext()

    def require(self, net: nn.Module, called: object) -> None:
        """InputError where a DistributedDataParallel around `net` would not exchange, in silence.

        A network does not know who wraps it: where processes have joined, all objects of this one are looked through,
        in a fraction of a second. InputError also for a sharded network that running `called` does not gather.
        """
        require_gathered(net, called)
        if self.ddp is not None:
            if not any(module is net for module in self.ddp.modules()):
                raise InputError("the DistributedDataParallel that GradAug was given does not hold the network")
        elif current().size > 1 and any(_around(net)):
            gc.collect()  # a wrapper that nobody uses any more is none
            for wrapper in _around(net):
                raise InputError(FLATTENED if is_flattened(wrapper) else UNKNOWN)

    def require_once(self, net: nn.Module, called: object) -> None:
        """:meth:`require` before the first step: a wrapper may have come after this object."""
        if not self._required:
            self.require(net, called)
            self._required = True

    def backward(self, loss: Tensor, last: bool) -> None:
        """Adds the gradients of a pass; with those of the step's `last`, DDP puts the mean over the processes there.

        A loss without gradient adds nothing; in the last pass what earlier ones left is exchanged all the same.
        """
        if self.ddp is None or not last:
            if loss.requires_grad:
                self.run(loss)
            return
        self.adding.on = False  # DDP waits for every parameter's gradient
        with peers():
            self.run(self._exchange(self.ddp).last(loss))

    def tied(self, ends: bool) -> Callable[[Tensor, bool], Tensor]:
        """What makes losses (loss, whether it is the last) such that DDP exchanges what a loop adds up of them.

        Where DDP has been told to wait (``no_sync``), or these losses end no step (`ends`), they stay as they are.
        """
        if not ends or self.ddp is None or not self.ddp.require_backward_grad_sync:
            return lambda loss, _: loss
        exchange = self._exchange(self.ddp)
        return lambda loss, last: exchange.last(loss) if last else exchange.earlier(loss)

    def _exchange(self, ddp: DistributedDataParallel) -> Exchange:
        if self._before is not None and self._before.taken and not self._before.over:
            self._before = None
            raise InputError(
                "the gradients of the step before were not exchanged, as that of its last loss was not taken: ask "
                "losses() for all of them, and take the gradient of each"
            )
        self._before = Exchange(ddp, self._reduced(ddp))
        return self._before

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


class Exchange:
    """One of a step's gradients, by DDP's reducer, in whatever backward the step's last loss has a part."""

    def __init__(self, ddp: DistributedDataParallel, parameters: list[nn.Parameter]) -> None:
        self.ddp, self.parameters = ddp, parameters
        self.taken = self.over = False
        """Whether a gradient was taken, and whether that of the last loss was."""

    def earlier(self, loss: Tensor) -> Tensor:
        """A loss that is not the last: its gradient is to be taken before that one's, or together with it."""
        if loss.requires_grad:
            loss.register_hook(self._require)
        return loss

    def last(self, loss: Tensor) -> Tensor:
        """The last loss, such that the reducer begins when its gradient is taken."""
        tied: Tensor = _Tied.apply(loss, self._begin, *self.parameters)
        return tied

    def _require(self, _: Tensor) -> None:
        if self.over:
            raise InputError(
                "the gradient of the step's last loss was taken before that of another one, and with it the "
                "gradients were exchanged: take them in the order in which losses() gives them, or of their sum"
            )
        self.taken = True

    def _begin(self) -> None:
        """In a backward, before any parameter has its gradient: each waits for all that hangs on it."""
        looks = self.ddp.find_unused_parameters
        with torch.enable_grad():
            outputs = [_Tied.apply(torch.zeros(()), None, *self.parameters)] if looks else []
        self.ddp.reducer._rebuild_buckets()
        self.ddp.reducer.prepare_for_backward(outputs)
        _afterwards(self._reached)

    def _reached(self) -> None:
        """All gradients are there, of this process; DDP has still to put the means in their places."""
        bare = {id(parameter) for parameter in self.parameters if parameter.grad is None}
        _afterwards(lambda: self._end(bare))

    def _end(self, bare: set[int]) -> None:
        self.over = True
        self.ddp.require_forward_param_sync = True  # the next step begins with rank 0's buffers
        if not self.ddp.find_unused_parameters:  # else DDP has done this itself
            _forget(self.ddp, self.parameters, bare)


class _Tied(torch.autograd.Function):
    """A loss that hangs on `parameters` too, and has no gradient there: neither zeros to add up nor memory for them.

    begin: called when its backward begins.
    """

    @staticmethod
    def forward(ctx: Any, loss: Tensor, begin: Callable[[], None] | None, *parameters: Tensor) -> Tensor:
        ctx.number, ctx.begin = len(parameters), begin
        return loss.clone()

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Any:
        if ctx.begin is not None:
            ctx.begin()
        return (gradient, None, *[None] * ctx.number)


def _afterwards(work: Callable[[], None]) -> None:
    """Called at the end of the backward that runs, after what is to be called there already."""
    torch.autograd.Variable._execution_engine.queue_callback(work)


def _known(ddp: DistributedDataParallel) -> list[nn.Parameter]:
    """The parameters that the reducer was built with, as its buckets tell."""
    buckets = ddp.reducer._get_zeros_like_grad_buckets()
    return [parameter for bucket in buckets for parameter in bucket.parameters()]  # type: ignore[misc]


@torch.no_grad()
def _forget(ddp: DistributedDataParallel, parameters: list[nn.Parameter], untouched: set[int]) -> None:
    """No gradient for parameters that no pass of any process used, where DDP puts zeros: optimizers pass them by."""
    counts = torch.tensor([id(p) not in untouched for p in parameters], dtype=torch.int32, device=ddp.device)
    dist.all_reduce(counts, group=ddp.process_group)
    if untouched:
        for parameter, count in zip(parameters, counts.tolist(), strict=True):
            if count == 0:
                parameter.grad = None


def _around(net: nn.Module) -> Iterator[nn.Module]:
    """Wrappers that would exchange nothing, if the network is called in their place."""
    for found in gc.get_objects():
        # one whose exchange somebody has taken over, as `one_exchange` does, is right
        exchanges = issubclass(type(found), DistributedDataParallel) and found.require_backward_grad_sync
        if (exchanges or is_flattened(found)) and any(module is net for module in found.modules()):
            yield found
