"""Several processes as one run: who is who, the same weights everywhere, one exchange of gradients per step.

    with joined("auto") as world:                     # reads torchrun's environment; a world of one without it
        share_state(net)                              # the weights and buffers of rank 0, everywhere
        ...                                           # n backward passes, gradients add up in .grad
        sums = average_gradients(net.parameters(), figures)

Why not DistributedDataParallel: a step has 1 + n backward passes over changing parts of the network. DDP under
``no_sync`` until the last pass is exact for random width, but random depth leaves it waiting for parameters that the
last pass did not use, and ``find_unused_parameters`` then loses the gradients of earlier passes (pytorch#69031). One
flat all-reduce after all passes is exact in every mode, and the full pass touches every parameter anyway.
"""

from __future__ import annotations

import contextlib
import datetime as dt
import os
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any, TypeVar

import torch
import torch.distributed as dist
from torch import Tensor, nn

from gradaug.errors import TrainingError
from netslim.errors import NetslimError

T = TypeVar("T")

TIMEOUT = dt.timedelta(minutes=10)
"""How long a process waits for the others before the run fails."""


@dataclass(frozen=True, slots=True)
class World:
    """One process of a run; rank 0 of 1 is a run of its own."""

    rank: int = 0
    size: int = 1
    local_rank: int = 0
    """Number on its machine, which chooses its GPU."""

    @property
    def main(self) -> bool:
        """Whether it writes the files and speaks."""
        return self.rank == 0


def current() -> World:
    """This process among those that have joined."""
    if not (dist.is_available() and dist.is_initialized()):
        return World()
    return World(dist.get_rank(), dist.get_world_size(), int(os.environ.get("LOCAL_RANK", "0")))


@contextlib.contextmanager
def joined(cuda: bool) -> Iterator[World]:
    """Joins the processes that torchrun started (NCCL between GPUs, gloo between CPUs), and leaves them at the end.

    Without torchrun's environment, or where the caller has joined already, nothing happens.
    """
    started = "RANK" in os.environ and "WORLD_SIZE" in os.environ
    if not (started and dist.is_available()) or dist.is_initialized():
        yield current()
        return
    if cuda:
        torch.cuda.set_device(int(os.environ.get("LOCAL_RANK", "0")))
    store, rank, size = next(iter(dist.rendezvous("env://", timeout=TIMEOUT)))
    if os.environ.get("GROUP_WORLD_SIZE") == "1":
        # The launcher's store outlives a restart, with the addresses of processes that are gone. On one machine all
        # processes count the restarts alike.
        store = dist.PrefixStore(f"start {os.environ.get('TORCHELASTIC_RESTART_COUNT', '0')}", store)
    backend = "cpu:gloo,cuda:nccl" if cuda else "gloo"
    dist.init_process_group(backend, store=store, rank=rank, world_size=size, timeout=TIMEOUT)
    try:
        yield current()
    finally:
        dist.destroy_process_group()


def restarted() -> bool:
    """Whether torchrun has started this process again after a failure."""
    return int(os.environ.get("TORCHELASTIC_RESTART_COUNT", "0")) > 0


@torch.no_grad()
def share_state(net: nn.Module) -> None:
    """Rank 0's parameters and buffers, in every process."""
    _share([*net.parameters(), *net.buffers()])


@torch.no_grad()
def share_buffers(net: nn.Module) -> None:
    """Rank 0's buffers (running statistics), in every process."""
    _share(list(net.buffers()))


def _share(tensors: list[Tensor]) -> None:
    if current().size == 1:
        return
    for tensor in tensors:
        plain = tensor.detach().to(torch.uint8 if tensor.dtype == torch.bool else tensor.dtype).contiguous().clone()
        with _peers():
            dist.broadcast(plain, src=0)
        tensor.copy_(plain)


@torch.no_grad()
def average_gradients(parameters: Iterable[nn.Parameter], figures: Tensor | None = None) -> Tensor:
    """Puts the mean over the processes into every ``.grad``; returns `figures` (K,) summed over them.

    One all-reduce per dtype of the parameters (one, as a rule). A parameter without gradient counts as zeros where
    another process has one, and stays without where none has. With equal parts of a batch in every process the result
    is the gradient of the joined batch's mean loss.
    """
    figures = torch.zeros(0) if figures is None else figures
    world = current()
    if world.size == 1:
        return figures
    kinds: dict[tuple[torch.device, torch.dtype], list[nn.Parameter]] = {}
    for parameter in parameters:
        if parameter.requires_grad:
            kinds.setdefault((parameter.device, parameter.dtype), []).append(parameter)
    for i, group in enumerate(kinds.values()):
        like = group[0]
        head = figures.to(like) if i == 0 else figures.new_zeros(0).to(like)
        used = torch.tensor([p.grad is not None for p in group]).to(like)
        parts = [p.grad if p.grad is not None else torch.zeros_like(p) for p in group]
        flat = torch.cat([head, used, *(part.reshape(-1) for part in parts)])
        del parts
        with _peers():
            dist.all_reduce(flat)
        summed, counts, *means = flat.split([len(head), len(group), *(p.numel() for p in group)])
        for parameter, mean, count in zip(group, means, counts, strict=True):
            if parameter.grad is not None:
                parameter.grad.copy_(mean.view_as(parameter)).div_(world.size)
            elif count > 0:
                parameter.grad = (mean / world.size).view_as(parameter).clone()
        if i == 0:
            figures = summed.to(figures)
    return figures


def gathered(value: Any) -> list[Any]:
    """`value` of every process, in the order of their ranks."""
    world = current()
    if world.size == 1:
        return [value]
    values: list[Any] = [None] * world.size
    with _peers():
        dist.all_gather_object(values, value)
    return values


def from_main(call: Callable[[], T]) -> T:
    """What `call` gives in rank 0, in every process; its NetslimError is raised in every one of them."""
    world = current()
    if world.size == 1:
        return call()
    found: list[Any] = [None]
    if world.main:
        try:
            found = [call()]
        except NetslimError as error:
            found = [error]
    with _peers():
        dist.broadcast_object_list(found, src=0)
    if isinstance(found[0], NetslimError):
        raise found[0]
    return found[0]


@contextlib.contextmanager
def _peers() -> Iterator[None]:
    """An exchange that fails has lost a process."""
    try:
        yield
    except RuntimeError as error:
        reason = str(error).strip().splitlines()[0]
        raise TrainingError(
            f"another process of this run has ended or does not answer ({reason}); see its own message. Continue with "
            "--resume, or let torchrun do it with --max-restarts"
        ) from error
